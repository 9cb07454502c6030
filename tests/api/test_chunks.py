"""The chunk that examples are drawn in changes nothing, with networks of both kinds compiled as users compile them."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_models import random_model

import gcdiff
from gcdiff import config as configs
from gcdiff import shipped

CONFIG = Path(__file__).parents[2] / "configs" / "streets_unet.py"
MODELS = {
    "unet": lambda: random_model(configs.load_file(str(CONFIG))),
    "transformer": lambda: gcdiff.load(shipped.HOME / "streets"),
}
TEXT = "a foggy street with one red car"
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (14, 32, 64, 3)).astype(np.uint8)
LAYOUTS = RNG.integers(0, 10, (14, 32, 64)).astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_chunks_of_4_8_and_16_agree_bit_for_bit_and_a_chunk_of_1_nearly(optimised, kind):
    model = MODELS[kind]()
    assert model.config.network.kind == kind

    def answers(chunk, num=14):
        m = model.sampling(chunk=chunk, steps=3)
        pair = m.sample(TEXT, num=num, guidance=2.0, seed=3)
        shares = m.segment(IMAGES[:num], probabilities=True)
        return pair.image, pair.layout, m.synthesize(LAYOUTS[:num], TEXT), shares

    fours = answers(4)
    for chunk in (8, 16):
        jax.tree.map(np.testing.assert_array_equal, answers(chunk), fours)
    # What a chunk of 1 promises is not bits: docs/levels.md.
    *drawn, shares = answers(1, 2)
    np.testing.assert_allclose(shares, fours[-1][:2], rtol=0, atol=1e-5)
    for one, four in zip(drawn, fours, strict=False):
        assert (one != four[:2]).mean() < 0.01
