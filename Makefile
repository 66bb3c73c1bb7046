PYTHON ?= python3
PYTEST_ARGS ?=
PORT ?= 3000

BIN := .venv/bin
MODULE := vdm_pipeline.definitions
# Hides the notice of each `dagster` command that `dg` supersedes it.
DAGSTER := PYTHONWARNINGS='ignore:Function' $(BIN)/dagster

# Use the instance of the root dagster.yaml, whatever the shell sets.
export DAGSTER_HOME =
unexport DAGSTER_MODULE_NAME
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help install install-services demo run ui test test-all check lint types imports clean

help:
	@echo 'make demo    install, run offline on rendered phantoms, write results/report/index.html'
	@echo 'make run     the same with the profile that VDM_PROFILE names'
	@echo 'make ui      Dagster UI on http://127.0.0.1:3000, or another PORT'
	@echo 'make test    tests in 5 minutes; PYTEST_ARGS="-k npz" for some'
	@echo 'make test-all  the slow tests, too'
	@echo 'make check   lint, format, types and import rules'
	@echo 'make clean   remove caches; data/, results/ and .venv/ stay'

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

# For the container image: no test tools, no pip, no editable install.
install-services:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-cache-dir -c constraints.txt '.[k8s,postgres,ray]'
	$(BIN)/python -m pip uninstall --yes pip

demo: .venv/.installed
	VDM_PROFILE=demo $(DAGSTER) asset materialize -m $(MODULE) --select '*report'
	@echo 'The report: results/report/index.html'

run: .venv/.installed
	$(DAGSTER) asset materialize -m $(MODULE) --select '*report'
	@echo 'The report: results/report/index.html'

# With DAGSTER_HOME set, Dagster writes nothing to the user's home folder.
ui: export DAGSTER_HOME = $(CURDIR)
ui: .venv/.installed
	$(DAGSTER) dev -m $(MODULE) -h 127.0.0.1 -p $(PORT)

# A process per core; each needs 2 GB. The tests of a file share what they start, so they stay together.
PYTEST := $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: .venv/.installed
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: .venv/.installed
	$(PYTEST) $(PYTEST_ARGS)

check: lint types imports

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/mypy

imports: .venv/.installed
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .coverage .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	rm -rf .tmp_dagster_home_* .logs_queue logs
	find vdm_pipeline vdm_pipeline_tests -name __pycache__ -type d -prune -exec rm -rf {} +
