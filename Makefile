PYTHON ?= python3
PYTEST_ARGS ?=
PORT ?= 3000

BIN := .venv/bin

# Use the instance of the root dagster.yaml, whatever the shell sets.
export DAGSTER_HOME =
unexport DAGSTER_MODULE_NAME
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-services demo run ui test test-all check lint types imports clean

help:
	@echo 'make demo         install, run offline on rendered phantoms, write results/report/index.html'
	@echo 'make run          the same with the profile that VDM_PROFILE names'
	@echo 'make ui           Dagster UI on http://127.0.0.1:3000, or another PORT'
	@echo 'make install      what a run needs, into .venv/; the targets above do it first'
	@echo 'make install-dev  also the tools and what the tests need; the targets below do it first'
	@echo 'make test         tests in 6 minutes; PYTEST_ARGS="-k npz" for some'
	@echo 'make test-all     the slow tests, too'
	@echo 'make check        lint, format, types and import rules'
	@echo 'make clean        remove caches; data/, results/ and .venv/ stay'

install: .venv/.installed
install-dev: .venv/.installed-dev

# install-dev includes install.
.venv/.installed-dev: EXTRAS = [dev]
.venv/.installed .venv/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@[ -t 1 ] || { echo "Installing '.$(EXTRAS)' with constraints.txt into .venv"; export PIP_QUIET=1; }; \
	$(BIN)/python -m pip install -c constraints.txt -e '.$(EXTRAS)'
	@touch .venv/.installed $@

# For the container image: not editable, without tools, pip, and Triton, which is for execution.compile and
# takes .9 GB. Python's byte code stays: no process could write it to a read-only file system.
install-services:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-cache-dir -c constraints.txt '.[k8s,postgres,ray]'
	$(BIN)/python -m pip uninstall --yes pip triton

demo: .venv/.installed
	VDM_PROFILE=demo $(BIN)/dg launch --assets '*report'

run: .venv/.installed
	$(BIN)/dg launch --assets '*report'

ui: .venv/.installed
	$(BIN)/dg dev -h 127.0.0.1 -p $(PORT)

# At most 4 processes of 2 GB each. The tests of a file share what they start, so they stay together.
PYTEST := $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: .venv/.installed-dev
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: .venv/.installed-dev
	$(PYTEST) $(PYTEST_ARGS)

check: lint types imports

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy

imports: .venv/.installed-dev
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .coverage .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	rm -rf .tmp_dagster_home_* .logs_queue logs
	find vdm_pipeline vdm_pipeline_tests -name __pycache__ -type d -prune -exec rm -rf {} +
