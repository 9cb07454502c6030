"""Tests run on the CPU; compiled programs are kept in .cache/jax from one run of the tests to the next.

They are compiled with few optimisations: of what tests take, most is compiling. `optimised` is for the others.
"""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import pytest  # noqa: E402

FIRST = (
    "test_mutations.py",
    "test_cli.py",
    "test_devices.py",
    "test_model.py",
    "test_kills.py",
    "test_likelihood.py",
    "test_categorical.py",
    "test_docstrings.py",
    "test_pretrained.py",
)
"""The longest files: they start first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture
def optimised():
    """What the test compiles is compiled with all optimisations: it runs for longer than it compiles."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def strict():
    """Types are never promoted and ranks never extended in silence within the test."""
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
