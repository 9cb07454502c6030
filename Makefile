# Every target does its own set-up: a bare machine needs Python 3.11 or newer, make and a network.

VENV := .venv
USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(USABLE)' 2>/dev/null && { command -v $$p; break; }; done)

.PHONY: setup demo demo-long test test-all lint bench clean

setup: $(VENV)/.stamp

# A working environment is kept and brought up to date; one that does not run is made anew.
$(VENV)/.stamp: setup.py pyproject.toml
	@'$(PYTHON)' -c '$(USABLE)' 2>/dev/null || { \
		echo "No Python 3.11 or newer with venv and pip was found: install one, or say make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON): about a minute, once"
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[dev]'
	@touch $@

# On Linux with glibc memory comes in huge pages: a training step on CPUs is a fifth shorter.
demo demo-long: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1

# A training pauses after so many minutes of its steps (demo: 30), and the same target goes on with it.
demo: setup
	$(VENV)/bin/python experiments/streets/demo.py --workdir runs/demo

demo-long: setup
	$(VENV)/bin/python experiments/streets/demo.py --workdir runs/demo-long --times 5.5 --pause-minutes 150

PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What is marked slow is left to test-all, so that these take 8 minutes at most on two cores.
test: setup
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m slow

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python

# steps.py measures a trained model: two hours of sampling.
bench: setup
	$(VENV)/bin/python benchmarks/labels.py
	$(VENV)/bin/python benchmarks/classes.py
	$(VENV)/bin/python benchmarks/convolutions.py
	$(VENV)/bin/python benchmarks/network.py
	$(VENV)/bin/python benchmarks/text.py
	$(VENV)/bin/python benchmarks/data.py
	$(VENV)/bin/python benchmarks/training.py
	$(VENV)/bin/python benchmarks/sampling.py
	$(VENV)/bin/python benchmarks/latency.py
	@if [ -d runs/demo-long ]; then $(VENV)/bin/python benchmarks/steps.py --workdir runs/demo-long; \
	else echo "benchmarks/steps.py needs the model of make demo-long: left out"; fi

# What can be made again. Trained models in runs/ are kept.
clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
