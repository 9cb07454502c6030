"""The data sets that `gcdiff prepare` reads, by name."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gcdiff.data.source import Source


class Builder(NamedTuple):
    """A data set: its class as 'module:class', imported when it is used, and those options of `gcdiff prepare` that
    the class takes beside the folder, as arguments of the same names."""

    source: str
    options: tuple[str, ...] = ()

    def open(self, root: Path, **options: Any) -> Source:
        """The data set in a folder."""
        return resolve_name(self.source)(root, **options)


BUILDERS = {
    "mm_celeba_hq": Builder("gcdiff.data.builders.mm_celeba_hq:MMCelebAHQ", ("captions", "split_by")),
    "cityscapes": Builder("gcdiff.data.builders.cityscapes:Cityscapes", ("captions", "void", "train_val")),
    "coco_stuff": Builder("gcdiff.data.builders.coco_stuff:CocoStuff", ("captions",)),
    "camvid": Builder("gcdiff.data.builders.camvid:CamVidSource"),
    "folder": Builder("gcdiff.data.builders.folder:Folder", ("heldout", "seed", "labels", "layout_suffix")),
}
"""The data sets by the name that the command is given."""
