"""Every number of an experiment has a range. A number outside its range is refused, with the name of its field."""

import dataclasses
import json
import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.cli.main import main
from lossline_jax.config.execution import ExecutionConfig, ProcessesConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.ranges import RANGES, Range, check_ranges
from lossline_jax.config.serialise import to_json
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline import experiment
from tests.support.config_classes import parts, reachable
from tests.support.paths import SUPPORT

TINY = str(SUPPORT / "tiny_study.py")
FIELDS = [(kind, name) for kind, ranges in RANGES.items() for name in ranges]


def test_every_number_of_every_config_has_a_range():
    kinds = reachable(StudyConfig) | {ProcessesConfig}
    numbers = set()
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        numbers |= {(kind, f.name) for f in dataclasses.fields(kind) if parts(hints[f.name]) & {int, float}}
    assert numbers == set(FIELDS)


def values_outside(allowed: Range):
    """Return numbers that a range does not hold: next to its ends, far away, infinite, and nan."""
    near = [allowed.low - 1, allowed.high + 1, *([allowed.low] if allowed.low_open else [])]
    return [*(value for value in near if not allowed.holds(value)), -(10**30), math.inf, -math.inf, math.nan]


def with_number(kind, name, value):
    """Return a config of that class that has `value` in the field and None in all other fields."""
    config = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(config, field.name, None)
    object.__setattr__(config, name, (("wiki", value),) if name == "mixture" else value)
    return config


@given(st.sampled_from(FIELDS), st.data())
def test_a_number_outside_its_range_is_refused_by_its_field(field, data):
    kind, name = field
    value = data.draw(st.sampled_from(values_outside(RANGES[kind][name])))
    with pytest.raises(LosslineError, match=rf"^{name}(\[0\]\[1\])?: .* is out of range; give "):
        check_ranges(with_number(kind, name, value))


@given(st.sampled_from(FIELDS))
def test_the_ends_of_a_range_are_held(field):
    kind, name = field
    allowed = RANGES[kind][name]
    for end, is_open in ((allowed.low, allowed.low_open), (allowed.high, allowed.high_open)):
        if not is_open and math.isfinite(end):
            check_ranges(with_number(kind, name, end))


@pytest.mark.parametrize("kind", [LlamaConfig, ExecutionConfig, ProcessesConfig])
def test_defaults_lie_in_their_ranges(kind):
    check_ranges(kind())


STUDY_JSON = [
    (("runs", 1, "seed"), -1, "runs[1].seed: -1 is out of range; give at least 0 and at most 4,294,967,295"),
    (("runs", 0, "seed"), 2**32, "runs[0].seed: 4294967296"),
    (("execution", "log_every"), -1, "execution.log_every: -1"),
    (("execution", "data_parallel"), 0, "execution.data_parallel: 0"),
    (("execution", "microbatch_size"), -1, "execution.microbatch_size: -1"),
    (("execution", "stall_seconds"), math.inf, "execution.stall_seconds: inf"),
    (("suite", "context_length"), 10**30, "suite.context_length: 1000000000000"),
    (("suite", "cloze", 0, "continuation_bytes"), 10**30, "suite.cloze[0].continuation_bytes: 1"),
    (("suite", "cloze", 0, "num_choices"), -1, "suite.cloze[0].num_choices: -1"),
    (("runs", 2, "data", "mixture", 0, 1), 0.0, "runs[2].data.mixture[0][1]: 0.0"),
    (("runs", 2, "data", "mixture", 0, 1), math.nan, "runs[2].data.mixture[0][1]: nan"),
    (("runs", 0, "optim", "learning_rate"), -0.1, "runs[0].optim.learning_rate: -0.1"),
    (("validation_fraction",), 1.0, "validation_fraction: 1.0"),
]


@pytest.mark.parametrize(("path", "value", "message"), STUDY_JSON, ids=lambda value: str(value)[:40])
def test_a_study_file_is_held_to_the_ranges_at_plan(tmp_path, capsys, path, value, message):
    content = to_json(experiment.load_study_function(TINY)())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as leaving:
        main(["plan", str(tmp_path)])
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lossline: {tmp_path}/study.json: {message}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["plan", TINY, "--execution.data-parallel", "0"], "execution.data_parallel: 0 is out of range"),
        (["plan", TINY, "--execution.log-every", "-1"], "execution.log_every: -1 is out of range"),
        (["prepare", TINY, "--execution.microbatch-size", "-1"], "execution.microbatch_size: -1 is out of range"),
        (["train", TINY, "--processes.heartbeat-seconds", "-1"], "--processes.heartbeat_seconds: -1 is out of range"),
        (["evaluate", TINY, "--follow", "--poll-seconds", "inf"], "--poll-seconds: inf is not a time to wait"),
    ],
)
def test_flags_are_held_to_the_ranges(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as leaving:
        main([*flags, "--root", str(tmp_path)])
    assert leaving.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
