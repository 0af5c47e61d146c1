# Everything runs in .venv, made from pinned constraints.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done  ## make the environment

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup  ## make the data, train five samplers on it, and compare them
	WANDB_MODE=offline $(BIN)/python run.py experiment=demo

test: setup  ## run the whole test suite
	$(BIN)/python -m pytest

check: setup  ## lint, format check, types and tests: what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(MAKE) test

format: setup  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## delete everything under outputs: runs, checkpoints, data, caches
	find outputs -mindepth 1 ! -name .gitkeep -delete
