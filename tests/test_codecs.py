"""Codecs: every 8-bit image survives its state, and the codec's own statements hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gcdiff import config as configs
from gcdiff.codecs import CODECS, Pixels
from gcdiff.types import ChannelGroup, ImageSpec
from gcdiff.worlds.streets.appearance import LABELS

SPEC = ImageSpec((ChannelGroup("rgb", 2), ChannelGroup("depth", 1, weight=0.5, display="grey")))


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_gives_images_back_and_keeps_its_word(name):
    codec = CODECS[name](SPEC)
    images = np.arange(256, dtype=np.uint8).repeat(6).reshape(2, 16, 16, 3)
    images = np.random.default_rng(0).permuted(images, axis=None)
    states = codec.encode(images)
    assert states.shape[1:] == codec.shape((16, 16)) and states.dtype == np.float32
    np.testing.assert_array_equal(codec.decode(states), images)
    if codec.bounded:
        assert np.abs(states).max() <= 1
    assert 0.5 < states.std() / codec.std < 2
    assert codec.weights.shape == states.shape[-1:] and hash(codec) == hash(CODECS[name](SPEC))


def test_channel_groups_weigh_in_the_loss():
    np.testing.assert_array_equal(CODECS["pixels"](SPEC).weights, [1, 1, 0.5])


def test_the_image_process_has_the_std_of_the_codec(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Wide(Pixels):
        std = 2.0

    monkeypatch.setitem(CODECS, "wide", Wide)
    for name, std in (("pixels", 0.5), ("wide", 2.0)):
        config = configs.default()
        config.data.codec, config.text.encoder = name, "none"
        assert configs.build(config, configs.Specs(SPEC, LABELS, None, "")).process.image.std == std


def test_an_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="config.data.codec is 'jpeg', expected one of"):
        configs.with_fields(configs.default(), {"data.codec": "jpeg"})
