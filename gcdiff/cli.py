"""The command line: gcdiff train | sample | segment | synthesize | outpaint.

Bad input gives one line on stderr and exit status 2; nothing half-written stays behind.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import gcdiff

EPILOG = """examples:
  gcdiff train --config configs/streets.py --workdir runs/streets --config.train.steps=2000
  gcdiff sample --workdir runs/streets --text "a foggy street with two red cars" --num 8 --out samples
  gcdiff segment --workdir runs/streets --images photos --out layouts
  gcdiff synthesize --workdir runs/streets --layouts layouts --text "a street at night" --out images
  gcdiff outpaint --workdir runs/streets --images photos --layouts layouts --known masks --out filled
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = []
    for word in rest:
        field, equals, value = word.removeprefix("--config.").partition("=")
        if arguments.command != "train" or not word.startswith("--config.") or not equals:
            parser.error(f"unknown argument {word}")
        overrides.append((field, value))
    try:
        _cache_compilations(arguments.workdir)
        return COMMANDS[arguments.command](arguments, overrides)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("GCDIFF_TRACEBACK"):
            raise
        print(f"gcdiff {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"gcdiff {arguments.command}: {interrupt or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(interrupt, "signum", 2)


def _cache_compilations(workdir: Path) -> None:
    """Keep compiled programs in the run directory (unless the environment names another place): later starts are
    faster."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        import jax

        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / ".compiled"))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    description = "An image and its semantic layout as one random variable: every direction from one model."
    parser = argparse.ArgumentParser("gcdiff", description=description, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=gcdiff.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=raw)
        sub.add_argument("--workdir", required=True, type=Path, help="the run directory")
        return sub

    train = command("train", "train a model, or go on with one: the same command resumes where it stopped")
    train.add_argument("--config", required=True, help="FILE.py or FILE.py:ARG with a get_config function")
    train.add_argument("--init", type=Path, help="start from the weights of another run; classes match by name")
    train.epilog = "--config.FIELD=VALUE sets one field of the config, for example --config.train.steps=2000"

    def draws(name: str, text: str) -> argparse.ArgumentParser:
        sub = command(name, text)
        sub.add_argument("--out", required=True, type=Path, help="the folder for the PNGs")
        sub.add_argument("--text", help="a caption")
        sub.add_argument("--steps", type=int, help="network calls a sample (default: the run's)")
        sub.add_argument("--seed", type=int, default=0)
        return sub

    sample = draws("sample", "draw labelled images from text")
    sample.add_argument("--num", type=int, default=1, help="how many")
    segment = draws("segment", "the layout of every image of a folder")
    synthesize = draws("synthesize", "an image for every layout of a folder")
    outpaint = draws("outpaint", "the unknown pixels of images and layouts, given the known ones")
    for sub, required in ((segment, True), (outpaint, False)):
        sub.add_argument("--images", type=Path, required=required, help="a folder of images")
    for sub, required in ((synthesize, True), (outpaint, False)):
        sub.add_argument("--layouts", type=Path, required=required, help="a folder of label PNGs (index or grey)")
    outpaint.add_argument(
        "--known", type=Path, required=True, help="a folder of mask PNGs, named alike: white is known"
    )
    for sub in (sample, synthesize, outpaint):
        sub.add_argument("--guidance", type=float, help="text guidance scale (default: the run's; 1 is none)")
    return parser


def _train(arguments, overrides) -> int:
    from gcdiff import config as configs
    from gcdiff.training.loop import train

    config = configs.load_file(arguments.config, overrides)
    workdir = arguments.workdir
    _check_writable(workdir)
    data = configs.splits(config)
    specs = configs.build_specs(config, data.train)
    initial = None
    if arguments.init is not None:
        initial, report = configs.initial_from(arguments.init, config, specs)
        print(report, file=sys.stderr)
    task = configs.build_task(config, specs, data, initial)
    configs.save_run(workdir, config, specs)
    train(task, configs.batches(config, specs, data), workdir, configs.train_config(config))
    return 0


def _sample(arguments, _) -> int:
    model = _model(arguments)
    with _bar(model, arguments, arguments.num) as progress:
        pair = model.sample(
            arguments.text, arguments.num, arguments.steps, arguments.guidance, arguments.seed, progress=progress
        )
    return _save(arguments, model, pair, [f"{i:05d}" for i in range(arguments.num)])


def _segment(arguments, _) -> int:
    from gcdiff.data.reader import read_images
    from gcdiff.types import Pair

    model = _model(arguments)
    found = read_images(arguments.images)
    steps = arguments.steps or 1
    layouts = []
    with _bar(model, arguments, len(found), steps - 1) as progress:
        for group in _groups(found):
            layouts += list(
                model.segment(_stack(group), arguments.text, steps=steps, seed=arguments.seed, progress=progress)
            )
    images, names = [x for _, x in found], [n for n, _ in found]
    return _save(arguments, model, Pair(images, layouts), names)


def _synthesize(arguments, _) -> int:
    from gcdiff.data.reader import read_layouts
    from gcdiff.types import Pair

    model = _model(arguments)
    found = read_layouts(arguments.layouts, model.labels)
    images = []
    with _bar(model, arguments, len(found)) as progress:
        for group in _groups(found):
            images += list(
                model.synthesize(
                    _stack(group), arguments.text, arguments.steps, arguments.guidance, arguments.seed, progress
                )
            )
    return _save(arguments, model, Pair(images, [y for _, y in found]), [n for n, _ in found])


def _outpaint(arguments, _) -> int:
    import numpy as np

    from gcdiff.data.reader import read_images, read_layouts, read_masks
    from gcdiff.types import Pair

    if arguments.images is None and arguments.layouts is None:
        raise ValueError("expected --images, --layouts or both")
    model = _model(arguments)
    masks = dict(read_masks(arguments.known))
    sides = {}
    if arguments.images is not None:
        sides["image"] = dict(read_images(arguments.images))
    if arguments.layouts is not None:
        sides["layout"] = dict(read_layouts(arguments.layouts, model.labels))
    names = sorted(masks)
    for side, found in sides.items():
        for name in names:
            if name not in found:
                raise ValueError(f"mask {name} in {arguments.known} has no {side} of that name")
            for array in (masks[name], found[name][..., 0] if side == "image" else found[name]):
                if array.shape != model.size:
                    raise ValueError(f"{name}: size {array.shape} (rows, columns), expected the model's {model.size}")
    known = np.stack([masks[n] for n in names])
    pair = Pair(**{side: np.stack([found[n] for n in names]) for side, found in sides.items()})
    with _bar(model, arguments, len(names)) as progress:
        out = model.outpaint(
            pair, Pair(known, known), arguments.text, arguments.steps, arguments.guidance, arguments.seed, progress
        )
    return _save(arguments, model, out, names)


COMMANDS = {"train": _train, "sample": _sample, "segment": _segment, "synthesize": _synthesize, "outpaint": _outpaint}


def _model(arguments):
    _check_writable(arguments.out)
    model = gcdiff.load(arguments.workdir)
    if arguments.text is not None and model.specs.vocabulary is not None:
        unknown = model.specs.vocabulary.unknown([arguments.text])
        if unknown:
            print(f"words this model has never seen: {', '.join(unknown)}", file=sys.stderr)
    return model


def _groups(found):
    """Consecutive entries of one size, at most 64 at a time."""
    group = []
    for name, array in found:
        if group and (array.shape != group[0][1].shape or len(group) == 64):
            yield group
            group = []
        group.append((name, array))
    yield group


def _stack(group):
    import numpy as np

    return np.stack([array for _, array in group])


def _check_writable(folder: Path) -> None:
    """Make sure, before anything else is done, that files can be written to a folder that may not exist yet."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder to write to")
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from None


def _bar(model, arguments, num: int, steps: int | None = None):
    """A progress bar over network steps, one a chunk and step."""
    from gcdiff.training.writer import progress_bar

    size = model.config.sample.chunk
    if steps is None:
        steps = arguments.steps or model.config.sample.steps
    return progress_bar(-(-num // size) * steps, "step")


def _save(arguments, model, pair, names) -> int:
    """Write the PNGs beside the folder first and move them in when all are there."""
    from gcdiff.codecs import save_pairs

    out = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        save_pairs(Path(folder), pair.image, pair.layout, model.labels, model.image, names)
        out.mkdir(exist_ok=True)
        files = sorted(Path(folder).iterdir())
        for file in files:
            file.replace(out / file.name)
    print(f"{len(names)} example(s), {len(files)} files in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
