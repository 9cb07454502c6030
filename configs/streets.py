"""Joint model of procedural street scenes, 32x64, 10 classes, captions: the demo.

make demo                                                              # this training, and what comes of it
gcdiff train --config configs/streets.py --workdir runs/streets        # the same training alone
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "streets"
    c.data.update(name="streets", size=(32, 64), num=1_000_000, heldout=64)
    # This recipe: experiments/recipe. At one level the image is more hidden than the layout: colours are decided, with
    # the help of the text, when it is clear what they belong to.
    c.process.update(output="skip", image_shift=-2.5, layout_shift=-1.0)
    c.network.update(kind="transformer", dim=128, depth=6, heads=4, patch=4, embedding=1, label_features=16)
    c.loss.update(image=6.0, image_weight="capped", rarity=0.5)
    c.levels.update(joint=0.35, image_given_layout=0.25, layout=0.15, layout_given_image=0.1, image=0.05)
    c.levels.update(independent=0.1, one_call=1 / 3, start=0.03, one_sided=0.0, known=0.25)
    c.text.layers = 0  # words as they are: layers that mix them learn what a colour is several times more slowly
    c.text.drop = 0.1
    c.optim.update(kind="muon", learning_rate=2e-3, muon_rate=2.0, warmup=50)
    c.train.update(steps=1275, batch_size=8, evaluate_every=500, sample_every=-1, checkpoint_every=500)
    c.sample.update(steps=25, image_step="ancestral", layout_step="psi", psi=16.0, guidance=(2.0, 2.0))
    return c
