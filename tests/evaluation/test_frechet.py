"""The Fréchet distance of Gaussians whose optimal transport is known, and of scenes with one thing changed."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.data.synthetic.streets import Streets
from gcdiff.data.synthetic.streets_appearance import LABELS, LIGHT_WEATHER, SURFACE_ID, render
from gcdiff.data.synthetic.streets_oracle import Oracle
from gcdiff.evaluation.frechet import PARAMETERS, frechet_score, scene_parameters
from gcdiff.evaluation.moments import frechet_distance

RNG = np.random.default_rng(0)
NAMES = list(PARAMETERS)


@pytest.fixture(scope="module")
def streets():
    data = Streets("heldout", 48, seed=1)
    return [data.street(i) for i in range(48)]


def parameters(images, layouts):
    images, layouts = np.stack(images), np.stack(layouts)
    return scene_parameters(images, layouts, Oracle().read(images))


@pytest.fixture(scope="module")
def real(streets):
    return parameters([s.example.image for s in streets], [s.example.layout for s in streets])


def symmetric(size, power=1.0):
    """A random symmetric positive matrix to a power, and the matrix itself."""
    vectors = np.linalg.qr(RNG.normal(size=(size, size)))[0]
    values = RNG.uniform(0.1, 3.0, size)
    return vectors * values**power @ vectors.T, vectors * values @ vectors.T


@pytest.mark.parametrize("size", [1, 3, 12])
def test_the_distance_is_the_cost_of_the_optimal_map(size):
    """x -> A x + b with A symmetric and positive is the gradient of a convex function: no map is cheaper (Brenier), so
    that d^2 = E |A x + b - x|^2, whether A and the covariance commute or not."""
    root, cov = symmetric(size, 0.5)
    a, _ = symmetric(size)
    b, change = RNG.normal(size=size), a - np.eye(size)
    cost = b @ b + np.trace(change @ cov @ change)
    assert frechet_distance(b, a @ cov @ a, root) == pytest.approx(cost, rel=1e-9)
    assert frechet_distance(0 * b, cov, root) == pytest.approx(0, abs=1e-9)


def test_flat_gaussians_have_a_distance():
    flat = np.diag([4.0, 0.0])
    assert frechet_distance(np.zeros(2), np.diag([1.0, 0.0]), np.sqrt(flat)) == pytest.approx(1)
    assert frechet_distance(np.zeros(2), np.diag([0.0, 1.0]), np.sqrt(flat)) == pytest.approx(5)


def test_units_do_not_matter():
    rng = np.random.default_rng(1)
    reference, other = rng.normal(size=(500, 3)), rng.normal(0.2, 1.3, (200, 3))
    first = frechet_score(other, reference, 0, samples=20)
    second = frechet_score(1000 * other + 7, 1000 * reference + 7, 0, samples=20)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    stretched = np.array([1.0, 5.0, 0.1])
    np.testing.assert_allclose(first, frechet_score(other * stretched, reference * stretched, 0, samples=20), rtol=1e-6)


def test_real_scenes_come_nearer_as_they_grow_in_number():
    """The floor is of the order of one over the number of scenes."""
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(20_000, 6))
    floors = [
        np.mean([frechet_score(rng.normal(size=(n, 6)), reference, 0, samples=2).value for _ in range(60)])
        for n in (50, 200)
    ]
    assert floors[0] / floors[1] == pytest.approx(4, rel=0.25)


def test_the_interval_is_that_of_other_sets_of_scenes():
    """It covers the mean distance of sets of this size as often as it says, and is little wider than they spread."""
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(20_000, 10))
    scores = [frechet_score(rng.normal(0.3, 1.3, (60, 10)), reference, i, samples=100) for i in range(100)]
    values = np.array([s.value for s in scores])
    covered = np.mean([s.low <= values.mean() <= s.high for s in scores])
    assert covered >= 0.92
    assert 0.9 < np.mean([s.high - s.low for s in scores]) / (4 * values.std()) < 1.4


def test_parameters_of_a_scene_that_is_counted_by_hand():
    surfaces = np.full((32, 64), SURFACE_ID["road"])
    surfaces[:8] = SURFACE_ID["sky"]
    surfaces[20:24, 4:10] = surfaces[20:24, 30:36] = SURFACE_ID["red"]
    surfaces[28, 60] = SURFACE_ID["person"]  # one pixel is no piece
    night = int(np.flatnonzero(LIGHT_WEATHER == 1)[0])
    image = render(surfaces, night, RNG)
    layout = np.where(surfaces == SURFACE_ID["sky"], 0, LABELS.names.index("road"))
    found = dict(zip(NAMES, parameters([image], [layout])[0], strict=True))
    assert (found["share of sky"], found["share of road"], found["share of car"]) == (0.25, 0.75, 0)  # the layout's
    assert (found["pieces of car"], found["pieces of person"], found["pieces of bus"]) == (2, 0, 0)  # the image's
    assert (found["night"], found["fog"]) == (1, 0)
    assert found["blue of sky"] == pytest.approx(image[:8, :, 2].mean() / 255)
    assert found["green of road"] == pytest.approx(image[8:, :, 1].mean() / 255)


def test_a_colour_is_the_whole_images_where_its_class_is_missing():
    image = RNG.integers(0, 256, (32, 64, 3), np.uint8)
    found = parameters([image], [np.full((32, 64), LABELS.names.index("bus"))])[0]
    np.testing.assert_allclose(found[-6:], np.tile(image.reshape(-1, 3).mean(0) / 255, 2))


def test_a_new_light_changes_weather_and_colours_alone(streets, real):
    images = [render(s.scene.surfaces, (s.light + 31) % 63, np.random.default_rng(i)) for i, s in enumerate(streets)]
    relit = parameters(images, [s.example.layout for s in streets])
    light = NAMES.index("night")
    np.testing.assert_array_equal(relit[:, :10], real[:, :10])
    assert (relit[:, 10:light] == real[:, 10:light]).mean() > 0.99
    assert (np.abs(relit[:, light:] - real[:, light:]).max(axis=1) > 0.02).all()


def test_what_is_wrong_with_scenes_moves_them_away(streets, real):
    """Against the real scenes themselves: every damage counts, and twice the damage counts more."""

    def distance(images, layouts):
        return frechet_score(parameters(images, layouts), real, 0, samples=2).value

    images, layouts = [s.example.image for s in streets], [s.example.layout for s in streets]
    assert frechet_score(real, real, 0, samples=2).value == pytest.approx(0, abs=1e-6)
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


def test_bad_input(real):
    images = np.full((2, 32, 64, 3), 128, np.uint8)
    reading = Oracle().read(images)
    with pytest.raises(ValueError, match=r"shapes \(2, 32, 64, 3\), \(1, 32, 64\)"):
        scene_parameters(images, np.zeros((1, 32, 64), int), reading)
    with pytest.raises(ValueError, match="1 scenes against 48"):
        frechet_score(real[:1], real, 0)
    still = real.copy()
    still[:, 3] = 0.5
    with pytest.raises(ValueError, match="parameter 3 of 48 reference scenes does not vary"):
        frechet_score(real, still, 0)
