# Everything runs in .venv, made from locks with the digest of every file (locks/make_locks.py wrote them).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --no-deps --no-build-isolation
LOCKED := $(INSTALL) --require-hashes --requirement

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-all torture check lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done  ## make the environment

# A torch without CUDA is taken where pip is told of a place that has it (--find-links, --extra-index-url).
$(VENV)/.done: pyproject.toml $(wildcard locks/*.lock)
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) locks/build.lock
	$(LOCKED) locks/main.lock
	if $(INSTALL) --quiet --dry-run $$(grep --only-matching '^torch[^ ]*' locks/torch-cpu.lock) 2>$(VENV)/torch-cpu.log; \
	then $(LOCKED) locks/torch-cpu.lock; else $(LOCKED) locks/torch.lock; fi
	$(INSTALL) --editable .
	$(BIN)/pip check
	touch $@

lock:  ## write the locks again after pyproject.toml has changed; UPGRADE=1 takes the newest versions
	$(PYTHON) locks/make_locks.py

demo: setup  ## make the data, train five samplers on it, and compare them
	WANDB_MODE=offline $(BIN)/python run.py experiment=demo

test: setup  ## run the test suite
	$(BIN)/python -m pytest

test-all: test  ## run the tests that take long as well
	$(BIN)/python -m pytest -m slow

torture: setup  ## kill, damage and starve it for half an hour, and print what held
	$(BIN)/python experiments/torture/torture.py

check: lint test  ## lint, format check, types and tests; CI runs test-all in the place of test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## delete everything under outputs: runs, checkpoints, data, caches
	find outputs -mindepth 1 ! -name .gitkeep -delete
