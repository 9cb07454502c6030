"""The parameters of street scenes, and the Fréchet distance of scenes with one thing changed."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.evaluation.moments import frechet, grouped_moments
from gcdiff.worlds.streets.appearance import LABELS, LIGHT_WEATHER, SURFACE_ID, render
from gcdiff.worlds.streets.data import Streets
from gcdiff.worlds.streets.oracle import Oracle
from gcdiff.worlds.streets.scores import PARAMETERS, scene_parameters

RNG = np.random.default_rng(0)
NAMES = list(PARAMETERS)


@pytest.fixture(scope="module")
def streets():
    data = Streets("heldout", 48, seed=1)
    return [data.truth(i) for i in range(48)]


def parameters(images, layouts):
    images, layouts = np.stack(images), np.stack(layouts)
    return scene_parameters(images, layouts, Oracle().read(images))


@pytest.fixture(scope="module")
def real(streets):
    return parameters([s.example.image for s in streets], [s.example.layout for s in streets])


def test_parameters_of_a_scene_that_is_counted_by_hand():
    surfaces = np.full((32, 64), SURFACE_ID["road"])
    surfaces[:8] = SURFACE_ID["sky"]
    surfaces[20:24, 4:10] = surfaces[20:24, 30:36] = SURFACE_ID["red"]
    surfaces[28, 60] = SURFACE_ID["person"]  # one pixel is no piece
    night = int(np.flatnonzero(LIGHT_WEATHER == 1)[0])
    image = render(surfaces, night, RNG)
    layout = np.where(surfaces == SURFACE_ID["sky"], 0, LABELS.names.index("road"))
    values = dict(zip(NAMES, parameters([image], [layout])[0], strict=True))
    assert (values["share of sky"], values["share of road"], values["share of car"]) == (0.25, 0.75, 0)  # the layout's
    assert (values["pieces of car"], values["pieces of person"], values["pieces of bus"]) == (2, 0, 0)  # the image's
    assert (values["night"], values["fog"]) == (1, 0)
    assert values["blue of sky"] == pytest.approx(image[:8, :, 2].mean() / 255)
    assert values["green of road"] == pytest.approx(image[8:, :, 1].mean() / 255)


def test_a_colour_is_the_whole_images_where_its_class_is_missing():
    image = RNG.integers(0, 256, (32, 64, 3), np.uint8)
    values = parameters([image], [np.full((32, 64), LABELS.names.index("bus"))])[0]
    np.testing.assert_allclose(values[-6:], np.tile(image.reshape(-1, 3).mean(0) / 255, 2))


def test_a_new_light_changes_weather_and_colours_alone(streets, real):
    images = [render(s.scene.surfaces, (s.light + 31) % 63, np.random.default_rng(i)) for i, s in enumerate(streets)]
    relit = parameters(images, [s.example.layout for s in streets])
    light = NAMES.index("night")
    np.testing.assert_array_equal(relit[:, :10], real[:, :10])
    assert (relit[:, 10:light] == real[:, 10:light]).mean() > 0.99
    assert (np.abs(relit[:, light:] - real[:, light:]).max(axis=1) > 0.02).all()


@pytest.mark.slow
def test_what_is_wrong_with_scenes_moves_them_away(streets, real):
    """Against the real scenes themselves: every damage counts, and twice the damage counts more."""

    def moments(values):
        return grouped_moments(np.arange(len(values)), values, {})

    def distance(images, layouts):
        return frechet(moments(parameters(images, layouts)), moments(real), standardised=True).value

    images, layouts = [s.example.image for s in streets], [s.example.layout for s in streets]
    assert distance(images, layouts) == pytest.approx(0, abs=1e-6)
    darker = [
        distance([np.clip(x.astype(int) - by, 0, 255).astype(np.uint8) for x in images], layouts) for by in (9, 18)
    ]
    assert 0.1 < darker[0] < darker[1]
    fewer = []
    for classes in (("car",), ("car", "pole")):
        gone = np.isin(np.stack(layouts), [LABELS.names.index(name) for name in classes])
        repaved = [np.where(g, SURFACE_ID["road"], s.scene.surfaces) for s, g in zip(streets, gone, strict=True)]
        drawn = [
            render(p, s.light, np.random.default_rng(i)) for i, (s, p) in enumerate(zip(streets, repaved, strict=True))
        ]
        fewer.append(distance(drawn, np.where(gone, LABELS.names.index("road"), layouts)))
    assert 0.5 < fewer[0] < fewer[1]
    strangers = distance(images, np.roll(layouts, 1, axis=0))
    assert strangers > 0.5


def test_bad_input():
    images = np.full((2, 32, 64, 3), 128, np.uint8)
    reading = Oracle().read(images)
    with pytest.raises(ValueError, match=r"shapes \(2, 32, 64, 3\), \(1, 32, 64\)"):
        scene_parameters(images, np.zeros((1, 32, 64), int), reading)
