"""Upper bounds on -log p(x, y), its marginals and its conditionals, in named parts, with their standard errors."""

from gcdiff.likelihood.evaluate import Chunk, Likelihood
from gcdiff.likelihood.legs import LEGS, LOG_SNR_MAX, Stopped, bound, grid_bound, grid_bounds, least_level
from gcdiff.likelihood.report import (
    PATHS,
    Bound,
    Estimate,
    Parts,
    Report,
    Summary,
    along,
    estimate,
    gap,
    report,
    summary,
    total,
)

__all__ = [
    "LEGS",
    "LOG_SNR_MAX",
    "PATHS",
    "Bound",
    "Chunk",
    "Estimate",
    "Likelihood",
    "Parts",
    "Report",
    "Stopped",
    "Summary",
    "along",
    "bound",
    "estimate",
    "gap",
    "grid_bound",
    "grid_bounds",
    "least_level",
    "report",
    "summary",
    "total",
]
