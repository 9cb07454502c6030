"""What a layout is worth: each confidence gives the exact conditional of its own statement, and void says nothing.

In the world of exact_world the grey value given a statement about the two labels is enumerated; the sampler must
draw that law, up to the error of its steps and the noise of its draws.
"""

from __future__ import annotations

import numpy as np
import pytest
from exact_world import CONFIGS, EDGES, GRID, MEANS, NUM, PRIOR, PROCESS, TAU, K, Steps

from gcdiff import paths
from gcdiff.api.evidence import layout_caps, regions
from gcdiff.samplers.sample import capped, example_keys
from gcdiff.samplers.walk import run
from gcdiff.types import VOID, Condition, Pair

pytestmark = pytest.mark.usefixtures("optimised")
LABELS = np.array([1, 0])
KEEP = 0.55
LEVEL = float(PROCESS.layout.schedule.level(KEEP))
STEPS = Steps()


def given_likelihood(likelihood):
    """The law of the value, in bins, given the likelihood (4,) of each pair of labels."""
    weight = PRIOR * likelihood
    dense = (weight * np.exp(-0.5 * ((GRID[:, None] - MEANS) / TAU) ** 2)).sum(1)
    return np.array([part.sum() for part in np.split(dense, np.searchsorted(GRID, EDGES))]) / dense.sum()


def seen(labels, keep=KEEP):
    """q(labels at keep | clean) for every clean pair."""
    return np.prod(np.where(labels == CONFIGS, keep, 0.0) + (1 - keep) / K, axis=1)


def drawn(caps, labels=LABELS, fed=False, steps=STEPS):
    """The share of drawn values in each bin."""
    layout = np.broadcast_to(np.asarray(labels, np.int32), (NUM, 1, 2))
    values = Pair(np.zeros((NUM, 1, 1, 1), np.float32), layout)
    levels = Pair(np.ones((NUM, 1, 1)), np.broadcast_to(caps, (NUM, 1, 2)))
    given = capped(example_keys(1, np.arange(NUM)), values, levels, fed)
    state = run(steps.sampler(), None, paths.image_only(150), given, Condition(), steps.settings())
    image = np.asarray(state.image)[:, 0, 0, 0]
    return np.bincount(np.searchsorted(EDGES, image), minlength=len(EDGES) + 1) / NUM


def far(a, b):
    return 0.5 * np.abs(a - b).sum()


CERTAIN = given_likelihood((LABELS == CONFIGS).all(1))
NOTHING = given_likelihood(np.ones(4))
EVIDENCE = given_likelihood(seen(LABELS))
DIAL = sum(p * given_likelihood(seen(noisy)) for noisy, p in ((c, seen(LABELS)[i]) for i, c in enumerate(CONFIGS)))


# Each label is known with probability KEEP, or nothing is known of it.
ERASED = sum(
    np.prod(np.where(kept, KEEP, 1 - KEEP)) * given_likelihood(np.prod(np.where(kept, LABELS == CONFIGS, 1.0), axis=1))
    for kept in CONFIGS.astype(bool)
)


def test_the_statements_differ():
    laws = [CERTAIN, NOTHING, EVIDENCE, DIAL, ERASED, KEEP * CERTAIN + (1 - KEEP) * NOTHING]
    assert min(far(a, b) for i, a in enumerate(laws) for b in laws[:i]) > 0.04


@pytest.mark.slow
def test_confidence_is_drawn_once_and_held():
    assert far(drawn(LEVEL), DIAL) < 0.02


def test_evidence_is_taken_as_it_is():
    assert far(drawn(LEVEL, fed=True), EVIDENCE) < 0.02


@pytest.mark.slow
def test_a_region_is_kept_or_forgotten_as_a_whole():
    layouts = np.broadcast_to(LABELS.astype(np.int32), (NUM, 1, 2))
    caps = layout_caps(layouts, PROCESS.layout.schedule, None, KEEP, 3, K)
    assert set(np.unique(caps)) == {0.0, 1.0}
    assert far(drawn(caps), ERASED) < 0.02  # each label is a region of its own here


@pytest.mark.slow
def test_with_absorbing_noise_a_confidence_is_drawn_as_an_erasure():
    """A label that is seen is certain at every level; what is drawn once and held is which ones are seen."""
    absorbing = Steps(absorbs=True)
    assert far(drawn(LEVEL, steps=absorbing), ERASED) < 0.02
    assert far(drawn(0.0, steps=absorbing), CERTAIN) < 0.02
    assert far(drawn(0.0, labels=[VOID, VOID], steps=absorbing), NOTHING) < 0.02


@pytest.mark.slow
def test_void_says_nothing():
    assert far(drawn(1.0), NOTHING) < 0.02
    assert far(drawn(0.0, labels=[VOID, VOID]), NOTHING) < 0.02


def test_regions_are_areas_of_one_class():
    layout = np.array([[0, 0, 1], [2, 1, 1], [2, 0, VOID]])
    areas = regions(layout)
    assert sorted(area.sum() for area in areas) == [1, 2, 2, 3]
    assert sum(area.astype(int) for area in areas).max() == 1 and not any(area[2, 2] for area in areas)


def test_coins_of_an_example_are_its_own():
    layouts = np.random.default_rng(0).integers(0, 4, (6, 8, 8)).astype(np.int32)
    caps = layout_caps(layouts, PROCESS.layout.schedule, None, [0.0, 1.0, 0.5, 0.5], 7, 4)
    np.testing.assert_array_equal(
        caps[0], layout_caps(layouts[:1], PROCESS.layout.schedule, None, [0, 1, 0.5, 0.5], 7, 4)[0]
    )
    assert (caps[layouts == 0] == 1).all() and (caps[layouts == 1] == 0).all()
    share = caps[layouts >= 2].mean()
    assert 0.2 < share < 0.8
