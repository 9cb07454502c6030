"""The table of the embedded worlds by name, from which all other lists of worlds are made.

A world is a folder: scene (what there is), appearance (what it looks like), captions, data (all of it as a data set),
oracle (what an image shows, from the pixel model), scores (how well generated images fit), reader (the oracle as an
evaluation asks it). An entry names two of these, as 'module:name', which are imported when they are used.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gcdiff.evaluation.readers import Reader
    from gcdiff.worlds.world import World


class Entry(NamedTuple):
    """The places, 'module:name', of a world's data set, a `World`, and of the function that makes its `Reader`."""

    data: str
    reader: str

    def dataset(self) -> type[World]:
        """The class of the data set."""
        return resolve_name(self.data)

    def oracle(self) -> Reader:
        """The world's oracle, as a reader of images."""
        return resolve_name(self.reader)()


WORLDS = {
    "streets": Entry("gcdiff.worlds.streets.data:Streets", "gcdiff.worlds.streets.reader:street_reader"),
    "faces": Entry("gcdiff.worlds.faces.data:Faces", "gcdiff.worlds.faces.reader:face_reader"),
    "cells": Entry("gcdiff.worlds.cells.data:Cells", "gcdiff.worlds.cells.reader:cell_reader"),
}
"""The worlds by the name of their data set, which is their config.data.name as well."""
