# make demo: install, start a real server, run the agent dense and with SFI.  make test: install, run the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTHONWARNINGS := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test lint needle bench bench-smoke browser clean

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

# Two workers on two cores: a server's threads must not wait busily.
test: setup lint browser
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadgroup --cov-fail-under=90

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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

needle: setup
	$(BIN)/sfi-sglang eval needle

bench: setup
	$(BIN)/python -m benchmarks.decode_cpu

bench-smoke: setup
	$(BIN)/sfi-bench smoke --out runs/bench-smoke

clean:
	rm -rf $(VENV) build *.egg-info
