# One environment, in .venv, made from pyproject.toml alone; `make test` is what CI runs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ROUTINE ?= routines/release-notes.yaml

.DEFAULT_GOAL := help
.PHONY: help run test check lint types floors bench docs clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv is used where it is there; the standard library's venv and pip do the same, slower.
$(BIN)/python:
	@if command -v uv >/dev/null 2>&1; then uv venv -q $(VENV); else $(PYTHON) -m venv $(VENV); fi

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -e .; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -e .; fi
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -e '.[dev]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'; fi
	@touch $@ $(VENV)/.run

run: $(VENV)/.run ## run a real routine, with no key
	$(BIN)/vrooli run $(ROUTINE)

test: $(VENV)/.dev lint types floors ## everything CI checks: lint, types, floors, tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: test

lint: $(VENV)/.dev ## ruff, format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

floors: $(VENV)/.dev ## no module imports upward
	$(BIN)/lint-imports

bench: $(VENV)/.run ## vrooli beside its peers and the floor, some 40 minutes; writes docs/benchmarks.md
	$(BIN)/python tests/bench/bench.py --out docs/benchmarks.md $(BENCH)

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -e '.[docs]'; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[docs]'; fi
	@touch $@ $(VENV)/.run

docs: $(VENV)/.docs ## write the reference, build the site into build/site
	$(BIN)/python -m scripts.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
