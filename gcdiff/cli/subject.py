"""A trained model as the `Subject` of an evaluation: functions that draw, segment and bound under a progress bar."""

from __future__ import annotations

from collections.abc import Callable

from gcdiff.cli.bars import bar
from gcdiff.cli.rundata import stored_features


def takes_captions(model) -> bool:
    """Whether text is an input of the model, and an encoder of captions is at hand where it needs one."""
    encoder = model.config.text.encoder
    return encoder != "none" and (encoder != "given" or model.encoder is not None)


def caption_input(config, model, heldout) -> tuple[bool, Callable]:
    """Whether the model takes captions and the data have some, and the function that makes its input of captions."""
    if not takes_captions(model) or not any(heldout.captions):
        return False, lambda captions: None
    stored = stored_features(config, model)
    length = config.text.length
    return True, (lambda captions: captions) if stored is None else lambda captions: stored.batch(captions, length)


def subject_of(arguments, model, stage, captioned: bool, text: Callable):
    """The `Subject` of a model and its super-resolution stage; `text` makes the model's input of captions."""
    from gcdiff.api.model import NEEDS
    from gcdiff.evaluation.sides import Subject
    from gcdiff.types import Pair

    levels = model.built.levels
    both = [m for m in (model, stage) if m is not None]

    def segment(images, first_id: int):
        return model.segment(images, probabilities=True, seed=arguments.seed, first_id=first_id, upsample=stage)

    def sample(captions, num: int, seed: int, dials):
        asked = {"steps": None, "guidance": None, **dials}
        with bar(f"{num} pairs: ") as progress:
            said = None if captions is None else text(list(captions))
            return model.sample(said, num, seed=seed, progress=progress, upsample=stage, **asked)

    def synthesize(layouts, captions, seed: int):
        with bar(f"{len(layouts)} images for layouts: ") as progress:
            said = None if captions is None else text(list(captions))
            return model.synthesize(layouts, said, seed=seed, progress=progress, upsample=stage)

    def likelihood(examples):
        with bar(f"bounds of {len(examples.ids)} pairs: ") as progress:
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
    return Subject(**{name: None if name in why else f for name, f in asked.items()}, captioned=captioned, why=why)
