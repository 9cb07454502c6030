"""Preparing a data set: every example read, checked and written once, for random access and in one order.

plan: which examples, with which sides.  examples: from files to bytes.  shards: files of examples, and the log with
which a preparation goes on.  tally: counts.  finish: report, lists of names, metadata.

The examples are split over shards by their place in the list alone. So a preparation that was stopped goes on with the
shards that are missing, and ends with the very bytes that an uninterrupted one writes.
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
from gcdiff.data.source import Source, refuse

__all__ = ["Options", "prepare", "table"]

PER_SHARD = 256
"""Examples in a shard: what is done again, at most, when a preparation goes on."""
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
    """Write a directory of prepared data, or go on with one, and return its report.

    What is wrong with an example is raised as a ValueError in one line that names the file; the shards that are
    finished stay, and the same call goes on after them. With `skip_bad` such examples are left out and listed.
    `progress(done, total)` is called after every example; `picture` draws contact_sheet.png of the first split. Raises
    ValueError for a folder that holds something else, or was begun for other examples or options.
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
    found = {name: [entries[f] for split, f, _ in shards if split == name] for name in plan.splits}
    for split, parts in found.items():
        if not any(entry.shard.examples for entry in parts):
            raise ValueError(f"no example of {split} is whole; the first: {parts[0].faults[0][1]}")
    return finish(out, source, plan, options, found, faults, picture)


def _write(source, out, options, shards, logged, header, skip_bad, progress) -> dict[str, Entry]:
    """Write the shards that are not there yet; the log names them one by one, in order at the end."""
    entries: dict[str, Entry] = {}
    kept = {f: logged[f] for _, f, jobs in shards if f in logged and logged[f].holds(out, len(jobs), skip_bad)}
    done = sum(len(jobs) for _, file, jobs in shards if file in kept)
    if logged:
        write_log(out, header, logged.values())  # without the line that was being written when it was stopped
        progress(done)

    def counted(results: Iterator) -> Iterator[tuple[str, tuple[bytes, Tally] | str]]:
        nonlocal done
        for job, result in results:
            yield job.item.key, result
            done += 1
            progress(done)

    def made(job: Job) -> tuple[bytes, Tally] | str:
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
            entries[file] = write_shard(out / file, counted(in_order(pool, made, jobs)), source.labels, skip_bad)
            if logged or len(entries) > 1:
                append_to_log(out, entries[file])
            else:
                write_log(out, header, entries.values())
    finally:
        pool.shutdown(cancel_futures=True)
    write_log(out, header, entries.values())
    return entries


def _shards(name: str, plan: Plan, per_shard: int) -> list[tuple[str, str, list[Job]]]:
    """(split, file, examples) of all shards."""
    found = []
    for split, jobs in plan.splits.items():
        count = -(-len(jobs) // per_shard)
        for i in range(count):
            file = f"{name}-{split}.array_record-{i:05d}-of-{count:05d}"
            found.append((split, file, jobs[i * per_shard : (i + 1) * per_shard]))
    return found


def _header(source: Source, plan: Plan, options: Options, per_shard: int) -> dict:
    """What a directory is begun for; it goes on for the very same alone."""
    asked = {name: getattr(options, name) for name in options.__dataclass_fields__}
    own = {"version": VERSION, "name": source.name, "per_shard": per_shard, "listing": plan.fingerprint()}
    return {**own, **asked, **source.options}
