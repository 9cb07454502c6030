"""Small data sets of random pixels in the directory layouts of the originals: file names, bit depths, what values mean.

Each function writes below a folder and gives the layouts that a reader has to find, by the names of the examples.
"""

import json

import numpy as np
from PIL import Image

PARTS = [
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip", "hair",
    "hat", "ear_r", "neck_l", "neck", "cloth",
]  # fmt: skip
CITY_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14}
CITY_IDS |= {28: 15, 31: 16, 32: 17, 33: 18}
FACES = {3: 100, 2001: 162770, 2002: 162771, 23999: 182637, 24000: 182638, 29999: 202598}
"""Faces by their number, and what they are in CelebA: one on each side of every boundary of the splits."""
COLORS = [[250, 10, 10], [10, 250, 10], [10, 10, 250]]


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def jsonl(path, captions):
    text(path, *(json.dumps({"file_name": name, "text": texts}) for name, texts in captions.items()))


def picture(rng, size):
    return rng.integers(0, 256, (*size, 3)).astype(np.uint8)


def celeba(root, merged=False, faces=FACES, size=8):
    """Images of twice the masks' size; masks of parts, white on black in RGB as they come, or merged."""
    rng, maps = np.random.default_rng(0), {}
    for i in faces:
        save(root / "CelebA-HQ-img" / f"{i}.jpg", picture(rng, (2 * size, 2 * size)), quality=90)
        text(root / "celeba-caption" / f"{i}.txt", f"She is face {i}.", "", f"This is face {i}. ")
        layout = np.zeros((size, size), np.int32)
        for label, part in enumerate(PARTS, start=1):
            if label == 1 or rng.random() < 0.4:
                mask = rng.random((size, size)) < 0.3
                layout[mask] = np.maximum(layout[mask], label)  # of the parts that cover a pixel the last one
                if not merged:
                    white = np.where(mask, 255, 0).astype(np.uint8)
                    file = root / "CelebAMask-HQ-mask-anno" / str(i // 2000) / f"{i:05d}_{part}.png"
                    save(file, white if part == "hat" else np.repeat(white[..., None], 3, axis=-1))
        if merged:
            save(root / "CelebAMask-HQ-mask-anno" / "preprocessed" / f"{i}.png", layout.astype(np.uint8))
        maps[str(i)] = layout
    lines = (f"{i}          {original}     {original + 1:06d}.jpg" for i, original in faces.items())
    text(root / "CelebA-HQ-to-CelebA-mapping.txt", "idx          orig_idx     orig_file", *lines)
    return maps


def cityscapes(root, size=(10, 20)):
    """Two cities for training, one for validation; test scenes, whose label files are blank."""
    rng, maps = np.random.default_rng(1), {}
    for split, cities in {"train": ("ulm", "aachen"), "val": ("munster",), "test": ("berlin",)}.items():
        for city in cities:
            for frame in (19, 20):
                stem = f"{city}_000000_{frame:06d}"
                ids = rng.integers(0, 34, size).astype(np.uint8)
                ids[0, 0] = 255
                save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", picture(rng, size))
                blank = split == "test"
                labels = root / "gtFine" / split / city
                save(labels / f"{stem}_gtFine_labelIds.png", np.zeros_like(ids) if blank else ids)
                save(labels / f"{stem}_gtFine_color.png", np.zeros((*size, 4), np.uint8))
                maps[stem] = None if blank else np.vectorize(lambda i: CITY_IDS.get(int(i), -1))(ids).astype(np.int32)
    return maps


def coco(root):
    """Images of differing sizes, one of them grey; five captions for one, two for the others."""
    rng, maps = np.random.default_rng(2), {}
    classes = [v for v in range(182) if v not in (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)]
    for split, numbers in {"train": (9, 25, 30), "val": (139, 285)}.items():
        annotations = []
        for i in numbers:
            size, name = ((12, 16), (16, 10))[i % 2], f"{i:012d}"
            layout = rng.integers(-1, 171, size).astype(np.int32)
            values = np.where(layout < 0, 255, np.array(classes)[layout]).astype(np.uint8)
            save(root / f"{split}2017" / f"{name}.jpg", picture(rng, size) if i != 30 else picture(rng, size)[..., 0])
            save(root / "stuffthingmaps" / f"{split}2017" / f"{name}.png", values)
            captions = [f"caption {n} of {i}. " for n in range(5 if i == 9 else 2)]
            annotations += [{"image_id": i, "id": 10 * i + n, "caption": c} for n, c in enumerate(captions)]
            maps[name] = layout
        content = {"info": {}, "images": [{"id": i, "file_name": f"{i:012d}.jpg"} for i in numbers]}
        text(root / "annotations" / f"captions_{split}2017.json", json.dumps({**content, "annotations": annotations}))
    return maps


def camvid(root, size=(12, 16), each=3):
    rng, maps = np.random.default_rng(3), {}
    for split in ("train", "val", "test"):
        for i in range(each):
            ids = rng.integers(0, 12, size).astype(np.uint8)
            save(root / split / f"{split}{i}.png", picture(rng, size))
            save(root / f"{split}annot" / f"{split}{i}.png", ids)
            maps[f"{split}{i}"] = np.where(ids == 11, -1, ids.astype(np.int32))
    return maps


def folder(root, num=12, size=(6, 8), **fields):
    """Every sixth example has no image, every fourth no layout, every third no caption; layouts in both forms."""
    rng, maps = np.random.default_rng(4), {}
    table = {"names": ["sky", "left", "right"], "colors": COLORS, "swaps": [["left", "right"]], "void_color": [9, 9, 9]}
    text(root / "labels.json", json.dumps(table | fields))
    captions = {}
    for i in range(num):
        name, layout = f"scene.{i:03d}", rng.integers(-1, 3, size).astype(np.int32)
        if i % 6 != 5:
            save(root / "images" / f"{name}.{'jpg' if i % 2 else 'png'}", picture(rng, size))
        if i % 4 != 3 or i % 6 == 5:
            colors = np.array([*COLORS, [9, 9, 9]], np.uint8)[layout]
            save(root / "layouts" / f"{name}.png", colors if i % 2 else (layout % 256).astype(np.uint8))
        if i % 3 != 1:
            captions[f"{name}.png"] = [f"scene {i}", f"number {i}"]
        maps[name] = layout if i % 4 != 3 or i % 6 == 5 else None
    jsonl(root / "captions.jsonl", captions)
    return maps
