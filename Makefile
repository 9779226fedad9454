# `make demo` and `make test` each do all the set-up they need; either can be the first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Into the environment from outside it: needs neither ensurepip nor a pip inside. Errors are shown, and no warnings of
# what the user's own configuration says.
INSTALL := $(PYTHON) -m pip --python $(BIN)/python install --disable-pip-version-check -qq --no-deps

.PHONY: setup demo test lint types bench lock clean

setup: $(VENV)/.runtime

$(BIN)/python:
	@$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV): about a minute, once"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime
	@$(BIN)/secateur run configs/demo.yaml

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy benchmarks

test: lint types
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/warm_run.py
	$(BIN)/python benchmarks/footprint.py
	$(BIN)/python benchmarks/overhead.py

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    pyproject.toml --group surgeon --group build --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --constraints requirements.lock --group dev --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) build dist *.egg-info
