# make demo: install, start a real server, run the agent dense and with SFI.  make test: install, run the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := requirements/cpu.txt
# Where to look for PyTorch's CPU build if pip's own sources lack it; the default is PyTorch's index.
TORCH_INDEX ?=
export PYTHONWARNINGS := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: setup lock demo test lint wheel eval bench bench-smoke browser clean

setup: $(STAMP)

$(STAMP): pyproject.toml $(LOCK) requirements/install.py
	@$(PYTHON) requirements/install.py $(VENV) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))
	@touch $(STAMP)

# Resolve the groups of pyproject.toml anew and pin what came out.
lock: LOCKING := build/lock
lock:
	rm -rf $(LOCKING)
	$(PYTHON) -m venv $(LOCKING)
	$(LOCKING)/bin/pip install --quiet --upgrade "pip>=25.1" setuptools
	$(LOCKING)/bin/pip install --quiet --no-deps --group cpu-nodeps
	$(LOCKING)/bin/pip install --quiet --group cpu --group dev 2> $(LOCKING)/conflicts.log
	head -2 $(LOCK) > $(LOCKING)/cpu.txt
	$(LOCKING)/bin/pip freeze --all --exclude pip | sed 's/^\(torch==[^+]*\)+cpu$$/\1/' >> $(LOCKING)/cpu.txt
	mv $(LOCKING)/cpu.txt $(LOCK)

demo: setup
	$(BIN)/sfi-sglang demo

# Two workers on two cores: a server's threads must not wait busily. Kernels in Triton's interpreter run by themselves:
# coverage has nothing to measure there and makes them three times slower, also while it is paused.
test: setup lint browser
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not interpreted" --cov-fail-under=90
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 -m interpreted -o addopts="-q --strict-markers --durations=6" tests/kernels

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: setup
	rm -rf build dist  # what an earlier build left would be packed too
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

# The page of the benchmark report is tested in a real browser.
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable chrome
browser:
	@for name in $(BROWSERS); do command -v $$name > /dev/null && exit 0; done; \
	if ! command -v apt-get > /dev/null; then echo "Please install Chromium: a test opens the report in it."; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then root=; elif sudo -n true 2> /dev/null; then root=sudo; else \
	  echo "Chromium is missing: sudo apt-get install -y chromium"; exit 1; fi; \
	echo "Installing Chromium for the test of the report ..."; \
	$$root apt-get update -qq && \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null

eval: setup
	$(BIN)/sfi-sglang eval all --quick

bench: setup
	$(BIN)/python -m benchmarks.decode_cpu

bench-smoke: setup
	$(BIN)/sfi-bench smoke --out runs/bench-smoke

clean:
	rm -rf $(VENV) build dist *.egg-info
