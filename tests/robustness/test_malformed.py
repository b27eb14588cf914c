"""A small sample of malformed input of every kind; `malformed.py` makes any number."""

import pytest
from robustness.malformed import KINDS, cases
from robustness.outcomes import cases_table, faults

SEED = 15
SAMPLE = {"tables": 8, "flags": 20, "study.json": 60}  # those that run whole commands; of others 120


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_input_is_one_line_or_does_no_harm(kind, quick_compilation):
    found = cases(kind, SAMPLE.get(kind, 120), SEED)
    assert not faults(found), cases_table(faults(found))
    assert len([case for case in found if case.outcome == "noticed"]) > len(found) / 5
