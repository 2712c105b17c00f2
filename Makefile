.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
TESTS ?= tests
OUT ?= gpu-check
# one line for each package that pip gets, with its size, in place of all that it says
SHOWN = awk '/^ +(Downloading|Using cached) / && !/metadata/ { print "  " $$0; fflush() } \
	/^Installing collected/ { print "  installing them, about a minute"; fflush() } \
	/^ready$$/ { done = 1 } END { exit !done }'

.PHONY: help setup stub demo test test-one coverage test-lowest test-deepspeed test-newest docs reference packages storm mutants judge-real upstream downstream gpu-check lint bench .venv-llamafactory bench-train bench-prepare bench-push bench-memory bench-sweep bench-view pictures format build clean

help:  ## Show these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(VENV)/ready  ## Make .venv with every pinned dependency

# torch goes first and alone, so that the wheel configured for this machine (CPU or CUDA) is the one that is used
$(VENV)/ready: pyproject.toml constraints.txt
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@echo "getting torch $(TORCH), the largest part: 0.2 GB for the CPU, 2.5 GB and more for CUDA"
	@$(BIN)/python -m pip install "torch==$(TORCH)"
	@echo "getting the other pinned packages, 0.3 GB in all"
	@{ $(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev,docs,notebook]" && echo ready; } | $(SHOWN)
	@touch $@

demo: setup  ## Run the whole road on this machine: prepare, train, push, load
	$(BIN)/hubdpo demo --output-dir demo-run

test: setup  ## Run every test, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

test-one: setup  ## Run what T names, at once and in order: make test-one T=tests/data/test_data_cleaning.py
	$(BIN)/python -m pytest -p no:randomly -x --verbosity 1 $(T)

coverage: setup  ## Run every test and list the lines that none of them reaches
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --cov --cov-report term --cov-report html $(TESTS)

test-lowest: .venv-lowest/torch-$(TORCH)  ## Run demo and tests on the lowest versions admitted (TORCH=2.11.0 TESTS=...)
	.venv-lowest/bin/hubdpo demo --output-dir .venv-lowest/demo
	.venv-lowest/bin/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

.venv-lowest/torch-$(TORCH): pyproject.toml
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install "torch==$(TORCH)" "uv>=0.9"
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[dev]"
	touch $@

# with DeepSpeed in .venv, every process that imports accelerate would import it too
test-deepspeed: .venv-deepspeed/ready  ## Run what needs DeepSpeed: ZeRO-2 and ZeRO-3 beside one process (three minutes)
	PYTHONPATH=$(CURDIR)/.venv-deepspeed $(BIN)/python -m pytest -k ZeRO tests/training/test_sharded_runs.py

.venv-deepspeed/ready: $(VENV)/ready
	$(BIN)/python -m pip install --no-deps --constraint constraints.txt --upgrade --target .venv-deepspeed \
		deepspeed einops hjson py-cpuinfo
	@touch $@

test-newest:  ## Run demo and tests on what pip gives today
	$(PYTHON) -m venv --clear .venv-newest
	@{ .venv-newest/bin/python -m pip install --editable ".[dev]" && echo ready; } | $(SHOWN)
	.venv-newest/bin/python -m pip freeze
	.venv-newest/bin/hubdpo demo --output-dir .venv-newest/demo
	.venv-newest/bin/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

# warnings are errors: dead links, unknown headings, pages that no list of contents names
docs: setup  ## Build the pages of docs/ as a site in docs/_build, and check every link
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build

packages: setup  ## Install the wheel, and the source archive, on every Python that is here, and run the demo
	$(BIN)/python tests/check_packages.py

storm: setup  ## Run all of the failures, kills and races of push, and 100,000 odd requests (25 minutes)
	HUBDPO_STORM=1 $(BIN)/python -m pytest --numprocesses 4 --dist load \
		tests/release/test_release_faults.py tests/loopback/test_loopback_mutations.py

mutants: setup  ## Break lines one at a time and see a test die (an hour)
	$(BIN)/python -m tests.check_mutants

gpu-check: setup  ## Run all of it on this machine's GPU, beside TRL: ten minutes, 20 GB of disk (OUT=gpu-check)
	$(BIN)/python -m tests.gpu.check --out $(OUT)

lint: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

judge-real: setup  ## Let a model judge a run, kill it in the middle, go on (make judge-real RUN=run GGUF=judge.gguf)
	$(BIN)/python -m pip install --quiet --no-deps --target .venv-llamacpp xllamacpp
	PYTHONPATH=$(CURDIR)/.venv-llamacpp $(BIN)/python -m tests.judge_real $(RUN) $(GGUF) --work judge-real

upstream: setup  ## Run the clients' own tests against serve-hub (a quarter of an hour, 50 MB from the package index)
	$(BIN)/python -m tests.upstream huggingface_hub datasets peft

# with `--write`, the result goes into the package, for the cards, and into docs/how-to/serve.md
downstream: setup  ## Run the commands of a card in PEFT, vLLM, llama.cpp, MLX and others, and compare (half an hour, 5 GB)
	$(BIN)/python -m tests.downstream --write

bench: bench-train bench-prepare bench-push bench-memory bench-sweep bench-view  ## Measure everything (minutes)

bench-train: setup  ## Measure the training step beside stock TRL, and LLaMA-Factory where it is installed
	$(BIN)/python -m tests.benchmarks.bench_train

# a peer in bench-train, with libraries older than ours; without it, its rows are left out. The list has all that its
# trainer imports: --no-deps leaves out what its web interface, sound and video need
.venv-llamafactory: .venv-llamafactory/ready  ## Install LLaMA-Factory beside, for bench-train (0.5 GB)

.venv-llamafactory/ready: tests/benchmarks/llama_factory.txt constraints.txt
	$(PYTHON) -m venv --clear .venv-llamafactory
	.venv-llamafactory/bin/python -m pip install "torch==$(TORCH)"
	.venv-llamafactory/bin/python -m pip install --no-deps --requirement tests/benchmarks/llama_factory.txt
	@touch $@

bench-memory: setup  ## Measure what train takes before its first step, on up to 1,000,000 pairs
	$(BIN)/python -m tests.benchmarks.bench_memory

bench-sweep: setup  ## Measure a sweep of six runs beside six separate runs
	$(BIN)/python tests/benchmarks/bench_sweep.py

bench-push: setup  ## Measure push beside a bare upload, by LFS and by Xet
	$(BIN)/python tests/benchmarks/bench_push.py

bench-prepare: setup  ## Measure prepare beside datasets, and tokens beside TRL
	$(BIN)/python tests/benchmarks/bench_prepare.py

bench-view: setup  ## Measure the pages of up to 1,000,000 pairs
	$(BIN)/python -m tests.benchmarks.bench_view

pictures: setup  ## Take the pictures of README and docs, of the pages of a small dataset and run
	$(BIN)/python -m tests.pictures

format: setup  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stub: setup  ## Write the signatures for editors, hubdpo/__init__.pyi, after a change of the options
	$(BIN)/python -m tests.public_stub

reference: setup  ## Write the pages of docs/reference that come from the code, after a change of options or manifests
	$(BIN)/python -m tests.reference

build: setup  ## Build the wheel and the source archive
	$(BIN)/python -m build --no-isolation

clean:  ## Remove what the other targets made
	rm -rf $(VENV) .venv-lowest .venv-deepspeed .venv-newest .venv-llamafactory .venv-llamacpp .venv-downstream demo-run judge-real dist htmlcov docs/_build .coverage* .pytest_cache .mypy_cache .ruff_cache
