# make demo: install, start a real server, run the agent dense and with SFI.  make test: install, run the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTHONWARNINGS := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test lint needle bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@echo "Installing the lean CPU set into $(VENV) (about a minute) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --progress-bar on --no-deps --group cpu-nodeps
	$(BIN)/pip install --progress-bar on --group cpu --group dev
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $(STAMP)

demo: setup
	$(BIN)/sfi-sglang demo

test: setup lint
	$(BIN)/python -m pytest --cov-fail-under=90

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

needle: setup
	$(BIN)/sfi-sglang eval needle

bench: setup
	$(BIN)/python -m benchmarks.decode_cpu

clean:
	rm -rf $(VENV) build *.egg-info
