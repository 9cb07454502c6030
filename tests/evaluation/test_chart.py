"""Charts: a point stands where its numbers say, whatever the axis."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.evaluation.chart import WIDTH, Panel, Series, chart

RED, BLUE = (255, 0, 0), (0, 0, 255)


def where(picture, color):
    """Centre (row, column) of the pixels of a colour, below the legend."""
    pixels = np.asarray(picture).astype(int)[60:]
    inside = np.argwhere(np.abs(pixels - color).sum(-1) < 200)
    return (inside.min(0) + inside.max(0)) / 2


@pytest.mark.parametrize("log", [False, True])
def test_points_stand_where_their_numbers_say(log):
    """The middle point of three, on the axis's own scale, is in the middle; more is higher; x is logarithmic."""
    values = (1.0, 10.0, 100.0) if log else (1.0, 2.0, 3.0)
    centres = []
    for x, value in zip((10, 100, 1000), values, strict=True):
        ends = [Series("", (0, 160, 0), [(x, v, v, v) for x, v in ((10, values[0]), (1000, values[2]))], "dot")]
        panel = Panel("title", [*ends, Series("", RED, [(x, value, value, value)], "square")], values[1], "", log)
        centres.append(where(chart([panel], "x"), RED))
    low, middle, high = centres
    np.testing.assert_allclose(middle, (low + high) / 2, atol=1)
    assert low[0] > middle[0] > high[0] and low[1] < middle[1] < high[1]


def test_intervals_reach_from_low_to_high_and_stay_inside():
    series = [
        Series("a", RED, [(1, 0.5, 0.1, 0.9)]),
        Series("b", BLUE, [(2, 0.1, 0.1, 0.1), (2, 0.9, 0.9, 0.9)], "dot"),
    ]
    picture = np.asarray(chart([Panel("", series, 0.5, "real")], "x")).astype(int)[60:]
    red, blue = (np.argwhere(np.abs(picture - c).sum(-1) < 200) for c in (RED, BLUE))
    assert abs(red[:, 0].min() - blue[:, 0].min()) <= 5 and abs(red[:, 0].max() - blue[:, 0].max()) <= 5


def test_panels_stand_side_by_side():
    point = [(1, 1.0, 1.0, 1.0)]
    panels = [Panel("", [Series("", RED, point)], 1.0, ""), Panel("", [Series("", BLUE, point)], 1.0, "")]
    picture = chart(panels, "x")
    assert where(picture, BLUE)[1] - where(picture, RED)[1] == pytest.approx(WIDTH / 2)


def test_a_plain_axis_is_even_and_needs_no_level():
    """On an axis that is not logarithmic 505 is in the middle of 10 and 1000; twice as large has twice the sides."""
    ends = [Series("", (0, 160, 0), [(x, 1.0, 1.0, 1.0) for x in (10, 1000)], "dot")]
    panels = [Panel("title", [*ends, Series("", RED, [(x, 1.0, 1.0, 1.0)], "square")]) for x in (10, 505, 1000)]
    low, middle, high = (where(chart([panel], "x", log=False), RED) for panel in panels)
    np.testing.assert_allclose(middle, (low + high) / 2, atol=1)
    small, large = (chart(panels, "x", log=False, scale=scale) for scale in (1, 2))
    assert large.size == (2 * small.width, 2 * small.height)
