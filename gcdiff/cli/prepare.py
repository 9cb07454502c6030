"""gcdiff prepare: turn a data set as it is distributed, or a folder, into examples to train on."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gcdiff.cli.files import writable
from gcdiff.data.builders.table import BUILDERS

OWN = ("captions", "split_by", "void", "train_val", "heldout", "labels", "layout_suffix")
"""Options of some data sets alone."""
SHOWN, CELL, NARROWEST = 8, 128, 400
"""How many examples the contact sheet shows, how large at most, and the least width of the sheet."""
EPILOG = """\
where the files of each data set have to be, and what folder takes, is in docs/data.md. Any side of an example of a
folder may be missing. What is written to --out:
  NAME-SPLIT.array_record-*    the examples; gcdiff train reads them with data.name=prepared, data.root=DIR,
                               tensorflow_datasets.builder_from_directory(DIR) without TensorFlow, too
  report.json                  how many there are of what, shares of the classes, what was left out
  contact_sheet.png            some examples: images over layouts, and the classes with their colours
  splits.json, subset.json     the names of the examples of each split, and of a subset
It may be interrupted: the same command goes on, and writes the same bytes."""


def add_parser(commands, formatter) -> None:
    """Add the command and its arguments to the parser."""
    text = "Prepare a data set for training: read, check and write every example"
    sub = commands.add_parser("prepare", help=text, description=f"{text}.", epilog=EPILOG, formatter_class=formatter)
    sub.add_argument("name", metavar="NAME", choices=tuple(BUILDERS), help=", ".join(BUILDERS))
    sub.add_argument("--source", required=True, type=Path, metavar="DIR", help="the folder with the files as they come")
    sub.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write")
    sub.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="bring all to a size (default: their own)")
    sub.add_argument("--resize", choices=("area", "lanczos"), default="area", help="how images are resized")
    sub.add_argument("--layout", choices=("majority", "nearest"), default="majority", help="how layouts are resized")
    sub.add_argument("--limit", type=int, metavar="N", help="the first N examples of each split (default: all)")
    sub.add_argument(
        "--subset", type=int, default=100, metavar="P", help="P per cent of the training examples; 25 lies within 50"
    )
    sub.add_argument(
        "--subset-of",
        choices=("examples", "captions", "layouts"),
        default="examples",
        help="what the others lose: all, or that side (default: examples)",
    )
    sub.add_argument("--seed", type=int, default=0, help="of the subset and of held-out examples (default: 0)")
    sub.add_argument("--skip-bad", action="store_true", help="leave out examples that are wrong, and list them")
    sub.add_argument(
        "--captions",
        metavar="FILE",
        help="captions as .jsonl (default: cityscapes makes them from the classes; mm_celeba_hq has celeba-caption/, "
        "and takes another folder of text files, or none; coco_stuff has annotations/, and takes another, or none)",
    )
    sub.add_argument("--split-by", choices=("official", "ids"), help="mm_celeba_hq: 24183/2993/2824, or 24000/6000")
    sub.add_argument("--void", choices=("missing", "class"), help="cityscapes: 19 classes, or 20 with void as one")
    sub.add_argument("--train-val", action="store_true", help="cityscapes: val is trained on too, as in the paper")
    sub.add_argument(
        "--heldout", type=float, metavar="SHARE", help="folder: held out at random (default: 0.1; 0: none)"
    )
    sub.add_argument(
        "--labels",
        metavar="FILE",
        help="folder: the classes, a labels.json, or ade20k or voc (default: DIR/labels.json)",
    )
    sub.add_argument(
        "--layout-suffix",
        metavar="TEXT",
        help="folder: what layouts are called beyond their images, as _mask, or --layout-suffix=-mask (default: none)",
    )


def prepare(arguments) -> int:
    """Write a directory of prepared data, or go on with one; returns the exit status."""
    from gcdiff.data.prepare import Options, table
    from gcdiff.data.prepare import prepare as run

    options = Options(
        size=None if arguments.size is None else tuple(arguments.size),
        **{name: getattr(arguments, name) for name in ("resize", "layout", "limit", "subset", "subset_of", "seed")},
    )
    writable(arguments.out)
    source = open_source(arguments)
    try:
        with contextlib.ExitStack() as shown:
            report = run(source, arguments.out, options, arguments.skip_bad, _bar(shown, "example"), contact_sheet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on from the shards that are finished") from None
    print(table(report))
    print(f"written to {arguments.out}: look at {arguments.out / 'contact_sheet.png'}")
    return 0


def _bar(shown: contextlib.ExitStack, unit: str):
    """A function of (done, total) that shows the progress of a work; `shown` closes it."""
    from gcdiff.jobs.progress import Progress

    progress = None

    def show(done: int, total: int) -> None:
        nonlocal progress
        progress = progress or shown.enter_context(contextlib.closing(Progress(total, unit)))
        progress.update(done, {})

    return show


def open_source(arguments):
    """The source of a data set. Raises ValueError for options of another one."""
    builder = BUILDERS[arguments.name]
    given = {
        option: value for option in OWN if (value := getattr(arguments, option)) is not None and value is not False
    }
    for option in given:
        if option not in builder.options:
            flag, takers = f"--{option.replace('_', '-')}", (n for n, b in BUILDERS.items() if option in b.options)
            raise ValueError(f"{flag} is of {' and '.join(takers)}, expected none for {arguments.name}")
    if not arguments.source.is_dir():
        raise ValueError(f"{arguments.source}: no such folder")
    if "seed" in builder.options:
        given["seed"] = arguments.seed
    if "labels" in builder.options and "labels" not in given:
        given["labels"] = find_labels(arguments)
    return builder.open(arguments.source, **given)


def find_labels(arguments) -> Path:
    """The labels.json of a folder; where there is none, one that is made, which is said on the screen."""
    from gcdiff.data.builders.label_maker import find_labels as find
    from gcdiff.data.source import refuse

    fault = (lambda message: None) if arguments.skip_bad else refuse  # the source names them again
    with contextlib.ExitStack() as shown:
        suffix = arguments.layout_suffix or ""
        path, lines = find(arguments.source, arguments.out, suffix, fault, _bar(shown, "layout"))
    for line in lines:
        print(line)
    return path


def contact_sheet(data):
    """A picture uint8 (h, w, 3) of some examples of a data set: images above, their layouts in colours below, and the
    classes with their colours."""
    import numpy as np

    from gcdiff.data.transforms import resize
    from gcdiff.pictures import colorize, legend, sheet

    examples = [data[int(i)] for i in np.unique(np.linspace(0, len(data) - 1, min(SHOWN, len(data))).astype(int))]
    height, width = examples[0].layout.shape
    scale = min(1.0, CELL / max(height, width))
    cell = max(1, round(height * scale)), max(1, round(width * scale))
    shown = [resize(example, cell) for example in examples]
    rows = [[e.image for e in shown], [colorize(e.layout, data.labels) for e in shown]]
    picture = sheet(rows, [f"{data.name} {data.split}: images", "layouts"], factor=max(1, CELL // max(cell)))
    names = legend(data.labels, max(NARROWEST, picture.shape[1]))
    picture = np.pad(picture, ((0, 0), (0, names.shape[1] - picture.shape[1]), (0, 0)), constant_values=255)
    return np.concatenate([picture, names])
