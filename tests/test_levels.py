"""The levels drawn in training cover every question, in the shares asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from gcdiff.config import default
from gcdiff.levels import LevelShares, draw, random_region, table, trained
from gcdiff.types import VOID

N, H, W = 4000, 8, 12
LAYOUT = np.random.default_rng(0).integers(0, 4, (N, H, W)).astype(np.int32)
LAYOUT[:, :2] = VOID
SHARED = jax.jit(lambda key: draw(key, LevelShares.shared(), LAYOUT[:64], (H, W)))


@pytest.fixture(scope="module")
def drawn():
    shares = LevelShares(known=0.0, pieces=0.0, one_sided=0.0)
    return jax.tree.map(np.asarray, jax.jit(lambda k: draw(k, shares, LAYOUT, (H, W)))(jax.random.key(0)))


def test_base_pairs_come_in_their_shares(drawn):
    x, y = drawn.levels.image[:, 5, 5], drawn.levels.layout[:, 5, 5]
    inside = (x > 0) & (x < 1)
    for chosen, share in (
        (inside & (x == y), 0.97 * 0.3),
        (inside & (y == 0), 0.97 * 0.15),
        ((x == 1) & (y < 1), 0.97 * 0.15),
        ((x == 0), 0.97 * 0.14),
        ((x == 0) & (y == 1), 0.97 * 0.07),
        (inside & (y == 1), 0.97 * 0.15),
        (inside & (x != y) & (y > 0) & (y < 1), 0.97 * 0.11),
        ((x == 1) & (y == 1), 0.03),
    ):
        assert chosen.mean() == pytest.approx(share, abs=0.02)


def test_spacing_draws_images_alone_nearer_to_level_zero(drawn):
    """(t, 0) and (t, 1) become (t^2, 0) and (t^2, 1); every other draw stays."""
    shares = LevelShares(known=0.0, pieces=0.0, one_sided=0.0, spacing=2.0)
    spaced = jax.tree.map(np.asarray, jax.jit(lambda k: draw(k, shares, LAYOUT, (H, W)))(jax.random.key(0)))
    x, y = drawn.levels.image, drawn.levels.layout
    alone = (x > 0) & (x < 1) & ((y[:, 5:6, 5:6] == 0) | (y[:, 5:6, 5:6] == 1))
    assert 0.2 < alone.mean() < 0.4
    np.testing.assert_allclose(spaced.levels.image, np.where(alone, x**2, x), rtol=1e-6)
    np.testing.assert_array_equal(spaced.levels.layout, y)


def test_levels_are_constant_over_an_example_without_regions(drawn):
    assert np.all(drawn.levels.image == drawn.levels.image[:, :1, :1])


def test_void_is_at_level_one_and_never_known(drawn):
    assert np.all(drawn.levels.layout[:, :2] == 1) and not np.any(drawn.known.layout[:, :2])


def test_given_pixels_are_those_at_level_zero():
    shares = LevelShares(known=0.9, pieces=0.5)
    out = jax.tree.map(np.asarray, jax.jit(lambda k: draw(k, shares, LAYOUT[:500], (H, W)))(jax.random.key(1)))
    for side in (0, 1):
        np.testing.assert_array_equal(out.known[side], out.levels[side] == 0)
        share = out.known[side].any(axis=(1, 2)) & ~out.known[side].all(axis=(1, 2))
        assert 0.3 < share.mean() < 0.95
    piece = np.array([len(np.unique(y[2:][y[2:] > 0])) > 1 for y in out.levels.layout])
    assert piece.mean() > 0.1


JOINT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # the shares of the questions, and of one call
TOLD = np.maximum(LAYOUT[:1000], 0)  # without void


def drawn_with(*shares):
    drawn = jax.jit(lambda key: draw(key, LevelShares(*shares), TOLD, (H, W)))
    return jax.tree.map(np.asarray, drawn(jax.random.key(6)))


def test_known_regions_are_in_either_modality_alone_and_in_both_alike_or_not():
    """A quarter each, as often as asked for; a region may be empty."""
    image, layout = drawn_with(*JOINT, 0.6, 0.0).known
    in_image, in_layout = image.any(axis=(1, 2)), layout.any(axis=(1, 2))
    alike = (image == layout).all(axis=(1, 2))
    both = in_image & in_layout
    for kind in (in_image & ~in_layout, in_layout & ~in_image, both & alike, both & ~alike):
        assert 0.18 < kind.mean() / 0.6 < 0.32
    assert 0.5 < (in_image | in_layout).mean() < 0.65


def test_a_piece_of_a_layout_has_one_level_of_its_own():
    """One, uniform, whatever the example's."""
    image, layout = drawn_with(*JOINT, 0.0, 1.0).levels
    base, apart = image[:, 0, 0], layout != image
    pieces = apart.any(axis=(1, 2))
    own = np.array([y[a][0] for y, a in zip(layout[pieces], apart[pieces], strict=True)])
    assert pieces.mean() > 0.8
    np.testing.assert_array_equal(layout[apart], np.repeat(own, apart[pieces].sum(axis=(1, 2))))
    assert abs(np.corrcoef(own, base[pieces])[0, 1]) < 0.15
    np.testing.assert_allclose(np.quantile(own, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.08)


def test_a_share_of_the_segmentations_is_asked_in_one_call():
    image, layout = (level[:, 0, 0] for level in drawn_with(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.2, *[0.0] * 4).levels)
    assert np.all(image == 0) and (layout == 1).mean() == pytest.approx(0.2, abs=0.05)


def test_independent_levels_say_nothing_of_each_other():
    image, layout = (level[:, 0, 0] for level in drawn_with(*[0.0] * 5, 1.0, *[0.0] * 5).levels)
    assert abs(np.corrcoef(image, layout)[0, 1]) < 0.1
    np.testing.assert_allclose(np.quantile(layout, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.08)


def test_the_place_in_a_batch_says_nothing_of_the_level():
    """Over many batches every row has every level."""
    keys = jax.random.split(jax.random.key(7), 400)
    rows = jax.jit(jax.vmap(lambda k: draw(k, LevelShares.shared(), TOLD[:4], (H, W)).levels.image[:, 0, 0]))(keys)
    np.testing.assert_allclose(np.mean(rows, axis=0), 0.5, atol=0.06)
    assert np.all(np.std(rows, axis=0) > 0.25)


def draw_shared(seed):
    return jax.tree.map(np.asarray, SHARED(jax.random.key(seed)))


def test_shared_levels_are_the_papers():
    out = draw_shared(2)
    np.testing.assert_array_equal(out.levels.image[:, 2:], out.levels.layout[:, 2:])
    assert np.all(out.levels.image == out.levels.image[:, :1, :1])


def test_levels_are_stratified_over_the_batch():
    t = np.sort(draw_shared(3).levels.image[:, 0, 0])
    assert np.all(np.floor(t * 64) == np.arange(64))


def test_regions_are_of_many_sizes():
    masks = jax.jit(jax.vmap(random_region))(jax.random.split(jax.random.key(4), 500), LAYOUT[:500])
    shares = np.asarray(masks).mean(axis=(1, 2))
    assert (shares < 0.2).mean() > 0.1 and (shares > 0.8).mean() > 0.1


def test_a_regions_numbers_are_drawn_apart(monkeypatch):
    """No key is used twice: what one shape says of another would be a region that never occurs."""
    used, uniform = [], jax.random.uniform
    monkeypatch.setattr(jax.random, "uniform", lambda key, *a: used.append(key) or uniform(key, *a))

    @jax.jit
    def keys(key):
        random_region(key, LAYOUT[0])
        return [jax.random.key_data(k) for k in used]

    numbers = [tuple(np.asarray(k)) for k in keys(jax.random.key(0))]
    assert len(numbers) == 2 and len(set(numbers)) == 2


def test_a_finer_layout_grid():
    out = jax.eval_shape(lambda: draw(jax.random.key(5), LevelShares(), LAYOUT[:8], (H // 2, W // 2)))
    assert out.levels.image.shape == (8, H // 2, W // 2) and out.levels.layout.shape == (8, H, W)


def of_all(mask):
    return mask.all(axis=(1, 2))


def test_the_shares_of_the_questions_are_those_of_the_draws():
    """Every row of `trained` against levels that are drawn, on layouts without void."""
    n = 6000
    layout = np.random.default_rng(1).integers(0, 40, (n, H, W)).astype(np.int32)  # no region of segments is empty
    out = jax.tree.map(np.asarray, jax.jit(lambda k: draw(k, LevelShares(), layout, (H, W)))(jax.random.key(6)))
    (x, y), known = out
    one_x, one_y = x.max(axis=(1, 2), keepdims=True), y.max(axis=(1, 2), keepdims=True)  # of pixels that are not known
    flat = of_all((x == one_x) & (y == one_y))
    part_x, part_y = (k.any(axis=(1, 2)) & ~of_all(k) for k in known)
    a, b = one_x[:, 0, 0], one_y[:, 0, 0]
    moves = (a > 0) & (a < 1)
    regions = of_all((x == one_x) | known.image) & of_all((y == one_y) | known.layout)
    chosen = [
        flat & moves & (a == b),
        flat & (a == 1) & (b == 1),
        flat & (a == 0) & (b == 1),
        flat & (a == 0) & (b > 0) & (b < 1),
        flat & moves & (b == 0),
        flat & moves & (b == 1),
        flat & (a == 1) & (b > 0) & (b < 1),
        regions & moves & (a == b) & (part_x | part_y),
        regions & moves & (b == 1) & part_x & ~part_y,
        regions & (a == 1) & (b > 0) & (b < 1) & part_y & ~part_x,
    ]
    rows = trained(LevelShares(), 0.2, 0.75)
    assert len(rows) == len(chosen)
    for row, where in zip(rows[:8], chosen, strict=False):
        assert where.mean() == pytest.approx(row.with_text + row.without_text, abs=0.013), row.question
    # Questions that stand at (t, 1) or (1, t) anyway may have such a region too: there are at least so many.
    for row, where in zip(rows[8:], chosen[8:], strict=True):
        assert where.mean() > row.with_text + row.without_text - 0.013, row.question


def test_no_question_of_the_default_shares_is_rare():
    text = default().text
    for row in trained(LevelShares(), text.drop, text.drop_given_image):
        assert row.with_text >= 0.01, row.question
        assert row.without_text >= (0.01 if row.levels != "(1, 1)" else 0.003), row.question


def test_the_page_shows_what_is_trained():
    text, page = default().text, Path(__file__).parent.parent / "docs/levels.md"
    assert table(trained(LevelShares(), text.drop, text.drop_given_image)) in page.read_text()


def test_a_share_of_the_start_changes_no_other_draw():
    """With 0, as in runs from before it was there, everything is drawn as it was."""
    some = dataclasses.replace(LevelShares.shared(), start=0.3)
    key, of = jax.random.key(7), jax.jit(lambda key: draw(key, some, LAYOUT[:64], (H, W)))
    old, new = (jax.tree.map(np.asarray, f(key)) for f in (SHARED, of))
    begun = of_all(new.levels.image == 1)
    assert 0.1 < begun.mean() < 0.5 and np.all(new.levels.layout[begun] == 1)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[~begun], b[~begun]), old, new)


def test_shares_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        LevelShares(joint=0.9)
    with pytest.raises(ValueError, match="levels.known is 1.5"):
        LevelShares(known=1.5)
