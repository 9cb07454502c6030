"""What the oracles share: densities of rounded and clipped colours, labels of probabilities, connected pieces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from gcdiff.worlds.pixels import UNSURE, check_images, connected, density, most_probable

MEANS = np.array([[[0.2, 0.5, 0.98], [0.6, 0.05, 0.4]]], np.float32)  # one light, two surfaces


@pytest.mark.parametrize("sigma", [0.03, np.array([0.03, 0.05])])
def test_a_density_is_the_mass_of_the_colours_that_are_rounded_to_a_pixel(sigma):
    pixels = np.array([[51, 128, 255], [150, 0, 101], [55, 120, 240]], np.uint8)
    low = np.where(pixels == 0, -np.inf, (pixels - 0.5) / 255)[:, None]
    high = np.where(pixels == 255, np.inf, (pixels + 0.5) / 255)[:, None]
    scale = np.broadcast_to(sigma, 2)[:, None]
    mass = np.prod(255 * (norm.cdf(high, MEANS[0], scale) - norm.cdf(low, MEANS[0], scale)), axis=-1)
    np.testing.assert_allclose(density(pixels, MEANS, sigma)[:, 0], mass, rtol=2e-2, atol=1e-6)
    shares = np.array([0.25, 0.75])
    np.testing.assert_allclose(density(pixels, MEANS, sigma, shares), density(pixels, MEANS, sigma) * shares, rtol=1e-4)


def test_the_density_of_all_greys_of_a_channel_sums_to_one():
    greys = np.stack([np.arange(256), np.full(256, 128), np.full(256, 128)], axis=-1).astype(np.uint8)
    first = density(greys, np.array([[[0.1, 0.5, 0.5]]], np.float32), 0.08)[:, 0, 0]  # a tenth is clipped to black
    others = norm.pdf(128 / 255, 0.5, np.hypot(0.08, 1 / np.sqrt(12 * 255**2))) ** 2
    assert (first / others).sum() / 255 == pytest.approx(1, rel=1e-3)


def test_labels_are_unsure_where_no_class_is_the_most_probable():
    probabilities = np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3], [0.3, 0.3, 0.4]])
    labels = most_probable(probabilities)
    assert labels.tolist() == [1, 0, UNSURE] and labels.dtype == np.int32


def test_pieces_are_connected_through_sides_or_corners():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]], bool)
    assert [piece.sum() for piece in connected(mask, 1)] == [2, 2, 1]
    assert [piece.sum() for piece in connected(mask, 2)] == [2, 2]
    assert [piece.sum() for piece in connected(mask, 2, corners=True)] == [4]
    np.testing.assert_array_equal(np.any(connected(mask, 1), axis=0), mask)
    assert connected(np.zeros((3, 3), bool), 1) == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 8, 8, 1), (8, 8, 3)])
def test_other_images_are_refused(shape):
    with pytest.raises(ValueError, match="expected uint8"):
        check_images(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        check_images(np.zeros((1, 8, 8, 3)))
