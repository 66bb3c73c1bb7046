PYTHON ?= python3
PYTEST_ARGS ?=
PORT ?= 3000

BIN := .venv/bin

# Use the instance of the root dagster.yaml, whatever the shell sets.
export DAGSTER_HOME =
unexport DAGSTER_MODULE_NAME
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help install install-services demo run ui test check lint types imports clean

help:
	@echo 'make demo    install, run offline on rendered phantoms, write results/report/index.html'
	@echo 'make run     the same with the profile that VDM_PROFILE names'
	@echo 'make ui      Dagster UI on http://127.0.0.1:3000, or another PORT'
	@echo 'make test    tests with coverage; PYTEST_ARGS="-k npz" for some'
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
	VDM_PROFILE=demo $(BIN)/dg launch --assets '*report'
	@echo 'The report: results/report/index.html'

run: .venv/.installed
	$(BIN)/dg launch --assets '*report'
	@echo 'The report: results/report/index.html'

ui: .venv/.installed
	$(BIN)/dg dev -h 127.0.0.1 -p $(PORT)

test: .venv/.installed
	$(BIN)/python -m pytest -q --cov $(PYTEST_ARGS)

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
