"""The tests catch faults: every one in tools/faults makes a test fail that is named for it, and the tool says so."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "mutate.py"
spec = importlib.util.spec_from_file_location("mutate", TOOL)
mutate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mutate)


def run(tool: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run([sys.executable, tool, *words], env=environment, capture_output=True, text=True)


def test_every_fault_can_be_put_in():
    """What it replaces stands in its file exactly once, and its tests exist."""
    faults = mutate.read_faults()
    assert [said for fault in faults if (said := mutate.complaint(fault))] == []
    assert len(faults) >= 60 and all(fault.old != fault.new for fault in faults)


def test_a_fault_that_names_a_test_which_is_not_there_is_refused():
    fault = mutate.read_faults()[0]._replace(tests=("tests/test_mutations.py::test_no_such",))
    assert mutate.complaint(fault) == "there is no tests/test_mutations.py::test_no_such"
    assert mutate.complaint(fault._replace(tests=("tests/test_mutations.py",))) == ""


PACKAGE = """
def double(x):
    return 2 * x

def half(x):
    return x / 2
"""
TESTS = """
import gcdiff, pytest

def test_double():
    assert gcdiff.double(2) == 4

@pytest.mark.slow
def test_double_of_much():
    assert gcdiff.double(3) == 6

def test_wrong():
    assert gcdiff.half(2) == 2
"""
FAULT = """
["{name}"]
file = "gcdiff/__init__.py"
old = "{old}"
new = "{new}"
tests = ["{test}"]
"""


@pytest.fixture
def small(tmp_path):
    """The tool beside a package of two functions, one fault in it: (name, old, new, test) -> what came of it."""
    for name, text in (("gcdiff/__init__.py", PACKAGE), ("tests/test_it.py", TESTS), ("tests/conftest.py", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tools" / "faults").mkdir(parents=True)
    tool = Path(shutil.copy(TOOL, tmp_path / "tools"))

    def outcome(old: str, new: str, test: str) -> tuple[int, str]:
        fields = {"name": "a fault", "old": old, "new": new, "test": f"tests/test_it.py::{test}"}
        (tmp_path / "tools" / "faults" / "some.toml").write_text(FAULT.format(**fields))
        done = run(tool)
        assert (tmp_path / "gcdiff/__init__.py").read_text() == PACKAGE
        return done.returncode, done.stdout

    return outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "test", "status", "said"),
    [
        ("2 * x", "x ** 3", "test_double", 0, "1 of 1 faults caught"),
        ("2 * x", "x ** 2", "test_double", 1, "NOT CAUGHT: a fault: tests/test_it.py::test_double pass"),
        ("3 * x", "x ** 2", "test_double", 1, "BROKEN: a fault: gcdiff/__init__.py holds '3 * x' 0 times"),
        ("return", "yield", "test_double", 1, "BROKEN: a fault: gcdiff/__init__.py holds 'return' 2 times"),
        ("2 * x", "2 * ", "test_double", 1, "BROKEN: a fault: "),  # it cannot be imported: no test has failed
        ("2 * x", "x ** 2", "test_double_of_much", 1, "BROKEN: a fault: "),  # make test leaves slow tests out
        ("2 * x", "x ** 3", "test_wrong", 1, "BROKEN: no fault: tests/test_it.py"),  # it fails without a fault too
    ],
)
def test_the_tool_says_what_came_of_a_fault(small, old, new, test, status, said):
    code, text = small(old, new, test)
    assert code == status and said in text, text


@pytest.mark.slow
def test_every_fault_is_caught():
    done = run(TOOL)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
