"""MM-CelebA-HQ: 30,000 faces with 19 parts and ten captions each.

Images of CelebA-HQ (Karras et al. 2018), masks of CelebAMask-HQ (Lee et al., MaskGAN, 2020), captions of Multi-Modal
CelebA-HQ (Xia et al., TediGAN, 2021). The root is the unpacked CelebAMask-HQ, with the captions beside it:

    CelebA-HQ-img/0.jpg ... 29999.jpg                            1024x1024
    CelebAMask-HQ-mask-anno/0/00000_skin.png ... 14/29999_*.png  one mask for each part, 512x512; or merged masks:
    CelebAMask-HQ-mask-anno/preprocessed/0.png ...               values 0 to 18
    CelebA-HQ-to-CelebA-mapping.txt                              for the official split
    celeba-caption/0.txt ...                                     one caption a line; some may be missing

Part masks are painted over one another in the order of the classes, as CelebAMask-HQ's own script does; pixels without
a part are background. An image is resized to its mask's size by area averaging.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gcdiff.data.captions import read_jsonl, read_lines
from gcdiff.data.label_maps import read_layout
from gcdiff.data.labels import CELEBA
from gcdiff.data.reader import list_files, read_image, size_of
from gcdiff.data.source import Fault, Item, Sides, by_number, match_pairs, read_sides

SPLITS_BY = ("official", "ids")
VAL_FROM, TEST_FROM = 162771, 182638
"""CelebA numbers of the first validation and test image. The official split has 24,183, 2,993 and 2,824 images."""
IDS_TEST_FROM = 24000
"""First test image with split_by="ids": 24,000 for training and 6,000 for testing, as the captions were released."""

_FOLDERS, _IN_FOLDER = 15, 2000
_PART_FILE = re.compile(r"(\d{5})_(\w+)\.png")


class MMCelebAHQ:
    """MM-CelebA-HQ as a `Source`.

    captions: a folder of text files, a .jsonl file, or "none"; the folder celeba-caption of the root by default.
    split_by: "official" (train, val, test; needs CelebA-HQ-to-CelebA-mapping.txt) or "ids" (train, test).
    """

    name = "mm_celeba_hq"
    labels = CELEBA
    licence = (
        "CelebA-HQ, CelebAMask-HQ and Multi-Modal-CelebA-HQ: for non-commercial research and education only; "
        "the images belong to their owners."
    )
    class_captions = None

    def __init__(self, root: str | Path, captions: str | Path | None = None, split_by: str = "official"):
        if split_by not in SPLITS_BY:
            raise ValueError(f"split_by is {split_by!r}, expected {', '.join(SPLITS_BY)}")
        self._root, self._by_ids, self.note = Path(root), split_by == "ids", ""
        self._captions = self._root / "celeba-caption" if captions is None else Path(captions)
        self.options = {"split_by": split_by, "captions": str(captions) != "none"}

    def splits(self, fault: Fault) -> dict[str, list[Item]]:
        split_of = self._split_of()
        images = self._root / "CelebA-HQ-img"
        layouts, layout_of = self._layouts(fault)
        files = by_number(list_files(images, (".jpg",)), fault)
        matched = match_pairs(files, layouts, lambda i: images / f"{i}.jpg", layout_of, fault)
        captions_of = self._captions_of(fault)
        splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
        without = []
        for i, image, files in matched:
            try:
                captions = captions_of(i)
                splits[split_of(i)].append(Item(str(i), image, files, captions))
                without += [] if captions else [image.name]
            except (ValueError, FileNotFoundError) as error:
                fault(str(error))
        if without and self.options["captions"]:
            if len(without) == len(matched):
                raise ValueError(f"{self._captions}: no captions for {without[0]}, nor for any other image")
            self.note = f"{self._captions}: no captions for {len(without)} of {len(matched)} images."
        return {name: items for name, items in splits.items() if items}

    def read(self, item: Item) -> Sides:
        return read_sides(item, _read_layout, larger=True)

    def _layouts(self, fault: Fault) -> tuple[dict[int, tuple[Path, ...]], Callable[[int], Path]]:
        """The files of each layout by image number, and a function from the number to the file that is expected."""
        masks = self._root / "CelebAMask-HQ-mask-anno"
        merged = masks / "preprocessed"
        if merged.is_dir():
            files = by_number(list_files(merged, (".png",)), fault)
            return {i: (file,) for i, file in files.items()}, lambda i: merged / f"{i}.png"
        parts: dict[int, list[Path]] = {}
        for folder in range(_FOLDERS):
            for file in sorted((masks / str(folder)).glob("[!.]*.png")):
                match = _PART_FILE.fullmatch(file.name)
                if match and match[2] in CELEBA.names[1:] and int(match[1]) // _IN_FOLDER == folder:
                    parts.setdefault(int(match[1]), []).append(file)
                else:
                    fault(f"{file}: expected the name of a part, as {folder * _IN_FOLDER:05d}_skin.png")
        if not parts:
            raise FileNotFoundError(f"{masks}: expected the folder preprocessed, or the folders 0 to {_FOLDERS - 1}")
        return {i: tuple(files) for i, files in parts.items()}, lambda i: masks / f"{i // _IN_FOLDER}/{i:05d}_skin.png"

    def _captions_of(self, fault: Fault) -> Callable[[int], tuple[str, ...]]:
        source = self._captions
        if not self.options["captions"]:
            return lambda i: ()
        if source.is_dir():
            return lambda i: read_lines(path) if (path := source / f"{i}.txt").is_file() else ()
        if source.suffix != ".jsonl":
            raise FileNotFoundError(f"{source}: no such folder, expected text files, a .jsonl file or none")
        captions: dict[str, tuple[str, ...]] = {}
        wrong: set[str] = set()
        for name, texts in read_jsonl(source, fault, wrong).items():
            if Path(name).stem in captions:
                wrong.add(name)
                fault(f"{source}: {name} has captions under another ending, too")
            else:
                captions[Path(name).stem] = texts
        stems = {Path(name).stem for name in wrong}

        def lookup(i: int) -> tuple[str, ...]:
            if str(i) in stems:
                raise ValueError(f"{source}: {i}.jpg is left out for its line")
            return captions.get(str(i), ())

        return lookup

    def _split_of(self) -> Callable[[int], str]:
        if self._by_ids:
            return lambda i: "train" if i < IDS_TEST_FROM else "test"
        path = self._root / "CelebA-HQ-to-CelebA-mapping.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file, which the official split needs; --split-by ids does not")
        originals = {}
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            words = line.split()
            if len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal():
                originals[int(words[0])] = int(words[1])
            elif words and number > 1:
                raise ValueError(f"{path}: line {number} is {line!r}, expected the numbers in CelebA-HQ and CelebA")

        def split(i: int) -> str:
            if i not in originals:
                raise ValueError(f"{path}: no line for image {i}")
            return "train" if originals[i] < VAL_FROM else "val" if originals[i] < TEST_FROM else "test"

        return split


def _read_layout(files: tuple[Path, ...]) -> np.ndarray:
    """One merged mask, or part masks painted in the order of the classes."""
    if len(files) == 1 and not _PART_FILE.fullmatch(files[0].name):
        return read_layout(files[0], CELEBA)
    parts = sorted((CELEBA.names.index(file.stem.partition("_")[2]), file) for file in files)
    masks = [read_image(file).any(axis=-1) for _, file in parts]
    layout = np.zeros_like(masks[0], np.int32)
    for (label, file), mask in zip(parts, masks, strict=True):
        if mask.shape != layout.shape:
            raise ValueError(f"{file}: size {size_of(mask)}, expected {size_of(layout)} like {parts[0][1]}")
        layout[mask] = label
    return layout
