"""A model as the functions that an evaluation asks, each with a progress bar that says what is being drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from gcdiff.cli.files import leads


def hears(config, model, heldout) -> tuple[bool, Callable]:
    """Whether captions are there and heard, and captions as the model takes them."""
    from gcdiff import config as configs

    unheard = model.config.text.encoder == "none" or (model.config.text.encoder == "given" and model.encoder is None)
    if unheard or not any(heldout.captions):
        return False, lambda captions: None
    stored = configs.embeddings(config) if model.encoder is None else None
    length = config.text.length
    return True, (lambda captions: captions) if stored is None else lambda captions: stored.batch(captions, length)


def subject_of(arguments, model, stage, told: bool, text: Callable):
    """The model as functions, each with a progress bar that says what it does."""
    from gcdiff.api.model import NEEDS
    from gcdiff.evaluation.sides import Subject
    from gcdiff.types import Pair

    levels = model.built.levels
    both = [m for m in (model, stage) if m is not None]

    def calls(num: int, steps: int | None) -> int:
        return sum(-(-num // m.round_size) * (m.config.sample.steps if steps is None else steps) for m in both)

    def segment(images, first_id: int):
        return model.segment(images, probabilities=True, seed=arguments.seed, first_id=first_id, upsample=stage)

    def sample(captions, num: int, seed: int, dials):
        asked = {"steps": None, "guidance": None, **dials}
        with _bar(f"{num} pairs", calls(num, asked["steps"])) as progress:
            said = None if captions is None else text(list(captions))
            return model.sample(said, num, seed=seed, progress=progress, upsample=stage, **asked)

    def synthesize(layouts, captions, seed: int):
        with _bar(f"{len(layouts)} images for layouts", calls(len(layouts), None)) as progress:
            said = None if captions is None else text(list(captions))
            return model.synthesize(layouts, said, seed=seed, progress=progress, upsample=stage)

    def likelihood(examples):
        total = calls(len(examples.ids), 1) * arguments.draws * len(model.likelihood_legs)
        total *= min(arguments.grid or 1, 2)
        with _bar(f"bounds of {len(examples.ids)} pairs", total) as progress:
            return model.likelihood(
                Pair(examples.images, examples.layouts),
                text(list(examples.captions)),
                arguments.draws,
                arguments.seed,
                progress,
                log_snr_max=arguments.log_snr_max,
                grid=arguments.grid,
            )

    why = {}
    path = model.config.sample.path
    missing = [share for share in NEEDS[path] if getattr(levels, share) == 0]
    if missing:
        why["sample"] = f"the path {path} was not trained: config.levels.{missing[0]} of this run is 0"
    if any(m.built.levels.layout_given_image == 0 or m.built.levels.one_call == 0 for m in both):
        why["segment"] = "segmentation in one call was not trained"
    if any(m.built.levels.image_given_layout == 0 for m in both):
        why["synthesize"] = "images for layouts were not trained: config.levels.image_given_layout of this run is 0"
    try:
        if stage is not None:
            raise ValueError("bounds are of one run, expected no --upsample beside them")
        model.check_likelihood(arguments.log_snr_max, arguments.grid)
    except ValueError as error:
        why["likelihood"] = str(error)
    asked = {"segment": segment, "sample": sample, "synthesize": synthesize, "likelihood": likelihood}
    return Subject(**{name: None if name in why else f for name, f in asked.items()}, told=told, why=why)


@contextlib.contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None] | None]:
    from gcdiff.jobs.progress import progress_bar

    if not leads():
        yield None
        return
    with progress_bar(total, prefix=f"{name}: ") as advance:
        yield lambda count: advance(count) if count else None
