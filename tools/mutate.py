"""Put faults into copies of the package, one at a time, and see whether the tests that are named for them fail.

    python tools/mutate.py                    # all faults of tools/faults/*.toml
    python tools/mutate.py guidance levels    # those whose name or file holds one of these words

A fault is a table in a file of tools/faults: the file that it is in, a text that stands there exactly once (`old`),
what is put in its place (`new`), and the tests of which at least one must then fail. In a copy without a fault they
must all pass, so that they are run there first. Tests marked slow do not count: `make test` has to catch every fault.

It prints a line for each fault, and ends with status 1 if one is not caught, if its `old` is not found exactly once, or
if the tests could not be run. Programs that JAX compiles are kept in the cache of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "tools" / "faults"
COPIED = ("gcdiff", "tests", "pyproject.toml")
PRELOADED = ["jax", "jax.numpy", "flax.linen", "optax", "scipy.stats", "pytest"]
"""Imported once, in a process that those of the faults are forked from. It must never import gcdiff."""
SECONDS = 300
"""After which a run of tests is ended: a fault may make a loop endless."""
CAUGHT, MISSED, BROKEN = "caught", "NOT CAUGHT", "BROKEN"


class Fault(NamedTuple):
    """A fault: `old` in `file` becomes `new`, and one of `tests` (files or node ids of pytest) fails."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


class Verdict(NamedTuple):
    """What came of a run: CAUGHT, MISSED or BROKEN, the seconds it took, and the test that failed or what is wrong."""

    name: str
    result: str
    seconds: float
    detail: str


def read_faults(directory: Path = FAULTS) -> list[Fault]:
    """The faults of all files in a directory. Raises ValueError for a field that is missing or unknown, and for a name
    that two faults have."""
    by_name: dict[str, Fault] = {}
    for path in sorted(directory.glob("*.toml")):
        for name, fields in tomllib.loads(path.read_text()).items():
            if set(fields) != set(Fault._fields[1:]):
                raise ValueError(f"{path.name}: fault {name!r} has {sorted(fields)}, expected {Fault._fields[1:]}")
            if name in by_name:
                raise ValueError(f"{path.name}: there are two faults {name!r}")
            by_name[name] = Fault(name, **{**fields, "tests": tuple(fields["tests"])})
    return list(by_name.values())


def complaint(fault: Fault, root: Path = ROOT) -> str:
    """Why a fault cannot be put in, in a line; "" where it can."""
    path = root / fault.file
    count = path.read_text().count(fault.old) if path.is_file() else 0
    if count != 1:
        return f"{fault.file} holds {fault.old!r} {count} times, expected once"
    absent = [test for test in fault.tests if not _is_there(test, root)]
    return f"there is no {absent[0]}" if absent else "it names no test" if not fault.tests else ""


def _is_there(test: str, root: Path) -> bool:
    """Whether the file of a test is there, and holds the function that its node id names."""
    file, _, function = test.partition("::")
    path = root / file
    return path.is_file() and (not function or f"def {function.partition('[')[0]}(" in path.read_text())


def put_in(fault: Fault, place: Path) -> None:
    """Write the fault into the copy at `place`."""
    path = place / fault.file
    path.write_text(path.read_text().replace(fault.old, fault.new))


def copy(place: Path, root: Path = ROOT) -> None:
    """Copy what the tests need to `place`."""
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, place / name)
        else:
            shutil.copy2(root / name, place / name)


class _First:
    """A plugin of pytest that notes the first test to fail."""

    failed = ""

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def _test(place: str, tests: Sequence[str]) -> None:
    """Run tests on the copy at `place`, in a process of its own, and leave the outcome in result.json there."""
    os.chdir(place)
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = place
    import pytest

    first = _First()
    with open("output.txt", "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        options = ["-x", "-m", "not slow", "-p", "no:cacheprovider", f"--rootdir={place}", "-c", "pyproject.toml"]
        status = pytest.main([*options, *tests], plugins=[first])
    package = sys.modules.get("gcdiff")
    tested = package is not None and Path(str(package.__file__)).is_relative_to(place)
    Path("result.json").write_text(json.dumps([int(status), first.failed, tested]))


def run(name: str, fault: Fault | None, tests: Sequence[str], context) -> Verdict:
    """What tests say of a copy with a fault; of one without, BROKEN unless all pass."""
    if fault is not None and (wrong := complaint(fault)):
        return Verdict(name, BROKEN, 0.0, wrong)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gcdiff-fault-") as directory:
        place = Path(directory).resolve()
        copy(place)
        if fault is not None:
            put_in(fault, place)
        process = context.Process(target=_test, args=(str(place), tuple(tests)))
        process.start()
        process.join(SECONDS)
        if hangs := process.is_alive():
            process.kill()
            process.join()
        done, seconds = place / "result.json", time.monotonic() - start
        if not done.exists():
            return Verdict(name, BROKEN, seconds, f"no result after {SECONDS} s" if hangs else "the tests died")
        status, failed, tested = json.loads(done.read_text())
        said = (place / "output.txt").read_text().strip().splitlines()[-12:]
    if not tested:
        return Verdict(name, BROKEN, seconds, "the tests did not import the copy: " + " | ".join(said))
    if fault is None:
        return Verdict(name, BROKEN if status else CAUGHT, seconds, " | ".join(said) if status else "all pass")
    if status == 0:
        return Verdict(name, MISSED, seconds, f"{', '.join(tests)} pass")
    return Verdict(name, *((CAUGHT, seconds, failed) if status == 1 else (BROKEN, seconds, " | ".join(said))))


def table(faults: Sequence[Fault], jobs: int, say=print) -> list[Verdict]:
    """Run the tests without a fault and with each one, `jobs` at a time, and say a line for every run."""
    runpy.run_path(str(ROOT / "tests" / "conftest.py"))  # the environment of the tests, before JAX is imported
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    one = functools.partial(run, context=context)
    files: dict[str, set[str]] = {}
    for fault in faults:
        for test in fault.tests:
            files.setdefault(test.split("::")[0], set()).add(test)
    verdicts = []
    with ThreadPoolExecutor(jobs) as pool:
        whole = [pool.submit(one, f"no fault: {file}", None, sorted(tests)) for file, tests in sorted(files.items())]
        for future in (*whole, *(pool.submit(one, fault.name, fault, fault.tests) for fault in faults)):
            verdicts.append(verdict := future.result())
            say(f"{verdict.result:11} {verdict.seconds:6.1f} s  {verdict.name}\n{'':22}{verdict.detail}")
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if every fault is caught."""
    parser = argparse.ArgumentParser(description="See whether the tests catch faults that are put into the package.")
    parser.add_argument("words", nargs="*", help="only faults whose name or file holds one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (as many as CPUs)")
    chosen = parser.parse_args(arguments)
    faults = [f for f in read_faults() if not chosen.words or any(w in f.name or w in f.file for w in chosen.words)]
    if not faults:
        parser.error(f"no fault has {' or '.join(chosen.words)} in its name or file")
    start, say = time.monotonic(), functools.partial(print, flush=True)
    verdicts = table(faults, chosen.jobs, say)
    of_faults = verdicts[-len(faults) :]
    bad = [verdict for verdict in verdicts if verdict.result != CAUGHT]
    caught = sum(verdict.result == CAUGHT for verdict in of_faults)
    say(f"\n{caught} of {len(faults)} faults caught in {time.monotonic() - start:.0f} s")
    for verdict in bad:
        say(f"{verdict.result}: {verdict.name}: {verdict.detail}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
