"""Joint model of a folder of your own, 64x64: any number of classes, any side of an example may be missing.

    gcdiff prepare folder --source mine --out prepared/mine --size 72 72
    gcdiff train --config configs/folder.py --workdir runs/mine --config.data.root=prepared/mine

For a GPU; 9 million parameters; not trained here. Prepared a little larger than 64x64 the pictures leave room for
crops. Captions are read by a small encoder that is trained along, where there are any; otherwise the model has no text.
--config.text.encoder=pretrained with gcdiff embed. --config.data.flip=False where left and right are not alike and
labels.json names no swaps.
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "folder"
    c.data.update(name="prepared", root="prepared/mine", size=(64, 64), heldout=64, flip=True, scale=(0.8, 1.0))
    c.process.output = "x0"  # with a pixel-unshuffle stem v is learned slowly
    c.network.update(
        dim=96,
        mults=(1, 2, 2),
        blocks=(1, 1, 2),
        attention=(False, False, True),
        cross_attention=(False, False, True),
        stem=2,
        final_dim=32,
        dropout=0.1,
    )
    c.loss.update(image=2.0, image_weight="capped")
    c.optim.learning_rate = 5e-4
    c.train.update(steps=50_000, batch_size=32, evaluate_every=1000, sample_every=5000, checkpoint_every=1000)
    c.sample.update(steps=50, image_step="ancestral", guidance=(1.0, 2.0))
    return c
