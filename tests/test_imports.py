"""Importing is light, and imports between the modules run one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gcdiff.config import default

PACKAGE = Path(__file__).parents[1] / "gcdiff"
HEAVY = ("tensorflow", "torch", "tensorflow_datasets", "transformers", "gradio", "matplotlib", "tensorboardX")

# A module may import what stands before it, and its own stage; the sides know the first two stages alone.
STAGES = (
    ("types", "rng", "parallel", "grids", "jobs", "weights", "shipped", "pictures", "regions"),
    ("schedules",),
    ("processes",),
    ("losses", "likelihood", "levels", "paths", "guidance", "samplers"),
    ("codecs", "conditions"),
    ("training", "evaluation"),
    ("worlds",),
    ("config",),
    ("api",),
    ("factory", "studio"),
    ("cli",),
)
SIDES = ("models", "text", "data")
STAGE = {part: number for number, parts in enumerate(STAGES) for part in parts}
FIRST_ABOVE_SIDES = STAGE["codecs"]
CONFIG_READERS = ("config", "cli")
FIELDS = set(default()) - {"name"}  # the configs of other things have names, too


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """All modules that a module imports, also within functions; `from a import b` is a.b where that is a module."""
    imported = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                imported.add(full if full in MODULES else node.module)
    return imported


def part(name: str) -> str:
    return name.split(".")[1]


def allowed(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if importer in SIDES:
        return STAGE.get(imported, len(STAGES)) <= STAGE["schedules"]
    if imported in SIDES:
        return STAGE[importer] >= FIRST_ABOVE_SIDES
    return STAGE[imported] <= STAGE[importer]


INNER = [name for name in MODULES if "." in name and part(name) != "__main__"]


@pytest.mark.parametrize("name", INNER)
def test_imports_run_one_way(name):
    assert part(name) in STAGE or part(name) in SIDES, f"{name} has no place in the house: add it to STAGES or SIDES"
    for imported in imports(name):
        if imported.startswith("gcdiff."):
            assert allowed(part(name), part(imported)), f"{name} imports {imported}"


def test_no_two_modules_import_each_other():
    graph = {name: {i for i in imports(name) if i in INNER} for name in INNER}
    done = set()

    def visit(name, above):
        assert name not in above, f"imports run in a circle: {' -> '.join([*above, name])}"
        if name not in done:
            for imported in sorted(graph[name] - {name}):
                visit(imported, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", INNER)
def test_only_the_config_reader_knows_config_dicts(name):
    if part(name) not in CONFIG_READERS:
        assert not any(imported.split(".")[0] == "ml_collections" for imported in imports(name))


def config_fields(source: str) -> list[str]:
    """Where a source reads a section of a config, or a field beside the sections: `config.FIELD`,
    `<anything>.config.FIELD`, by item or getattr, also by a name that was given to the config before."""
    tree = ast.parse(source)
    names = {"config"}

    def is_config(node: ast.AST) -> bool:
        return (isinstance(node, ast.Name) and node.id in names) or (
            isinstance(node, ast.Attribute) and node.attr == "config"
        )

    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and is_config(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    places = []
    for node in ast.walk(tree):
        key = None
        if isinstance(node, ast.Attribute) and is_config(node.value):
            key = node.attr
        elif isinstance(node, ast.Subscript) and is_config(node.value) and isinstance(node.slice, ast.Constant):
            key = node.slice.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and is_config(node.args[0]):
            key = getattr(node.args[1], "value", None)
        if key in FIELDS:
            places.append(f"line {node.lineno}: config.{key}")
    return places


@pytest.mark.parametrize("name", INNER)
def test_only_the_config_reader_reads_fields_of_a_config(name):
    if part(name) not in CONFIG_READERS:
        assert config_fields(MODULES[name].read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "steps = model.config.sample.steps",
        "size = config.data.size",
        "c = self.config\nchunk = c.sample.chunk",
        "text = config['text']",
        "levels = getattr(model.config, 'levels')",
        "kind = self.config.task",
    ],
)
def test_a_reader_of_a_config_is_seen(line):
    assert len(config_fields(line)) == 1
    assert config_fields(line.replace("config", "settings")) == []


def test_the_page_for_contributors_says_the_same_rule():
    """The rows of the table in CONTRIBUTING.md are the stages, in order, with the sides below all that knows them."""
    rows = re.findall(r"^\| (`gcdiff/.*?) \| (.*) \|$", (PACKAGE.parent / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    parts = [
        tuple(name.removeprefix("gcdiff/").removesuffix(".py").rstrip("/") for name in re.findall(r"`(.*?)`", where))
        for where, _ in rows
    ]
    beside = [i for i, (_, what) in enumerate(rows) if what.startswith("beside")]
    assert [parts.pop(i) for i in beside] == [SIDES]
    assert tuple(parts) == STAGES
    assert beside == [FIRST_ABOVE_SIDES]
    there = {part(name) for name in INNER}
    to_come = {"regions", "studio"}
    assert there - set(STAGE) - set(SIDES) == set() and (set(STAGE) | set(SIDES)) - there <= to_come


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["gcdiff", "gcdiff.api", "gcdiff.cli"])
def test_an_import_loads_nothing_heavy_and_touches_no_device(module):
    code = f"""
import sys, importlib
importlib.import_module({module!r})
from jax._src import xla_bridge
print([m for m in {HEAVY!r} if m in sys.modules], len(xla_bridge._backends))
"""
    assert run(code) == "[] 0"


def test_import_is_quick_beyond_jax():
    code = "import time, jax; start = time.perf_counter(); import gcdiff; print(time.perf_counter() - start)"
    assert float(run(code)) < 1.0


def test_names_are_found_on_first_use():
    code = """
import sys, gcdiff
assert 'gcdiff.types' not in sys.modules
assert gcdiff.VOID == -1 and gcdiff.Pair(1, 2).layout == 2 and 'load' in dir(gcdiff)
assert 'gcdiff.api' not in sys.modules
try:
    gcdiff.nothing
except AttributeError as error:
    print(error)
"""
    assert run(code) == "module 'gcdiff' has no attribute 'nothing'"
