"""Which model can be the worse one of autoguidance."""

from __future__ import annotations

from typing import Any

from gcdiff.guidance import Guidance
from gcdiff.training.export import WORSE


def check_worse(model: Any, worse: Any) -> None:
    """Raise ValueError, in one line, where what a worse model predicts is not about the pairs of a model, in its form:
    other labels, images, sizes, noise or conditionings."""
    for name, of in PARTS.items():
        own, its = of(model), of(worse)
        if own != its:
            raise ValueError(f"the worse model has another {name}: {its}, expected {own}")


PARTS = {
    "list of labels": lambda model: model.labels.names,
    "kind of image": lambda model: [(group.name, group.channels) for group in model.image.groups],
    "codec": lambda model: type(model.built.codec).__name__,
    "size": lambda model: model.size,
    "noise": lambda model: (model.built.process.image.schedule, model.built.process.layout),
    "set of conditionings": lambda model: model.built.conditions.names,
}
"""What two models must have in common, by its name in messages."""


def allowed(guidance: Guidance, worse: Any, asked: bool) -> Guidance:
    """The scales, without autoguidance where there is no worse model and a run's defaults alone name it.

    Raises ValueError where the scales were `asked` for.
    """
    if worse is not None or guidance.auto == 1.0:
        return guidance
    if asked:
        said = f"autoguidance is {guidance.auto} and the model has no worse one"
        raise ValueError(f"{said}: expected a folder {WORSE} in its run, or Model.against")
    return guidance._replace(auto=1.0)
