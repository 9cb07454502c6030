"""How probable pairs are under a model: upper bounds on -log p of every law that it was trained for."""

from __future__ import annotations

from collections.abc import Iterator

from gcdiff import paths
from gcdiff.api.base import Base
from gcdiff.api.question import Listener, Question, Texts
from gcdiff.api.runner import chunk_for, round_size
from gcdiff.likelihood import (
    LEGS,
    LOG_SNR_MAX,
    Chunk,
    Likelihood,
    Report,
    bound,
    grid_bounds,
    least_level,
    report,
    total,
)
from gcdiff.types import Pair

LAST_STEPS = (LOG_SNR_MAX, 10.0, 8.0, 6.0, 4.0, 2.0)
LEG_SHARES = {leg: leg.removesuffix("_only") for leg in LEGS}
"""The share of training levels that each leg of a likelihood needs."""


class Likelihoods(Base):
    """Bounds on -log p(x, y), its marginals and its conditionals."""

    def _measure(self) -> Likelihood:
        return Likelihood(self.built.process, self.built.network.apply, mesh=self.mesh)

    @property
    def likelihood_legs(self) -> tuple[str, ...]:
        """The laws whose bounds this model was trained for, by their legs in `gcdiff.likelihood.LEGS`.

        >>> model.likelihood_legs
        ('joint', 'image_only', 'image_given_layout', 'layout_only', 'layout_given_image')
        """
        return tuple(leg for leg, share in LEG_SHARES.items() if getattr(self.built.levels, share) > 0)

    def check_likelihood(self, log_snr_max: float | None = None, grid: int | None = None) -> None:
        """Raise ValueError, in one line, for a model that has no likelihood, or none with a last step from there or on
        such a grid.

        >>> model.check_likelihood(grid=50)
        >>> stage.check_likelihood()
        Traceback (most recent call last):
        ValueError: a super-resolution stage has no likelihood: it is given a part of what it would measure
        """
        if self.built.conditions.lowres is not None:
            raise ValueError("a super-resolution stage has no likelihood: it is given a part of what it would measure")
        if not self.built.codec.likelihood:
            raise ValueError("likelihoods of this model's states are not those of images: its config.data.codec")
        self._measure()
        if grid is not None and grid < 1:
            raise ValueError(f"grid is {grid}, expected at least 1 step")
        if grid is not None and log_snr_max is not None:
            raise ValueError(
                f"log_snr_max is {log_snr_max} and grid is {grid}, expected one: a grid has its own last step"
            )
        if log_snr_max is not None:
            least_level(self.built.process, log_snr_max)
        if not self.likelihood_legs:
            raise ValueError("no law has a bound: the shares of config.levels on straight paths are all 0")
        if self.built.defaults.label_precision < 1:
            raise ValueError("bounds need labels of precision 1: this model knows no layout at level 0")

    def likelihood(
        self, pair: Pair, text: Texts = None, draws: int = 8, seed: int = 0, progress: Listener = None, *,
        log_snr_max: float | None = None, grid: int | None = None,
    ) -> Report:  # fmt: skip
        """Upper bounds on -log p of pairs (uint8 (N, H, W, 3), int (N, H, W)) of the model's size, with their errors.

        In bits per dimension of the image and bits per labelled pixel of the layout, of every law that was trained:
        p(x, y), p(x), p(y), p(x | y), p(y | x); and the signed gaps between the three paths to p(x, y), which an exact
        model does not have. `draws` are the random levels per example and leg. Void pixels stay unknown and are not
        counted. No guidance is applied. `log_snr_max` is where the last step begins: any gives a bound, and a network
        that is poor at little noise is charged for it; None takes the one of `LAST_STEPS` that is least for the first
        chunk (with few examples the bound is then a little optimistic).

        None of `grid` is continuous time; a number is the bound of ancestral sampling in so many equal steps of every
        leg. A draw is then two steps, the last one and a random one of the others. On a grid an exact model too lies
        above -log p and has gaps, which fall as 1/grid.

        `progress` counts legs of draws, on a grid steps. While the best of `LAST_STEPS` is sought it is called with 0
        done. Where it returns False, the report is of the first examples alone, those of the chunks that are measured
        whole; before the first chunk is whole there is no bound, and `gcdiff.likelihood.Stopped`, a RuntimeError, is
        raised.

        >>> report = model.likelihood(gcdiff.Pair(images, layouts), draws=2, log_snr_max=8.0)
        >>> report.legs["joint"].layout.total.value > 0  # bits per labelled pixel
        True
        >>> report.log_snr_max, sorted(report.paths)
        (8.0, ['diagonal', 'image_first', 'layout_first'])
        """
        self.check_likelihood(log_snr_max, grid)
        values, legs = self._checked(pair, "likelihood"), self.likelihood_legs
        self._warn_of_unseen(text)
        question = Question.of(text, None, None, seed, progress).about(values, 1.0, 1.0)
        measure, params, watch, runner = self._measure(), self.params["network"], question.watch, self._runner()
        size = round_size(chunk_for(len(question), self.built.defaults.chunk, self.mesh), self.mesh)
        # On a grid a draw is two steps, unless there is but one.
        watch.expect(-(-len(question) // size) * draws * len(legs) * min(grid or 1, 2))

        def chunks(asked: Question) -> Iterator[Chunk]:
            return (Chunk(r.given.values, r.given.keys, r.condition, r.count) for r in runner.rounds(asked))

        if grid is not None:
            walks = {leg: paths.PATHS[leg](grid) for leg in legs}
            return report(grid_bounds(measure, params, chunks(question), walks, draws, 1, watch.step), None, grid)
        if log_snr_max is None:
            first = next(chunks(question))
            first = first._replace(count=min(first.count, self.built.defaults.chunk))  # on however many devices

            def progress_of_search(pieces: int) -> bool:
                """The search is not counted in the progress, and may be stopped."""
                return watch.step(0)

            tried = {
                end: bound(measure, params, [first], legs[:1], 4, end, progress_of_search)[legs[0]]
                for end in LAST_STEPS
            }
            log_snr_max = min(tried, key=lambda end: total(tried[end]).value)
        return report(bound(measure, params, chunks(question), legs, draws, log_snr_max, watch.step), log_snr_max)
