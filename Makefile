# Everything runs in .venv, which is made from the locks, with a digest of every file (written by locks/make_locks.py).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --no-deps --no-build-isolation
LOCKED := $(INSTALL) --require-hashes --requirement

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-all coverage torture check lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done  ## make the environment

# torch without CUDA is installed if pip is configured with a place that has it (--find-links, --extra-index-url).
$(VENV)/.done: pyproject.toml $(wildcard locks/*.lock)
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) locks/build.lock
	$(LOCKED) locks/main.lock
	if $(INSTALL) --quiet --dry-run $$(grep --only-matching '^torch[^ ]*' locks/torch-cpu.lock) 2>$(VENV)/torch-cpu.log; \
	then $(LOCKED) locks/torch-cpu.lock; else $(LOCKED) locks/torch.lock; fi
	$(INSTALL) --editable .
	$(BIN)/pip check
	touch $@

lock:  ## write the locks again after a change of pyproject.toml; UPGRADE=1 takes the newest versions
	$(PYTHON) locks/make_locks.py

demo: setup  ## make the data, train five samplers on it, and compare them
	WANDB_MODE=offline $(BIN)/python run.py experiment=demo

test: setup  ## run the test suite
	$(BIN)/python -m pytest

test-all: test  ## also run the slow tests
	$(BIN)/python -m pytest -m slow

coverage: setup  ## run both kinds of tests and show which lines and branches none enters
	$(BIN)/python -m pytest -m "" --cov --cov-report=term-missing:skip-covered

torture: setup  ## kill runs, damage their files and fill the disk for half an hour, and print what still worked
	$(BIN)/python experiments/torture/torture.py

check: lint test  ## lint, format check, types and tests; CI runs test-all instead of test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## delete everything under outputs: runs, checkpoints, data, caches
	find outputs -mindepth 1 ! -name .gitkeep -delete
