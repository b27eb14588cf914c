"""Damage to a file of a study never gives a stack trace, nor another number without a message."""

import os
import random

import pytest

from tests.robustness.damage import all_cases, cases
from tests.robustness.outcomes import Answer, faults, outcome

SAMPLE = 40  # cases of verbs that need no device


def shown(case):
    return f"{case.outcome}: {case.use}, {case.damage}: {case.detail}"


def test_a_sample_of_damage_is_noticed_or_without_effect(tmp_path):
    quick = [case for case in all_cases() if case[0].words[0] in ("status", "show", "plan", "resubmit", "compare")]
    sample_cases = list(cases(tmp_path, 15, random.Random(15).sample(quick, SAMPLE)))
    assert [shown(case) for case in faults(sample_cases)] == []
    assert len([case for case in sample_cases if case.outcome == "noticed"]) > SAMPLE / 2


@pytest.mark.slow  # about 400 cases, and each is a command
@pytest.mark.skipif("ROBUSTNESS_ALL" not in os.environ, reason="longer than all else together; set ROBUSTNESS_ALL=1")
def test_all_damage_is_noticed_healed_or_without_effect(tmp_path):
    assert [shown(case) for case in faults(cases(tmp_path, 15))] == []


def test_outcomes_are_named():
    success, refusal = Answer(0, "1.5", ""), Answer(2, "", "[1/2] run\nlossline: a.json: damaged; delete it\n")
    trace = Answer(1, "", "Traceback (most recent call last):\n  ...\nKeyError: 'suites'\n")
    assert outcome(success, equal=True) == "without effect"
    assert outcome(success, equal=True, healed=True) == "healed"
    assert outcome(success, equal=False) == "SILENT"
    assert outcome(success, equal=False, reported=True) == "told"
    assert outcome(refusal, equal=False) == "noticed"
    assert outcome(trace, equal=False) == "TRACE"
    assert outcome(Answer(1, "", "killed\n"), equal=True) == "MUTE"
