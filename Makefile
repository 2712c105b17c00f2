.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep -i '^torch==' constraints.txt)

.PHONY: help setup demo test storm lint bench bench-train bench-prepare bench-push format build clean

help:  ## Show these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(VENV)/ready  ## Make .venv with every pinned dependency

# torch goes first and alone, so that the wheel configured for this machine (CPU or CUDA) is the one that is used
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: setup  ## Run the whole road on this machine: prepare, train, push, load
	$(BIN)/hubdpo demo --output-dir demo-run

test: setup  ## Run every test, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

storm: setup  ## Run all of the failures, kills and races of push (an hour or two)
	HUBDPO_STORM=1 $(BIN)/python -m pytest tests/hub/test_hub_faults.py -s

lint: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-train bench-prepare bench-push  ## Measure everything (minutes)

bench-train: setup  ## Measure the training step beside stock TRL
	$(BIN)/python tests/benchmarks/bench_train.py

bench-push: setup  ## Measure push beside a bare upload, by LFS and by Xet
	$(BIN)/python tests/benchmarks/bench_push.py

bench-prepare: setup  ## Measure prepare beside datasets, and tokens beside TRL
	$(BIN)/python tests/benchmarks/bench_prepare.py

format: setup  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: setup  ## Build the wheel and the source archive
	$(BIN)/python -m build --no-isolation

clean:  ## Remove what the other targets made
	rm -rf $(VENV) demo-run dist .pytest_cache .mypy_cache .ruff_cache
