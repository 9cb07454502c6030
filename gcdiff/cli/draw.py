"""gcdiff sample | segment | synthesize | outpaint: write a model's answers as PNGs."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import gcdiff
from gcdiff.cli.bars import bar
from gcdiff.cli.files import cache_compilations, leads
from gcdiff.cli.places import check_older, check_output, remove_maps, say_masks, say_unasked, say_unread
from gcdiff.cli.words import name_unseen_words


def sample(arguments) -> int:
    """Draw images with their layouts, from text."""
    model, stage, place = _start(arguments)
    names = [f"{i:05d}" for i in range(arguments.num)]
    check_older(arguments.out, names)
    with _bar(arguments, model) as progress:
        pair = model.sample(
            arguments.text, arguments.num, arguments.steps, arguments.guidance, arguments.seed, progress=progress,
            size=arguments.size, upsample=stage,
        )  # fmt: skip
    return _save(arguments, stage or model, place, zip(names, *pair, strict=True))


def segment(arguments) -> int:
    """Segment every image of a folder, a round of images at a time."""
    from gcdiff.api.windows import cover
    from gcdiff.data.reader import IMAGE_SUFFIXES, image_files, read_image

    model, stage, place = _start(arguments)
    files = list(image_files(arguments.images).items())
    check_older(arguments.out, [name for name, _ in files])
    shapes = [read_image(file).shape[:2] for _, file in files]  # a bad file fails here, before anything is drawn
    say_unread(arguments.images, "images", IMAGE_SUFFIXES)
    steps, num = _segment_steps(arguments, model), len(files)  # the bar's; the model has its own default
    size = -(-num // -(-num // model.round_size))  # rounds of one size, so that they take one program
    maps: dict = {"entropy": {}} if arguments.entropy else {}

    def cost(first: int) -> int:
        """The steps of a round of images, of the model and its stage."""
        part, models = shapes[first : first + size], [m for m in (model, stage) if m is not None]
        if arguments.windows:
            counts = [len(cover(shape, models[-1].size)[1]) for shape in part]
        else:
            counts = [len(part) * (arguments.vote or 1)]
        return sum(m.cost(count, steps) for m in models for count in counts)

    def pairs(progress):
        for first in range(0, num, size):
            names, paths = zip(*files[first : first + size], strict=True)
            images = [read_image(path) for path in paths]
            layouts, entropies = _segmented(arguments, (model, stage), images, progress, first)
            if entropies is not None:
                maps["entropy"] |= dict(zip(names, entropies, strict=True))
            yield from zip(names, images, layouts, strict=True)

    with _bar(arguments, model, sum(map(cost, range(0, num, size)))) as progress:
        return _save(arguments, stage or model, place, pairs(progress), maps)


def _segment_steps(arguments, model) -> int:
    """The number of steps of a segmentation. Raises ValueError for flags that exclude each other."""
    if arguments.vote is not None and (arguments.vote < 1 or arguments.windows or arguments.entropy):
        raise ValueError(f"--vote is {arguments.vote}, expected at least 1, without --windows and --entropy")
    if arguments.steps is not None:
        return arguments.steps
    return 1 if not arguments.vote and model.built.levels.layout_given_image > 0 else model.config.sample.steps


def _segmented(arguments, models, images, progress, first: int):
    """Segment some images: their layouts, and their entropies as grey pictures uint8 (h, w), or None."""
    import numpy as np

    from gcdiff.evaluation.calibration import entropy, vote

    (model, stage), steps = models, arguments.steps
    common = {"text": arguments.text, "seed": arguments.seed, "progress": progress, "first_id": first}
    common["upsample"] = stage
    if arguments.vote:
        drawn = model.segment(images, steps, samples=arguments.vote, **common)
        return [vote(layouts[None], model.labels.num_classes)[0] for layouts in drawn], None
    if not arguments.entropy:
        return model.segment(images, steps, windows=arguments.windows, **common), None
    maps = model.segment(images, steps, probabilities=True, windows=arguments.windows, **common)
    layouts = [p.argmax(axis=-1).astype(np.int32) for p in maps]
    return layouts, [np.rint(255 * np.clip(entropy(p), 0, 1)).astype(np.uint8) for p in maps]


def synthesize(arguments) -> int:
    """Draw an image for every layout of a folder."""
    import numpy as np

    from gcdiff.data.label_maps import read_layouts
    from gcdiff.data.reader import LABEL_SUFFIXES

    model, stage, place = _start(arguments)
    named = read_layouts(arguments.layouts, model.labels, (stage or model).size)
    check_older(arguments.out, named)
    say_unread(arguments.layouts, "layouts", LABEL_SUFFIXES)
    say_masks(arguments.layouts, named.values(), model.labels)
    layouts = np.stack(list(named.values()))
    with _bar(arguments, model) as progress:
        images = model.synthesize(
            layouts, arguments.text, arguments.steps, arguments.guidance, arguments.seed, progress,
            confidence=arguments.confidence, evidence=arguments.evidence, region_confidence=arguments.region_confidence,
            upsample=stage,
        )  # fmt: skip
    return _save(arguments, stage or model, place, zip(named, images, layouts, strict=True))


def outpaint(arguments) -> int:
    """Fill in the unknown pixels of images, layouts or both."""
    import numpy as np

    from gcdiff.data.label_maps import read_layouts
    from gcdiff.data.reader import IMAGE_SUFFIXES, LABEL_SUFFIXES, image_files, read_image, read_masks
    from gcdiff.types import Pair

    if arguments.images is None and arguments.layouts is None:
        raise ValueError("expected --images, --layouts or both")
    model, stage, place = _start(arguments)
    smallest = (stage or model).size
    masks = read_masks(arguments.known)
    check_older(arguments.out, masks)
    sides, unasked, first = {}, {}, next(iter(masks))
    if arguments.images is not None:
        files = image_files(arguments.images)
        unasked[arguments.images] = files.keys() - masks.keys()
        sides["image"] = {name: read_image(file) for name, file in files.items() if name in masks}
    if arguments.layouts is not None:
        sides["layout"] = read_layouts(arguments.layouts, model.labels)
        unasked[arguments.layouts] = sides["layout"].keys() - masks.keys()
    if any(side < smallest for side, smallest in zip(masks[first].shape, smallest, strict=True)):
        wanted = f"expected at least {smallest[1]} and {smallest[0]}, the model's size"
        raise ValueError(f"mask {first} is {masks[first].shape[1]} wide and {masks[first].shape[0]} high, {wanted}")
    for side, arrays in {"mask": masks, **sides}.items():
        for name in masks:
            if name not in arrays:
                raise ValueError(f"{arguments.known}: mask {name} has no {side} of that name")
            (height, width), (rows, columns) = arrays[name].shape[:2], masks[first].shape
            if (height, width) != (rows, columns):
                wanted = f"expected {columns} and {rows}, the size of mask {first}"
                raise ValueError(f"{side} {name} is {width} wide and {height} high, {wanted}")
    given = (arguments.images, "images", IMAGE_SUFFIXES), (arguments.layouts, "layouts", LABEL_SUFFIXES)
    for folder, part, suffixes in (*given, (arguments.known, None, LABEL_SUFFIXES)):
        if folder is not None:
            say_unread(folder, part, suffixes)
    if arguments.layouts is not None:
        say_masks(arguments.layouts, sides["layout"].values(), model.labels)
    for folder, names in unasked.items():
        say_unasked(folder, names)
    known = np.stack(list(masks.values()))
    pair = Pair(**{side: np.stack([arrays[name] for name in masks]) for side, arrays in sides.items()})
    with _bar(arguments, model) as progress:
        out = model.outpaint(
            pair, Pair(known, known), arguments.text, arguments.steps, arguments.guidance, arguments.seed, progress,
            resamples=arguments.resamples, upsample=stage,
        )  # fmt: skip
    return _save(arguments, stage or model, place, zip(masks, *out, strict=True))


def load_model(arguments):
    """Load the run's model, with the fields of config.sample that the command line sets."""
    from gcdiff import config as configs

    model = gcdiff.load(arguments.workdir, arguments.ema, arguments.encoder)
    for field, text in arguments.overrides:
        configs.override(model.config, field, text)
    return model.sampling() if arguments.overrides else model


def load_stage(arguments, model):
    """Load the super-resolution stage that upsamples the model's answers; None without --upsample."""
    level = arguments.lowres_level
    if arguments.upsample is None and level is not None:
        raise ValueError(f"--lowres-level is {level}, expected --upsample RUN beside it")
    if arguments.upsample is None:
        return None
    stage = model.stage(arguments.upsample)
    return stage if level is None else stage.sampling(lowres_level=level)


def _start(arguments):
    """Load the model and its stage (or None), and check the output folder, before anything is drawn."""
    import numpy as np

    from gcdiff.pictures import to_label_ids

    place = check_output(arguments)
    model = load_model(arguments)
    stage = load_stage(arguments, model)
    cache_compilations(arguments.workdir)
    to_label_ids(np.zeros(1, np.int32), model.labels)  # are there more classes than a label PNG holds?
    return model, stage, place


def _bar(arguments, model, total: int | None = None):
    """A progress bar over all steps of an answer, or of several with `total` steps.

    Before it a line names the words that the model has never seen.
    """
    from gcdiff.api.model import UNSEEN_WORDS

    warnings.filterwarnings("ignore", UNSEEN_WORDS)
    return bar(total=total, begin=lambda: name_unseen_words(model, arguments.text))


def _save(arguments, model, place: Path, pairs, maps=None) -> int:
    """Write the PNGs into a temporary folder, and move them to --out when all are there; returns the exit status.

    `maps` are grey pictures by folder and name, complete once `pairs` are taken. A process that does not lead only
    takes the pairs.
    """
    from PIL import Image

    from gcdiff.pictures import save_pairs

    if not leads():
        for _ in pairs:
            pass
        return 0
    with tempfile.TemporaryDirectory(dir=place, prefix=".gcdiff-") as folder:
        count = save_pairs(Path(folder), pairs, model.labels, model.image, model.size)
        for part, pictures in (maps or {}).items():
            (Path(folder) / part).mkdir()
            for name, grey in pictures.items():
                Image.fromarray(grey).save(Path(folder) / part / f"{name}.png")
        if not maps:
            remove_maps(arguments.out, [file.stem for file in (Path(folder) / "layouts").iterdir()])
        for file in sorted(Path(folder).rglob("*.png")):
            target = arguments.out / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    print(f"{count} example{'s' * (count > 1)} in {arguments.out}: look at {arguments.out / 'overview.png'}")
    return 0
