"""The parser of the command line: commands, arguments and the text of --help."""

from __future__ import annotations

import argparse
from pathlib import Path

import gcdiff
from gcdiff.cli.checkpoint import add_parser as add_checkpoint
from gcdiff.cli.embed import add_parser as add_embed
from gcdiff.cli.generate import EPILOG as GENERATED
from gcdiff.cli.generate import add_arguments as add_generate
from gcdiff.cli.measure import add_arguments as add_report
from gcdiff.cli.prepare import add_parser as add_prepare
from gcdiff.cli.processes import add_arguments as add_processes

EXAMPLES = """\
  gcdiff train --config configs/streets.py --workdir runs/streets --config.train.steps=2000
  gcdiff sample --workdir runs/streets --text "a foggy street with two red cars" --num 8 --out samples
  gcdiff segment --workdir runs/streets --images samples --out segmented
  gcdiff synthesize --workdir runs/streets --layouts segmented --text "a nighttime street" --out synthesized
  gcdiff outpaint --workdir runs/streets --images samples --layouts samples --known masks --out outpainted
"""
OUTPUT = """\
what is written to --out, for every example NAME:
  images/NAME.png    the image
  layouts/NAME.png   its layout: the value of a pixel is the number of its class (an index PNG)
  colors/NAME.png    its layout in the colours of the classes
  overview.png       the first 16 examples side by side: image, layout, layout over image
"""
INPUT = "a folder, or what another command wrote: then the files in its {0}/ are taken"
DIALS = """\
--config.sample.FIELD=VALUE sets how it is drawn, for example --config.sample.image_step=dpm++; the run of --upsample
draws as it recommends itself, with --steps and --guidance where they are given\
"""
RUN = "the run directory, an export, or the name of a shipped model"
EPILOG = f"""examples, each of which goes on with what the ones before it wrote (masks are yours to draw):
{EXAMPLES}
{OUTPUT}
gcdiff COMMAND --help says more about a command. Bad input ends with one line and exit status 2; with GCDIFF_TRACEBACK=1
in the environment the whole traceback is shown.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; arguments --config.FIELD=VALUE are left to its caller."""
    raw = argparse.RawDescriptionHelpFormatter
    description = "An image and its semantic layout as one random variable: every direction from one model."
    root = argparse.ArgumentParser("gcdiff", description=description, epilog=EPILOG, formatter_class=raw)
    root.add_argument("--version", action="version", version=gcdiff.__version__)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def command(name: str, text: str, epilog: str, place=RUN) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text}.", epilog=epilog, formatter_class=raw)
        sub.add_argument("--workdir", required=True, type=Path, metavar="DIR", help=place)
        return sub

    train = command(
        "train",
        "Train a model, or go on with one: the same command resumes where it stopped",
        "--config.FIELD=VALUE sets one field of the config, for example --config.train.steps=2000;\n"
        "a field that does not exist is answered with those near it.",
        "the run directory",
    )
    train.add_argument("--config", required=True, metavar="FILE.py[:ARG]", help="a file with a get_config([ARG])")
    train.add_argument(
        "--init",
        type=Path,
        metavar="DIR",
        help="another run, an export or a shipped model: weights to start from; classes match by name",
    )

    train.add_argument(
        "--profile",
        type=int,
        nargs="?",
        const=5,
        default=0,
        metavar="N",
        help="trace N steps (default: 5) into DIR/profile",
    )
    events = "write events for TensorBoard too, as --config.train.tensorboard=true does"
    train.add_argument("--tensorboard", action="store_true", help=events)
    train.add_argument(
        "--seeds", metavar="0,1,2", help="a run for each seed, in DIR/seed-S, side by side where there are devices"
    )

    imported = commands.add_parser(
        "import-gcdp",
        help="Turn a checkpoint of the paper's released trainer into a run",
        description="Read a PyTorch checkpoint of the paper's released trainer, its averaged weights where there are\n"
        "any, and write a run directory that the other commands take. Needs torch: pip install 'gcdiff[torch]'.",
        formatter_class=raw,
    )
    imported.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.pt")
    imported.add_argument("--dataset", required=True, choices=("celeba", "cityscapes"), help="whose classes it has")
    imported.add_argument("--out", required=True, type=Path, metavar="RUN", help="the run directory to make")
    imported.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="of what it draws (default: the data set's)"
    )
    imported.add_argument("--unet", type=int, metavar="N", help="which network, where the file has several")

    add_prepare(commands, raw)
    add_embed(commands, raw)
    add_checkpoint(commands, raw)

    evaluate = command(
        "evaluate",
        "Measure a model on the held-out examples of its data set",
        "Segmentation in one call: mIoU, pixel accuracy, calibration, negative log-likelihood; with --likelihood\n"
        "upper bounds on -log p of pairs, of their sides and of each given the other, along three paths, in\n"
        "continuous time or on a finite grid. With --metrics or --sweep a report: every number beside that of real\n"
        "examples, as report.html, report.json and a table.",
    )
    add_report(evaluate)
    evaluate.add_argument("--num", type=int, default=256, help="how many examples (default: 256)")
    evaluate.add_argument("--likelihood", action="store_true", help="bounds on -log p too: slower")
    evaluate.add_argument("--draws", type=int, help="random levels per example and bound (default: 8, of a report 4)")
    evaluate.add_argument(
        "--log-snr-max", type=float, metavar="L", help="where the bounds' last step begins (default: the best of a few)"
    )
    evaluate.add_argument(
        "--grid", type=int, metavar="N", help="bounds of sampling in N steps (default: of continuous time)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of the random levels (default: 0)")
    upsampled = "a super-resolution run, export or shipped one that goes on from this one's answers, at its larger size"
    evaluate.add_argument("--upsample", type=Path, metavar="RUN", help=f"{upsampled}; measured on that run's data")
    evaluate.add_argument("--root", help="where the data are (default: where the run found them)")
    evaluate.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="the file for the numbers as JSON (default: evaluation.json in the run directory, with --upsample in that "
        "one); the folder for a report (default: report there); of a shipped model NAME-evaluation.json and "
        "NAME-report in the current folder",
    )

    def draws(name: str, text: str, steps: str = "the run's own number") -> argparse.ArgumentParser:
        sub = command(name, text, f"{OUTPUT}\n{DIALS}")
        sub.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder for the PNGs")
        sub.add_argument("--text", help="a caption for all examples (default: none)")
        sub.add_argument("--steps", type=int, help=f"network calls an example (default: {steps})")
        sub.add_argument("--seed", type=int, default=0, help="another seed gives other answers (default: 0)")
        sub.add_argument("--upsample", type=Path, metavar="RUN", help=upsampled)
        return sub

    sample = draws("sample", "Draw images with their layouts, from text")
    sample.add_argument("--num", type=int, default=1, help="how many (default: 1)")
    segment = draws(
        "segment",
        "The layout of every image of a folder, of any sizes",
        "1, the most probable classes; with --vote the run's own",
    )
    synthesize = draws("synthesize", "An image for every layout of a folder")
    outpaint = draws("outpaint", "The unknown pixels of images, layouts or both, given the known ones")
    for sub, required in ((segment, True), (outpaint, False)):
        text = f"the images, PNG, JPEG, TIFF, WebP, BMP or GIF: {INPUT.format('images')}"
        sub.add_argument("--images", type=Path, metavar="DIR", required=required, help=text)
    for sub, required in ((synthesize, True), (outpaint, False)):
        text = f"the layouts, index or grey PNGs or other files without loss: {INPUT.format('layouts')}"
        sub.add_argument("--layouts", type=Path, metavar="DIR", required=required, help=text)
    known = "masks, PNGs named like what they are for, all of one size, the model's or larger; white is known"
    outpaint.add_argument("--known", type=Path, metavar="DIR", required=True, help=known)
    sample.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="a larger canvas, filled by overlapping windows"
    )
    segment.add_argument(
        "--windows", action="store_true", help="cover an image by windows of the model's size instead of resizing it"
    )
    segment.add_argument(
        "--vote", type=int, metavar="N", help="draw N layouts of each image and take the class drawn most often"
    )
    segment.add_argument(
        "--entropy", action="store_true", help="write entropy/NAME.png too: black is certain, white one bit or more"
    )
    synthesize.add_argument(
        "--confidence", type=float, metavar="C", help="follow the layouts loosely: keep a label with probability C"
    )
    synthesize.add_argument(
        "--evidence", action="store_true", help="the layouts are noisy observations, each pixel right by --confidence"
    )
    synthesize.add_argument(
        "--region-confidence", type=float, metavar="C", help="keep a whole region with probability C, or forget it"
    )
    outpaint.add_argument(
        "--resamples", type=int, metavar="N", help="RePaint with N repetitions of a step (default: levels)"
    )
    generate = command("generate", "Draw a data set: pairs from text, judged, counted and ready to train on", GENERATED)
    add_generate(generate)
    length = "average the weights over another length: its standard deviation over the training's, as in 0.07 (default:"
    drawing = (sample, segment, synthesize, outpaint)
    for sub in (evaluate, *drawing, generate):
        sub.add_argument("--ema", type=float, metavar="S", help=f"{length} the usual average)")
        encoder = "where the pretrained text encoder is, a directory or a hub id (default: where the run found it)"
        sub.add_argument("--encoder", metavar="DIR", help=encoder)
    for sub in (evaluate, *drawing):
        sub.add_argument(
            "--lowres-level", type=float, metavar="T", help="noise on what --upsample goes on from (default: its run's)"
        )
    for sub in (train, evaluate, *drawing, generate):
        add_processes(sub)
    for sub in (sample, synthesize, outpaint):
        sub.add_argument(
            "--guidance", type=float, help="how strongly to follow the text; 1 is plain (default: the run's)"
        )
    return root
