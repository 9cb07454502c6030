"""Data preparation: read, check and write every example of a source once, into files for random access.

    plan       the selection of examples and of their sides
    examples   from the files of an example to its bytes
    shards     files of examples, and the log from which a preparation resumes
    tally      counts
    finish     report, lists of names, metadata
    embed      features of captions

The shard of an example depends on its place in the list alone. A preparation that was stopped resumes with the shards
that are missing, and writes the same bytes as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gcdiff.data.prepare.examples import make
from gcdiff.data.prepare.finish import Picture, finish
from gcdiff.data.prepare.plan import Job, Options, Plan, make_plan
from gcdiff.data.prepare.shards import Entry, append_to_log, begin, clear_unfinished, in_order, write_log, write_shard
from gcdiff.data.prepare.tally import Tally, table
from gcdiff.data.prepared import LOG_FILE, METADATA
from gcdiff.data.source import Source, refuse

__all__ = ["Options", "prepare", "table"]

PER_SHARD = 256
"""Examples in a shard: at most so many are prepared again when a preparation resumes."""
THREADS = 4
VERSION = 1

Progress = Callable[[int, int], None]


def prepare(
    source: Source,
    out: Path,
    options: Options | None = None,
    skip_bad: bool = False,
    progress: Progress = lambda done, total: None,
    picture: Picture | None = None,
    per_shard: int = PER_SHARD,
) -> dict:
    """Write a directory of prepared data, or resume one, and return its report.

    The first example that is wrong raises a ValueError, one line that names the file; finished shards stay, and the
    same call resumes after them. With `skip_bad` such examples are left out and listed in the report, and a split of
    which none is left, unless it is train.
    `progress(done, total)` is called after every example; `picture` draws contact_sheet.png from the first split.
    Raises ValueError for a folder that holds something else, or that was begun for other examples or options.
    """
    options, faults = options or Options(), []
    plan = make_plan(source, source.splits(faults.append if skip_bad else refuse), options)
    header = _header(source, plan, options, per_shard)
    logged, shards = begin(out, header), _shards(source.name, plan, per_shard)
    total = sum(len(jobs) for jobs in plan.splits.values())
    created = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        clear_unfinished(out)
        entries = _write(source, out, options, shards, logged, header, skip_bad, lambda done: progress(done, total))
    except BaseException:
        if created and not any(out.iterdir()):
            out.rmdir()
        raise
    by_split = {name: [entries[f] for split, f, _ in shards if split == name] for name in plan.splits}
    for split, split_entries in tuple(by_split.items()):
        if not any(entry.shard.examples for entry in split_entries):
            said = f"every example of {split} is faulty; the first: {split_entries[0].faults[0][1]}"
            if split == "train" or len(by_split) == 1:
                raise ValueError(said)
            faults += [said, *(fault for entry in split_entries for _, fault in entry.faults)]
            del by_split[split], plan.splits[split]
            for entry in split_entries:
                (out / entry.shard.file).unlink()
    if options.limit is None:
        try:
            _check_values(source, [entry.tally for entry in entries.values()])
        except ValueError:
            _remove(out, entries, created)
            raise
    return finish(out, source, plan, options, by_split, faults, picture)


def _check_values(source: Source, tallies: list[Tally]) -> None:
    """Raise ValueError where all layouts hold class 0 and void alone: black and white masks of a class, in which 255 is
    not void."""
    labels, total = source.labels, Tally.empty(source.labels)
    for tally in tallies:
        total.add(tally)
    void, first, *others = total.pixels.tolist()
    meant = (labels.void, labels.void_id) != ("missing", 255) or "255" in (source.options.get("ids") or {})
    if void and first and not any(others) and not meant:
        said = f"all layouts of {source.name} hold 0 and 255 alone, which are {labels.names[0]} and void"
        black, white = labels.names[:2] if others else ("void", labels.names[0])
        ids = f'"ids": {{"0": "{black}", "255": "{white}"}} in labels.json'
        other = "save them with 1" if others else f'"ids": {{"0": "{white}", "255": "void"}} where 255 is unknown'
        raise ValueError(f"{said}: for black and white masks of {white} write {ids}, or {other}")


def _remove(out: Path, entries: dict[str, Entry], created: bool) -> None:
    """Remove shards that were made with a table of classes that is wrong, so that the mended one can be used."""
    for name in (*METADATA, LOG_FILE, *entries):
        (out / name).unlink(missing_ok=True)
    if created and not any(out.iterdir()):
        out.rmdir()


def _write(source, out, options, shards, logged, header, skip_bad, progress) -> dict[str, Entry]:
    """Write the missing shards, each logged when it is finished; at the end the log is rewritten in order."""
    entries: dict[str, Entry] = {}
    kept = {f: logged[f] for _, f, jobs in shards if f in logged and logged[f].holds(out, len(jobs), skip_bad)}
    kept = {f: kept[f] for _, f, jobs in shards if f in kept and not _changed(out / f, jobs)}
    done = sum(len(jobs) for _, file, jobs in shards if file in kept)
    if logged:
        write_log(out, header, logged.values())  # drops a line that a kill cut short
        progress(done)

    def counted(results: Iterator) -> Iterator[tuple[str, tuple[bytes, Tally] | str]]:
        nonlocal done
        for job, result in results:
            yield job.item.key, result
            done += 1
            progress(done)

    def prepared(job: Job) -> tuple[bytes, Tally] | str:
        try:
            return make(source, job, options)
        except (ValueError, OSError) as error:
            return str(error)

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prepare")
    try:
        for _, file, jobs in shards:
            if file in kept:
                entries[file] = kept[file]
                continue
            entries[file] = write_shard(out / file, counted(in_order(pool, prepared, jobs)), source.labels, skip_bad)
            if logged or len(entries) > 1:
                append_to_log(out, entries[file])
            else:
                write_log(out, header, entries.values())
    finally:
        pool.shutdown(cancel_futures=True)
    write_log(out, header, entries.values())
    return entries


def _changed(shard: Path, jobs: list[Job]) -> bool:
    """Whether a file of an example was written after the shard: the example is then made again."""
    written = shard.stat().st_mtime
    files = (f for job in jobs for f in (job.item.image, *job.item.layout) if f is not None)
    return any(f.stat().st_mtime > written for f in files if f.is_file())


def _shards(name: str, plan: Plan, per_shard: int) -> list[tuple[str, str, list[Job]]]:
    """(split, file name, examples) of all shards."""
    shards = []
    for split, jobs in plan.splits.items():
        count = -(-len(jobs) // per_shard)
        for i in range(count):
            file = f"{name}-{split}.array_record-{i:05d}-of-{count:05d}"
            shards.append((split, file, jobs[i * per_shard : (i + 1) * per_shard]))
    return shards


def _header(source: Source, plan: Plan, options: Options, per_shard: int) -> dict:
    """The first line of the log. A directory is resumed only by a call with an equal header."""
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    own = {"version": VERSION, "name": source.name, "per_shard": per_shard, "listing": plan.fingerprint()}
    return {**own, **values, **source.options}
