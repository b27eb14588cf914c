"""Fields, flags and study.json with values from a seed: each is refused in one line, or is a study that can be."""

import copy
import dataclasses
import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from outcomes import FAULTS, call, outcome

from lossline_jax.config import from_json, to_json
from lossline_jax.errors import LosslineError
from lossline_jax.experiment import check_study, load_study_function
from lossline_jax.study import StudyConfig

TINY = str(Path(__file__).parents[1] / "tiny_study.py")
CASES = 150
VALUES = (
    *(-1, 0, 1, 2**31, 2**32, 10**9, 10**30, -(10**30), 0.5, -0.5, 1e30, 5e-324, math.nan, math.inf, -math.inf),
    *("", "x", "x" * 300, "../up", "a/b", "~", "\0", "\x1b[31m", "-1", "nan", "name with space"),
    *(None, True, False, [], {}, [[]], [None], {"type": "StudyConfig"}, {"type": None}),
)
OBJECTS = (object(), b"bytes", {1, 2}, np.float64(0.5), np.int64(3), np.nan, lambda: 1, 1j, range(3), Path("x"))
FLAGS = ("--tokens", "--max-bytes", "--corpus", "--other-rate", "--quiz", "--execution.log-every", "--execution.slices")
FLAGS += ("--execution.data-parallel", "--execution.microbatch-size", "--execution.stall-seconds", "--utilisation")
WORDS = (
    "-1",
    "0",
    "1e30",
    "1" * 40,
    "nan",
    "inf",
    "-inf",
    "",
    " ",
    "abc",
    "None",
    "True",
    "0x10",
    "1,5",
    "½",
    "\x1b[31m",
)


@pytest.fixture(scope="module")
def study():
    return check_study(load_study_function(TINY)(), TINY)


def leaves(value, path=()):
    """The path of every value inside a JSON value, however deep; containers too."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def put(content, path, value):
    changed = copy.deepcopy(content)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def is_well_answered(answer):
    return outcome(answer, equal=True) not in FAULTS


def test_a_study_file_with_a_bad_value_is_one_line(study, tmp_path):
    rng, content = random.Random(15), to_json(study)
    paths, refused = list(leaves(content)), 0
    for _ in range(CASES):
        path, value = rng.choice(paths), rng.choice(VALUES)
        (tmp_path / "study.json").write_text(json.dumps(put(content, path, value)))
        answer = call(["plan", str(tmp_path)])
        assert is_well_answered(answer), (path, value, answer.err)
        refused += answer.code != 0
        if answer.code:
            assert answer.last_line.count("study.json"), (path, value, answer.last_line)
            assert answer.last_line.isprintable(), answer.last_line
    assert refused > CASES // 2


def test_a_field_of_an_experiment_with_a_bad_value_is_one_line(study):
    """A study() function may return any object at all in any field."""
    rng, refused = random.Random(16), 0
    for _ in range(CASES):
        owner = rng.choice(
            [study, study.suite, study.runs[0], study.runs[0].optim, study.runs[2].model, study.execution]
        )
        field = rng.choice(dataclasses.fields(owner)).name
        bad = dataclasses.replace(owner, **{field: rng.choice((*VALUES, *OBJECTS))})
        changed = _with(study, owner, bad)
        checked = _checked(changed)
        if isinstance(checked, str):
            refused += 1
            assert re.match("bad.py", checked), checked
            assert "\n" not in checked
        else:
            assert from_json(StudyConfig, json.loads(json.dumps(to_json(checked)))) == checked
    assert refused > CASES // 2


def _checked(study):
    """The study as it is read, or the line that refuses it."""
    try:
        return check_study(study, "bad.py")
    except LosslineError as error:
        return str(error)


def _with(study, owner, bad):
    """The study with `bad` in the place of `owner`."""
    if owner is study:
        return bad
    if owner is study.suite:
        return dataclasses.replace(study, suite=bad)
    if owner is study.execution:
        return dataclasses.replace(study, execution=bad)
    runs = list(study.runs)
    if owner is runs[0]:
        runs[0] = bad
    elif owner is runs[0].optim:
        runs[0] = dataclasses.replace(runs[0], optim=bad)
    else:
        runs[2] = dataclasses.replace(runs[2], model=bad)
    return dataclasses.replace(study, runs=tuple(runs))


def test_a_flag_with_a_bad_value_is_one_line_or_the_usage(tmp_path):
    rng, refused = random.Random(17), 0
    for _ in range(60):
        flag, word = rng.choice(FLAGS), rng.choice(WORDS)
        answer = call(["plan", TINY, f"{flag}={word}", "--root", str(tmp_path)])
        assert is_well_answered(answer), (flag, word, answer.err)
        refused += answer.code != 0
    assert refused > 20
    assert list(tmp_path.iterdir()) == []
