"""A trained model as a few plain methods: NumPy arrays in, NumPy arrays out.

model = gcdiff.load("runs/demo")
pair = model.sample("a foggy street with two red cars", num=4)
layouts = model.segment(images)
images = model.synthesize(layouts, text="a nighttime street")
pair = model.outpaint(pair, known)
pair = model.sample("a foggy street", upsample="runs/streets_sr")
"""

from gcdiff.api.model import Model, load

__all__ = ["Model", "load"]
