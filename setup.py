"""The package: `pip install .` or, with everything for development, `make setup`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "gcdiff" / "__init__.py").read_text(), re.MULTILINE)[1]
README = ROOT / "README.md"
SHIPPED = ("*.safetensors", "*.json", "DATA_LICENCE.txt")

setup(
    name="gcdiff",
    version=VERSION,
    description="Joint diffusion of an image and its semantic layout in JAX: one network for every direction",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["gcdiff", "gcdiff.*"]),
    package_data={
        "gcdiff.data": ["tables/*.json"],
        "gcdiff.shipped": [f"{place}/{file}" for place in ("*", "*/worse") for file in SHIPPED],
    },
    python_requires=">=3.11",
    install_requires=[
        "jax>=0.10.2,<0.13",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "jaxtyping>=0.3",
        "numpy>=2.0,<3",
        "scipy>=1.15",
        "ml_collections>=1.1",
        "absl-py",
        "clu>=0.0.12",
        "transformers>=5.17,<6",
        "tokenizers",
        "huggingface_hub",
        "safetensors>=0.8",
        "sentencepiece",
        "protobuf",
        "ml_dtypes",
        "tensorflow-datasets>=4.9.10",
        "grain>=0.2.18",
        "array_record>=0.8.6",
        "importlib_resources",
        "pillow>=11",
    ],
    extras_require={
        "torch": ["torch>=2.6"],
        "tensorboard": ["tensorboardX"],
        "studio": ["gradio>=6"],
        "plots": ["matplotlib"],
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.15", "basedpyright>=1.30", "beartype>=0.20"],
    },
    entry_points={"console_scripts": ["gcdiff = gcdiff.cli:main"]},
)
