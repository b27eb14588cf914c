"""A sample of malformed input of every kind is refused or harmless; `malformed.py` makes larger samples."""

import pytest

from tests.robustness.malformed import KINDS, cases
from tests.robustness.outcomes import cases_table, faults

SEED = 15
SAMPLE = {  # number of inputs, and the smallest share of cases that must be noticed
    "tables": (40, 0.2),
    "corpora, tasks and tables, damaged": (225, 0.2),
    "corpora, tasks and tables of no format": (162, 0.2),
    "rows of tasks": (160, 0.2),
    "config.json": (240, 0.2),
    "model.safetensors": (240, 0.2),
    "tokenizer.json": (280, 0.2),
    "tokenizer.model": (200, 0.2),
    "study.json": (150, 0.5),
    "fields of an experiment": (150, 0.5),
    "flags": (60, 0.34),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_malformed_input_is_one_line_or_does_no_harm(kind, quick_compilation):
    count, least = SAMPLE[kind]
    kind_cases = cases(kind, count, SEED)
    assert not faults(kind_cases), cases_table(faults(kind_cases))
    assert len([case for case in kind_cases if case.outcome == "noticed"]) > least * len(kind_cases)
