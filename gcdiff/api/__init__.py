"""The Python API: a trained model as methods that take and return NumPy arrays.

    >>> model = gcdiff.load("runs/demo")
    >>> pair = model.sample("a foggy street with two red cars", num=4)
    >>> layouts = model.segment(pair.image)
    >>> images = model.synthesize(layouts, text="a nighttime street")
    >>> left = np.broadcast_to(np.arange(64) < 32, layouts.shape)  # the known half of each pair
    >>> pair = model.outpaint(pair, known=gcdiff.Pair(left, left))
    >>> model.sample("a foggy street", upsample="runs/streets_sr").image.shape
    (1, 64, 128, 3)

The examples in the docstrings share a few names: `model` is that of the demo, for pairs of 32x64 pixels; `stage` a
super-resolution stage to 64x128; `images` are uint8 (2, 32, 64, 3) and `layouts` int32 (2, 32, 64). The tests run them.
"""

from gcdiff.api.model import Model, load

__all__ = ["Model", "load"]
