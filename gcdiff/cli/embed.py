"""gcdiff embed: encode the captions of a prepared data set by a pretrained encoder, before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gcdiff.cli.files import leads, writable
from gcdiff.cli.processes import add_arguments as add_processes

BLOCK = 4096
"""How many captions are turned into tokens at a time."""
EPILOG = """\
what is written to --out: every distinct caption and its features in bfloat16, of its tokens alone, with the encoder's
id and revision (embeddings.json). Training reads it:
  gcdiff train --config FILE.py --workdir RUN --config.text.encoder=pretrained --config.data.embeddings=OUT
No caption is cut: one that is longer than --limit is an error. It may be interrupted: the same command goes on."""


def add_parser(commands, formatter) -> None:
    """Add the command and its arguments to the parser."""
    text = "Encode the captions of a prepared data set by T5 or CLIP"
    sub = commands.add_parser("embed", help=text, description=f"{text}.", epilog=EPILOG, formatter_class=formatter)
    sub.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="what gcdiff prepare has written")
    sub.add_argument(
        "--encoder", required=True, metavar="ID", help="a directory, or an id of the hub such as google/t5-v1_1-large"
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="the folder to write (default: embeddings in --dataset)")
    sub.add_argument("--limit", type=int, metavar="N", help="the most tokens of a caption (default: 256; CLIP: 77)")
    sub.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the encoder's products")
    add_processes(sub)


def embed(arguments) -> int:
    """Write the features of all captions, or go on with them; of several processes, all encode and one writes."""
    from gcdiff.data.embeddings import Encoder
    from gcdiff.data.prepare.embed import write_embeddings
    from gcdiff.jobs.progress import job_progress
    from gcdiff.text.encoder import load_encoder

    out = arguments.dataset / "embeddings" if arguments.out is None else arguments.out
    if arguments.limit is not None and arguments.limit < 1:
        raise ValueError(f"--limit is {arguments.limit}, expected at least 1")
    captions, counts = _captions(arguments.dataset)
    writable(out)
    encoder = load_encoder(arguments.encoder, dtype=arguments.dtype, limit=arguments.limit)
    longest = _check_lengths(encoder, captions)
    lengths = f"the longest has {longest} tokens, the limit is {encoder.limit}"
    say = print if leads() else lambda text: None
    say(f"{counts}, {len(captions)} distinct ones; {lengths}")
    here = Path(arguments.encoder)
    model = str(here.resolve()) if here.is_dir() else encoder.model_id
    spec = Encoder(model, encoder.revision, encoder.features)
    try:
        with job_progress("caption") as progress:
            write_embeddings(out, captions, spec, encoder.encode, progress, arguments.dtype)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on from the shards that are finished") from None
    say(f"written to {out}")
    return 0


def _captions(root: Path) -> tuple[list[str], str]:
    """The distinct captions of all splits, sorted, and a line that says how many examples have some."""
    from gcdiff.data.prepared import Prepared, read_spec

    spec, distinct, captioned, total = read_spec(root), set(), 0, 0
    for name in spec.splits:
        data = Prepared(root, name, spec)
        for i in range(len(data)):
            captions = data.record(i).captions
            distinct.update(captions)
            captioned += bool(captions)
        total += len(data)
    if not distinct:
        raise ValueError(f"{root}: none of {total} examples has a caption")
    return sorted(distinct), f"{captioned} of {total} examples have captions"


def _check_lengths(encoder, captions: list[str]) -> int:
    """The number of tokens of the longest caption. Raises ValueError where it has more than the limit."""
    lengths = np.concatenate([encoder.lengths(captions[i : i + BLOCK]) for i in range(0, len(captions), BLOCK)])
    worst, over = int(lengths.argmax()), int((lengths > encoder.limit).sum())
    if over:
        count = f"{over} of {len(captions)} captions have more than {encoder.limit} tokens"
        raise ValueError(f"{count}, none is cut; the longest has {lengths[worst]}: {captions[worst]!r}")
    return int(lengths[worst])
