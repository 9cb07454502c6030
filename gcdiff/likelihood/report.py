"""Summaries of bounds in bits: values with their standard errors, and the signed gap between two paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gcdiff.types import Pair, pair_map

PATHS = {
    "diagonal": ("joint",),
    "layout_first": ("layout_only", "image_given_layout"),
    "image_first": ("image_only", "layout_given_image"),
}
"""The legs of each path from (1, 1) to (0, 0)."""


class Parts(NamedTuple):
    """The parts of one side's bound, float64 (N, draws) nats per example and draw."""

    prior: np.ndarray
    diffusion: np.ndarray
    reconstruction: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.prior + self.diffusion + self.reconstruction


class Bound(NamedTuple):
    """The bound of N examples in parts; a side that stands still has none.

    sizes: Pair of float64 (N,), the number of image values h*w*C and of labelled pixels; None where a side is missing.
    """

    parts: Pair
    sizes: Pair

    @property
    def nats(self) -> np.ndarray:
        """The bound of both sides together, float64 (N, draws) nats."""
        return np.sum([side.total for side in self.parts if side is not None], axis=0)


class Estimate(NamedTuple):
    """A value and its standard error, in the same unit; the error of a single draw of a single example is NaN."""

    value: float
    error: float


class Summary(NamedTuple):
    """One side's bound in bits, per image value or per labelled pixel."""

    prior: Estimate
    diffusion: Estimate
    reconstruction: Estimate
    total: Estimate


def summary(bound: Bound) -> Pair:
    """Pair of `Summary`: the image in bits per dimension (h*w*C), the layout in bits per labelled pixel.

    Both are pooled, the sum of bits over the sum of sizes. Raises ValueError where no example has a labelled pixel.
    """
    return pair_map(
        lambda parts, sizes: Summary(*(estimate(nats, sizes) for nats in (*parts, parts.total))),
        bound.parts,
        bound.sizes,
    )


def total(bound: Bound) -> Estimate:
    """The bound of both sides together, in bits per example."""
    return estimate(bound.nats, np.ones(len(bound.nats)))


def along(bounds: Mapping[str, Bound], path: str) -> Bound:
    """The bound on -log p(x, y) of a path in `PATHS`, from the bounds of its legs."""
    legs = [bounds[leg] for leg in PATHS[path]]
    image, layout = (next(p for leg in legs if (p := leg.parts[side]) is not None) for side in (0, 1))
    return Bound(Pair(image, layout), legs[0].sizes)


def gap(bounds: Mapping[str, Bound], path: str = "diagonal", reference: str = "layout_first") -> Estimate:
    """How far the bound of `path` lies above the one of `reference`, in bits per example.

    The difference is taken draw by draw: legs evaluated together share their random numbers.
    """
    nats = along(bounds, path).nats - along(bounds, reference).nats
    return estimate(nats, np.ones(len(nats)))


def estimate(nats: np.ndarray, sizes: np.ndarray) -> Estimate:
    """The sum of nats (N, draws) over the sum of sizes (N,), in bits, with the standard error of that ratio.

    The error is the one over examples, of their means over draws: it holds what the examples and the draws add. Of one
    example it is the one over draws, which says nothing of other examples (and is a little too large, as the levels of
    draws are stratified).
    """
    if not sizes.sum() > 0:
        raise ValueError(f"the bound of {len(sizes)} examples counts 0 values or labelled pixels, expected at least 1")
    unit = sizes.sum() * math.log(2.0)
    of_each = nats.mean(axis=1)
    ratio = of_each.sum() / sizes.sum()
    rest = of_each - ratio * sizes if len(nats) > 1 else (nats[0] - of_each[0]) / nats.shape[1]
    count = len(rest)
    error = math.sqrt(count / (count - 1) * np.square(rest).sum()) / unit if count > 1 else math.nan
    return Estimate(float(of_each.sum() / unit), error)


LAWS = {
    "joint": "p(x, y)",
    "image_only": "p(x)",
    "image_given_layout": "p(x | y)",
    "layout_only": "p(y)",
    "layout_given_image": "p(y | x)",
}
"""The law that each leg bounds."""


class Report(NamedTuple):
    """The bounds of some legs and paths in bits, and the gaps between paths.

    legs: by leg, a Pair of `Summary`; paths: by path, the bound on -log p(x, y) in bits per example, of the paths whose
    legs are there; gaps: by path, how far it lies above the layout-first path, in bits per example. Of bounds in
    continuous time log_snr_max says where the last step begins, of those on a finite grid `grid` how many steps a leg
    has; the other is None.

    >>> report = model.likelihood(gcdiff.Pair(images, layouts), draws=1, log_snr_max=8.0)
    >>> report.paths["diagonal"].value > 0  # bits per example
    True
    """

    legs: dict[str, Pair]
    paths: dict[str, Estimate]
    gaps: dict[str, Estimate]
    log_snr_max: float | None
    grid: int | None = None

    def table(self) -> str:
        """The report as lines of text.

        >>> report = model.likelihood(gcdiff.Pair(images, layouts), draws=1, log_snr_max=8.0)
        >>> print(report.table())
        upper bound on              prior   diffusion      last    in all       +-
        -log p(x, y)  bits/dim of x ...
        -log p(x, y) bits/pixel of y ...
        ...
        in continuous time; the last step begins at log-SNR 8
        """
        lines = [f"{'upper bound on':24}{'prior':>10}{'diffusion':>12}{'last':>10}{'in all':>10}{'+-':>9}"]
        for leg, sides in self.legs.items():
            for unit, side in zip(("bits/dim of x", "bits/pixel of y"), sides, strict=True):
                if side is not None:
                    parts = (side.prior.value, side.diffusion.value, side.reconstruction.value, side.total.value)
                    numbers = "".join(f"{v:{w}.4f}" for v, w in zip(parts, (10, 12, 10, 10), strict=True))
                    lines.append(f"-log {LAWS[leg]:9}{unit:>15} {numbers[1:]}{side.total.error:9.4f}")
        lines += [f"{'-log p(x, y), ' + path:46}{e.value:20.1f}{e.error:9.1f} bits" for path, e in self.paths.items()]
        lines += [
            f"{f'gap, {path} - layout_first':46}{e.value:20.1f}{e.error:9.1f} bits" for path, e in self.gaps.items()
        ]
        if self.grid is None:
            lines.append(f"in continuous time; the last step begins at log-SNR {self.log_snr_max:g}")
        else:
            lines.append(f"on a grid of {self.grid} steps for every leg, where an exact model has gaps too")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """Plain dictionaries of {value, error}, for JSON.

        >>> report = model.likelihood(gcdiff.Pair(images, layouts), draws=1, log_snr_max=8.0)
        >>> sorted(report.to_dict()["legs"]["layout_only"]["layout"]["total"])
        ['error', 'value']
        """

        def plain(estimates) -> dict:
            return {name: e._asdict() for name, e in estimates.items()}

        legs = {}
        for leg, sides in self.legs.items():
            legs[leg] = {name: plain(side._asdict()) for name, side in sides._asdict().items() if side is not None}
        paths, gaps = plain(self.paths), plain(self.gaps)
        estimates = {"legs": legs, "paths_bits_per_example": paths, "gaps_bits_per_example": gaps}
        return {**estimates, "log_snr_max": self.log_snr_max, "grid": self.grid}


def report(bounds: Mapping[str, Bound], log_snr_max: float | None, grid: int | None = None) -> Report:
    """The `Report` of the bounds of legs, evaluated together with one `log_snr_max` or on one `grid`."""
    whole = [path for path, legs in PATHS.items() if all(leg in bounds for leg in legs)]
    gaps = {path: gap(bounds, path) for path in whole if path != "layout_first" and "layout_first" in whole}
    paths = {path: total(along(bounds, path)) for path in whole}
    return Report({leg: summary(bound) for leg, bound in bounds.items()}, paths, gaps, log_snr_max, grid)
