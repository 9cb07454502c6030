"""The networks that `config.network.kind` chooses from."""

from __future__ import annotations

import dataclasses

from gcdiff.models.transformer import JointTransformer
from gcdiff.models.unet import JointUNet

NETWORKS = {"unet": JointUNet, "transformer": JointTransformer}
"""The classes of networks by name. A field that two of them share means the same in both and has one default."""


def fields_of(kind: str) -> dict[str, object]:
    """The fields of the networks of a kind, with their defaults."""
    return {f.name: f.default for f in dataclasses.fields(NETWORKS[kind])}
