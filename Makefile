# `make demo` and `make test` set up everything they need and run. `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
CORES  ?= 2
PAPER  ?=
BIN    := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)

.PHONY: help setup demo test test-slurm lint bench docs report mlflow clean
help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | column -t -s "$$(printf '\t')"

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

setup: $(VENV)/.installed ## the virtual environment, from the lock file

demo: setup ## every study at demo scale, then the report (PAPER=koopman for one paper)
	snakemake --cores $(CORES) $(PAPER)
	snakemake --cores 1 --report report.html $(PAPER)
	@echo "Open report.html; the tables are papers/*/table.md."

test: setup ## the tests, CORES at a time
	python -m pytest -m "not slurm" -n $(CORES) --dist loadfile

test-slurm: setup ## the tests on a real SLURM cluster of this machine (needs root and Debian's slurm-wlm)
	python -m pytest -m slurm

lint: setup ## style, types, workflow
	ruff check src tests benchmarks docs
	ruff format --check src tests benchmarks docs
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint

$(VENV)-bench/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

$(VENV)-montecarlo/.installed: benchmarks/requirements-montecarlo.txt
	$(PYTHON) -m venv $(VENV)-montecarlo
	$(VENV)-montecarlo/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-montecarlo.txt
	touch $@

bench: setup $(VENV)-bench/.installed $(VENV)-montecarlo/.installed ## the ratios against the peers, some minutes each
	PYTHONPATH=src $(VENV)-bench/bin/python -m benchmarks.lorenz
	for name in ising random_site; do PYTHONPATH=src $(VENV)-montecarlo/bin/python -m benchmarks.$$name || exit 1; done
	for name in xy cylinder storage training rollout workflow gray_scott surrogate_gray_scott autoregressive_sampling; do python -m benchmarks.$$name || exit 1; done

docs: setup ## the tables of the README and docs/configuration.md, from docs/results and the schema
	python docs/refresh.py

report: setup ## report.html of what has been run
	snakemake --cores 1 --report report.html $(PAPER)

mlflow: setup ## the MLflow UI on the local store
	python -m physiglot.track publish --uri sqlite:///mlflow.db
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000 --workers 1

clean: ## remove what the workflow made (not the environment)
	rm -rf data runs papers logs report.html mlflow.db mlartifacts .snakemake .physiglot
