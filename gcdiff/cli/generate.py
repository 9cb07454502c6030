"""gcdiff generate: draw a data set of images and layouts by a model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gcdiff.cli.draw import load_model
from gcdiff.cli.files import cache_compilations, leads, writable
from gcdiff.cli.rundata import data_of, stored_features
from gcdiff.cli.subject import takes_captions
from gcdiff.cli.words import name_unseen_words
from gcdiff.shipped import is_shipped

AUDITED, HELDOUT, LOOKED_AT = 30_000, 512, 16
"""The default number of training examples that pairs are compared with; the most held-out ones that set the limits; the
most training examples in the data set's fingerprint."""
EPILOG = """\
what is written to --out, for every pair NAME that is kept:
  images/NAME.png, layouts/NAME.png    the image, and its layout as an index PNG; captions.jsonl, labels.json: a folder
                                       that gcdiff prepare folder --source OUT reads
  panoptic/NAME.png, panoptic.json     segments as COCO has them, one for each class
  confidence/NAME.png                  255 times the probability of each label under the model's one-call segmentation
  index.csv                            files, caption, confidence, agreement and class areas of every pair
  report.json, DATA_LICENCE.txt        counts, agreement, class frequencies; the licence of the training data
It may be interrupted: the same command goes on, and ends with the same files.
--config.sample.FIELD=VALUE sets how it is drawn"""


def add_arguments(sub) -> None:
    """Add the arguments of the command to the parser."""
    sub.add_argument("--num", required=True, type=int, metavar="N", help="how many pairs are kept")
    sub.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write")
    captions = "captions, one a line, taken in turn (default: drawn from the run's training data)"
    sub.add_argument("--captions", type=Path, metavar="FILE", help=captions)
    balance = "draw captions by the rarest of their classes, so that rare classes appear about equally often"
    sub.add_argument("--balance", choices=("rare",), help=balance)
    agreement = "keep a pair if its layout has at least this mIoU with the model's own segmentation of its image"
    sub.add_argument("--min-agreement", type=float, metavar="A", help=agreement)
    audit = f"refuse copies: pairs too near to one of N training examples (default: {AUDITED}; 0: all)"
    sub.add_argument("--audit", type=int, nargs="?", const=AUDITED, metavar="N", help=audit)
    quantile = "the share of held-out examples that the audit would refuse (default: 0.01)"
    sub.add_argument("--audit-quantile", type=float, default=0.01, metavar="Q", help=quantile)
    tries = "give up when T times --num pairs are drawn (default: 10)"
    sub.add_argument("--max-tries", type=int, default=10, metavar="T", help=tries)
    sub.add_argument("--steps", type=int, help="network calls a pair (default: the run's own number)")
    sub.add_argument("--guidance", type=float, help="how strongly to follow the text (default: the run's)")
    sub.add_argument("--seed", type=int, default=0, help="another seed gives other pairs (default: 0)")
    sub.add_argument("--root", help="where the run's training data are (default: where the run found them)")


def generate(arguments) -> int:
    """Draw a data set, or go on with one; returns the exit status."""
    from gcdiff.factory.captions import pool
    from gcdiff.factory.finish import finish, table
    from gcdiff.factory.judge import Judge
    from gcdiff.factory.make import Pairs, Request
    from gcdiff.jobs.progress import job_progress
    from gcdiff.jobs.resumable import run_together

    _check(arguments)
    writable(arguments.out)
    model = load_model(arguments)
    segments = model.built.levels.layout_given_image > 0 and model.built.levels.one_call > 0
    if arguments.min_agreement is not None and not segments:
        raise ValueError(f"--min-agreement: {arguments.workdir} was not trained to segment in one call")
    if model.built.conditions.lowres is not None:
        raise ValueError(f"{arguments.workdir} is a super-resolution stage: expected its base's --workdir")
    data = _data(arguments, model)
    candidates = None if data is None else pool(data.train, arguments.balance is not None)
    captions, texts = _captions(arguments, model, data, candidates)
    say = print if leads() else lambda text: None
    say(f"captions: {'none' if captions is None else captions.said}")
    audit = None if arguments.audit is None else _audit(arguments, model, data)
    cache_compilations(arguments.workdir)
    header = _header(arguments, model, data)
    most = arguments.num * arguments.max_tries
    request = Request(
        arguments.num, most, arguments.seed, arguments.steps, arguments.guidance, captions, texts, segments
    )
    training = None if candidates is None or not len(candidates.shows) else candidates.shows.mean(axis=0)
    command = {**header, "captions": "none" if captions is None else captions.said}

    def end(place, rows) -> None:
        say(table(finish(place, rows, model.size, model.specs.licence, command, training, audit)))

    pairs = Pairs(model, request, Judge(arguments.min_agreement, audit), header, end)
    try:
        with job_progress("pair", values=lambda drawn: {"drawn": drawn}, quiet=not leads()) as progress:
            run_together(pairs, arguments.out, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on from the pairs that are written") from None
    say(f"written to {arguments.out}: gcdiff prepare folder --source {arguments.out} reads it")
    return 0


def _check(arguments) -> None:
    """Raise ValueError for numbers out of their range."""
    from gcdiff.api.question import finite

    if arguments.guidance is not None:
        finite("--guidance", arguments.guidance)
    for name, low, high in (("min_agreement", 0, 1), ("audit_quantile", 0, 1)):
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, expected {low} to {high}")
    least = {"num": 1, "max_tries": 1, "audit": 0, "steps": 1}
    for name, low in least.items():
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, expected at least {low}")


def _data(arguments, model):
    """The run's data; None where they are missing and only the frequencies of the classes need them."""
    needed = arguments.audit is not None or arguments.root is not None
    needed |= arguments.captions is None and takes_captions(model)
    try:
        return data_of(arguments, model.config.copy_and_resolve_references(), HELDOUT)
    except (ValueError, OSError) as error:
        if needed:
            raise
        if leads():
            print(f"training data: {error}; their class frequencies are left out")
        return None


def _captions(arguments, model, data, candidates):
    """The captions of the examples (None without text), and the function that turns captions into the model's input."""
    from gcdiff import config as configs
    from gcdiff.data.captions import named_classes, nouns_of, read_lines
    from gcdiff.factory.captions import Balanced, Cycled, OfTraining

    text, seed = model.config.text, arguments.seed
    if not takes_captions(model) and (arguments.captions is not None or arguments.balance is not None):
        reason = "was trained without text" if text.encoder == "none" else "takes captions encoded: expected --encoder"
        raise ValueError(f"--{'captions' if arguments.captions else 'balance'}: {arguments.workdir} {reason}")
    if not takes_captions(model):
        return None, None
    if arguments.captions is not None:
        lines = read_lines(arguments.captions)
        name_unseen_words(model, lines)
        if not arguments.balance:
            return Cycled(lines), list
        nouns = () if data is None else nouns_of(data.train)
        names = named_classes(lines, model.labels.names, nouns)[:, : model.labels.labelled.num_classes]
        return Balanced(names, [(line,) for line in lines], seed), list
    name_unseen_words(model, None if arguments.root is None else configs.captions_of(data.train))
    stored = stored_features(model.config, model)
    texts = list if stored is None else lambda captions: stored.batch(captions, text.length)
    if arguments.balance:
        return Balanced(candidates.shows, candidates.captions, seed), texts
    return OfTraining(data.train, seed), texts


def _audit(arguments, model, data):
    """The audit against copies of training examples, each resized whole to the model's size."""
    from gcdiff.data.transforms import resize
    from gcdiff.factory.captions import evenly
    from gcdiff.factory.judge import Audit

    train, heldout = data.train, data.heldout
    if getattr(train, "split", None) == getattr(heldout, "split", ""):
        raise ValueError(f"--audit: {train.name} has no held-out examples, expected some to compare with")
    examples = (resize(train[i], model.size) for i in evenly(len(train), arguments.audit))
    others = [resize(heldout[i], model.size) for i in evenly(len(heldout), HELDOUT)]
    return Audit.of(examples, others, arguments.audit_quantile)


def _header(arguments, model, data) -> dict:
    """The description of the data set: commands with the same one make the same files."""
    sample = model.config.sample.to_dict()
    steps, guidance = sample.pop("steps"), sample.pop("guidance")
    digest = hashlib.sha256()
    for array in _leaves(model.params):
        digest.update(array.tobytes())
    captions = arguments.captions and hashlib.sha256(arguments.captions.read_bytes()).hexdigest()[:16]
    return {
        "run": str(arguments.workdir if is_shipped(arguments.workdir) else arguments.workdir.resolve()),
        "weights": digest.hexdigest()[:16],
        "num": arguments.num,
        "seed": arguments.seed,
        "steps": steps if arguments.steps is None else arguments.steps,
        "guidance": guidance if arguments.guidance is None else [arguments.guidance] * 2,
        "captions": captions or "of the training data",
        "balance": arguments.balance,
        "min_agreement": arguments.min_agreement,
        "audit": arguments.audit,
        "audit_quantile": None if arguments.audit is None else arguments.audit_quantile,
        "training_examples": None if data is None else len(data.train),
        "training_data": None if data is None else _fingerprint(data.train),
        "sample": sample,
    }


def _fingerprint(dataset) -> str:
    """A hash of some layouts and captions, which differs between data sets of the same length."""
    from gcdiff.factory.captions import evenly

    digest = hashlib.sha256()
    for i in evenly(len(dataset), LOOKED_AT):
        example = dataset[i]
        digest.update(example.layout.tobytes() + "\n".join(example.captions).encode())
    return digest.hexdigest()[:16]


def _leaves(params):
    import jax

    from gcdiff import parallel

    return jax.tree.leaves(parallel.to_host(params))
