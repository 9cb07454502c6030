"""The files of a user's own folder: which of its folders are read, and which image and layout form an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gcdiff.data.reader import IMAGE_SUFFIXES, LABEL_SUFFIXES, in_nfc
from gcdiff.data.source import Fault

IMAGE_FOLDERS = ("images", "img", "JPEGImages")
LAYOUT_FOLDERS = ("layouts", "masks", "labels", "annotations", "SegmentationClass")
"""The folders of images and of layouts, in any case of the letters; the first of each is read where it exists."""
SPLITS = ("train", "val", "test", "heldout")
SPLIT_OF = {split: split for split in SPLITS} | {
    "training": "train",
    "validation": "val",
    "valid": "val",
    "testing": "test",
}
"""The split by the name of its folder."""
BESIDE = ("captions.jsonl", "labels.json", "splits.json")
"""The files that are read beside the folders."""
FOR_LABELS = ("class_dict.csv", "class_names.txt")
"""The files of which a labels.json is made where there is none."""
LOSSY = (".jpg", ".jpeg")
_JUNK = ("thumbs.db", "desktop.ini")


class Places(NamedTuple):
    """The folders of a source and what ends the name of a layout beside that of its image. The folders are one and the
    same where a suffix alone tells the two apart."""

    images: Path
    layouts: Path
    suffix: str

    @property
    def note(self) -> str:
        """Which folders are read, where they are not the documented ones."""
        if (self.images.name, self.layouts.name, self.suffix) == (IMAGE_FOLDERS[0], LAYOUT_FOLDERS[0], ""):
            return ""
        named = f" whose names end in {self.suffix}" if self.suffix else ""
        return f"Images are read from {self.images.name}, layouts from {self.layouts.name}{named}."

    def not_read(self, root: Path) -> list[str]:
        """The names of what lies in the root and is not read."""
        read = {self.images, self.layouts, *(root / name for name in (*BESIDE, *FOR_LABELS))}
        others = [entry for entry in root.iterdir() if entry not in read and not _is_hidden(entry)]
        if self.images == root:
            others = [entry for entry in others if entry.suffix.lower() not in IMAGE_SUFFIXES]
        return sorted(entry.name for entry in others)


class Side(NamedTuple):
    """The files of one side by the name of the example, and the names of examples with a file that is wrong."""

    files: dict[str, Path]
    bad: set[str]


def find_places(root: Path, suffix: str = "") -> Places:
    """The folders of images and layouts in a root. A `suffix` of layouts may end in that of a file.

    Raises ValueError where several folders may be meant.
    """
    suffix = in_nfc(suffix)
    for ending in LABEL_SUFFIXES:
        suffix = suffix.removesuffix(ending)
    images, layouts = _find(root, IMAGE_FOLDERS, "images"), _find(root, LAYOUT_FOLDERS, "layouts")
    if suffix and layouts is None:
        images = layouts = images or root
    return Places(images or root / IMAGE_FOLDERS[0], layouts or root / LAYOUT_FOLDERS[0], suffix)


def list_sides(places: Places, fault: Fault) -> tuple[Side, Side]:
    """The images and the layouts of a folder."""
    shared = places.images == places.layouts

    def image(stem: str) -> str | None:
        return None if shared and stem.endswith(places.suffix) else stem

    def layout(stem: str) -> str | None:
        return stem.removesuffix(places.suffix) if stem.endswith(places.suffix) else None

    return (
        _side(places.images, IMAGE_SUFFIXES, image, shared, fault),
        _side(places.layouts, LABEL_SUFFIXES, layout, shared, fault, places.suffix),
    )


def key_of(name: str) -> str:
    """The name of an example by that of its file, SPLIT/NAME.png or NAME.png; the ending may be missing."""
    name = in_nfc(name)
    ending = Path(name).suffix
    name = name.removesuffix(ending) if ending.lower() in IMAGE_SUFFIXES else name
    folder, slash, stem = name.partition("/")
    return f"{SPLIT_OF.get(folder.lower(), folder)}/{stem}" if slash else name


def way_to_pair(images: Iterable[str], layouts: Iterable[str]) -> str:
    """The way to pair names that differ, for a message: a suffix that all layouts have beside their images."""
    images, layouts = set(images), list(layouts)[:100]
    endings = Counter(
        layout[end:] for layout in layouts for end in range(1, len(layout)) if layout[:end] in images
    ).most_common(1)
    if endings and endings[0][1] == len(layouts):
        return f"; --layout-suffix {endings[0][0]} pairs them"
    lower = {image.lower() for image in images}
    return "; they differ in upper and lower case" if all(name.lower() in lower for name in layouts) else ""


def _find(root: Path, names: tuple[str, ...], side: str) -> Path | None:
    """The folder of one side: the documented one, else the only one of the usual names that holds pictures."""
    if (root / names[0]).is_dir() or not root.is_dir():
        return root / names[0]
    usual = {name.lower() for name in names}
    folders = [e for e in sorted(root.iterdir()) if e.name.lower() in usual and e.is_dir() and _holds_pictures(e)]
    if len(folders) > 1:
        listed = " and ".join(entry.name for entry in folders)
        raise ValueError(
            f"{root}: {listed} may be the folder of {side}, expected one, or one that is called {names[0]}"
        )
    return folders[0] if folders else None


def _holds_pictures(folder: Path) -> bool:
    return any(e.suffix.lower() in IMAGE_SUFFIXES or e.name.lower() in SPLIT_OF for e in folder.iterdir())


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _JUNK


def _side(folder: Path, suffixes, name_of, shared: bool, fault: Fault, suffix: str = "") -> Side:
    """The files of a folder by NAME, or of the split folders in it by SPLIT/NAME; none if the folder does not exist.

    `name_of` gives the name of an example by a file's name without the ending, or None for a file of the other side.
    """
    files: dict[str, Path] = {}
    bad: set[str] = set()
    for split, file in _entries(folder, shared):
        stem = in_nfc(file.stem)
        name = name_of(stem)
        if name is None:
            if not shared:
                fault(f"{file}: expected a name ending in {suffix} before {', '.join(suffixes)}")
            continue
        key, ending = f"{split}/{name}" if split else name, file.suffix.lower()
        if ending not in suffixes:
            bad.add(key)
            if ending in LOSSY:
                fault(f"{file}: a JPEG, which does not keep labels as they are; expected a layout as a PNG")
            else:
                fault(f"{file}: expected a name ending in {', '.join(suffixes)}")
        elif key in files:
            bad.add(key)
            fault(f"{file}: same name as {files[key].name}, expected names that differ before the ending")
        else:
            files[key] = file
    return Side({key: file for key, file in files.items() if key not in bad}, bad)


def _entries(folder: Path, shared: bool) -> Iterable[tuple[str, Path]]:
    """The split ("": none) and the path of each file of a folder, sorted; of a shared folder the pictures alone."""
    entries = [e for e in sorted(folder.iterdir()) if not _is_hidden(e)] if folder.is_dir() else []
    inner = [e for e in entries if e.is_dir()]
    if shared:
        inner = [e for e in inner if e.name.lower() in SPLIT_OF]
        entries = [e for e in entries if e in inner or (e.is_file() and e.suffix.lower() in IMAGE_SUFFIXES)]
    for entry in inner:
        if entry.name.lower() not in SPLIT_OF or len(inner) < len(entries):
            raise ValueError(f"{entry}: a folder, expected files alone, or folders alone: {', '.join(SPLITS)}")
    for entry in entries:
        if not entry.is_dir():  # a file, or a link to none
            yield "", entry
            continue
        for file in sorted(entry.iterdir()):
            if not _is_hidden(file) and (not shared or file.suffix.lower() in IMAGE_SUFFIXES):
                if file.is_dir():
                    raise ValueError(f"{file}: a folder, expected files alone in {entry}")
                yield SPLIT_OF[entry.name.lower()], file


def pairs_or_refuse(root: Path, images: Mapping[str, Path], layouts: Mapping[str, Path], least: float) -> None:
    """Raise ValueError where hardly any name of the smaller side has a partner: less than a share `least`."""
    pairs, fewer = len(images.keys() & layouts.keys()), min(len(images), len(layouts))
    if pairs < least * fewer:
        image, layout = images[min(images.keys() - layouts.keys())], layouts[min(layouts.keys() - images.keys())]
        said = f"{root}: {pairs} of {len(images)} images and {len(layouts)} layouts are pairs, expected"
        said += f" the same name before the ending, not {image.name} and {layout.name}"
        raise ValueError(said + way_to_pair(images, layouts))


def say_unpaired(images: Mapping[str, Path], layouts: Mapping[str, Path]) -> str:
    """A sentence about files of both sides that have no partner; "" where one side has none."""
    alone = images.keys() - layouts.keys(), layouts.keys() - images.keys()
    if not all(alone):
        return ""
    names = f"{images[min(alone[0])].name} and {layouts[min(alone[1])].name}"
    return f"{len(alone[0])} images and {len(alone[1])} layouts have no partner, as {names}{way_to_pair(*alone)}."


def say_no_files(root: Path, places: Places) -> str:
    """The message about a root without images and layouts: what was looked for, and which folders are there."""
    where = " or ".join(f"{place.name}/" if place != root else str(root) for place in dict.fromkeys(places[:2]))
    folders = [f"{name}/" for name in places.not_read(root) if (root / name).is_dir()] if root.is_dir() else []
    listed = f"{', '.join(folders[:5])}{', ...' if len(folders) > 5 else ''}"
    said = f"; {listed} not read: expected {IMAGE_FOLDERS[0]}/ and {LAYOUT_FOLDERS[0]}/" if folders else ""
    return f"{root}: expected files in {where}{said}"


def refuse_missing_side(root: Path, places: Places, images: Mapping[str, Path], layouts: Mapping[str, Path]) -> None:
    """Raise ValueError where a side has no file, but a folder that is not read holds pictures or a suffix was given."""
    if places.suffix and not layouts:
        raise ValueError(f"{places.layouts}: no layout, expected names ending in {places.suffix} before the ending")
    for side, files in (("layouts", layouts), ("images", images)):
        unread = [root / name for name in places.not_read(root)] if not files else []
        for folder in (entry for entry in unread if entry.is_dir() and _holds_pictures(entry)):
            said = f"{root}: there are no {side}, but {folder.name}/ holds pictures and is not read"
            raise ValueError(f"{said}; expected a folder of {side} to be called {side}, and others to lie elsewhere")
