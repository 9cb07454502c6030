"""Joint model of procedural street scenes, 32x64, 10 classes, captions: the demo.

make demo                                                              # about 10 minutes on two CPU cores
gcdiff train --config configs/streets.py --workdir runs/streets        # the same training alone
"""

from gcdiff.config import default


def get_config():
    c = default()
    c.name = "streets"
    c.data.update(name="streets", size=(32, 64), num=1_000_000, heldout=64)
    c.network.update(
        dim=128,
        mults=(1, 2),
        blocks=(1, 1),
        attention=(False, True),
        cross_attention=(False, True),
        heads=4,
        head_dim=32,
        stem=4,
        final_dim=32,
    )
    c.text.update(length=32)
    c.optim.update(learning_rate=1e-3)
    c.train.update(steps=1200, batch_size=16)
    return c
