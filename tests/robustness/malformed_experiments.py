"""Make fields, flags and study.json with values from a seed. Each is refused in one line, or is a valid study."""

import copy
import dataclasses
import json
import math
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lossline_jax.config.serialise import from_json, to_json
from lossline_jax.config.study import StudyConfig
from lossline_jax.config.validate import validate_study
from lossline_jax.pipeline.experiment import load_study_function
from tests.robustness.outcomes import Answer, Case, attempt, call, outcome

TINY = str(Path(__file__).parents[1] / "support" / "tiny_study.py")
VALUES = (
    *(-1, 0, 1, 2**31, 2**32, 10**9, 10**30, -(10**30), 0.5, -0.5, 1e30, 5e-324, math.nan, math.inf, -math.inf),
    *("", "x", "x" * 300, "../up", "a/b", "~", "\0", "\x1b[31m", "-1", "nan", "name with space"),
    *(None, True, False, [], {}, [[]], [None], {"type": "StudyConfig"}, {"type": None}),
)
OBJECTS = (object(), b"bytes", {1, 2}, np.float64(0.5), np.int64(3), np.nan, lambda: 1, 1j, range(3), Path("x"))
FLAGS = ("--tokens", "--max-bytes", "--corpus", "--other-rate", "--quiz", "--execution.log-every", "--execution.slices")
FLAGS += ("--execution.data-parallel", "--execution.microbatch-size", "--execution.stall-seconds", "--utilisation")
FLAG_VALUES = (
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


def sound_study() -> StudyConfig:
    return validate_study(load_study_function(TINY)(), TINY)


def leaves(value, path=()):
    """Yield the path of every value inside a JSON value, at any depth. Containers count too."""
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


def study_files(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Replace one value of study.json by another."""
    rng, content = random.Random(f"{seed} study.json"), to_json(sound_study())
    paths = list(leaves(content))
    (folder / "study.json").write_text(json.dumps(content))
    assert call(["plan", str(folder)]).code == 0
    for _ in range(count):
        path, value = rng.choice(paths), rng.choice(VALUES)
        (folder / "study.json").write_text(json.dumps(put(content, path, value)))
        answer = call(["plan", str(folder)])
        outcome_name = _name_outcome(answer, "study.json")
        yield Case("study.json by plan", f"{'.'.join(map(str, path))}: {value!r}", outcome_name, answer.last_line)


def fields(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Replace a field of a study by any object. A study that is accepted must survive JSON."""
    rng, study = random.Random(f"{seed} fields"), sound_study()
    for _ in range(count):
        owner = rng.choice(
            [study, study.suite, study.runs[0], study.runs[0].optim, study.runs[2].model, study.execution]
        )
        field, value = rng.choice(dataclasses.fields(owner)).name, rng.choice((*VALUES, *OBJECTS))
        changed = _with(study, owner, dataclasses.replace(owner, **{field: value}))
        outcome_name, detail, _ = attempt(partial(_check_and_write, changed), named="bad.py")
        yield Case(f"field of {type(owner).__name__}", f"{field}: {value!r}", outcome_name, detail)


def flags(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Try flags with any value. The verb `plan` leaves no file."""
    rng = random.Random(f"{seed} flags")
    for _ in range(count):
        flag, value = rng.choice(FLAGS), rng.choice(FLAG_VALUES)
        answer = call(["plan", TINY, f"{flag}={value}", "--root", str(folder)])
        outcome_name = _name_outcome(answer) if not list(folder.iterdir()) else "SILENT"
        yield Case("flag of plan", f"{flag}={value}", outcome_name, answer.last_line)


def _name_outcome(answer: Answer, named: str = "") -> str:
    outcome_name = outcome(answer, equal=True)
    if outcome_name == "noticed" and (named not in answer.last_line or not answer.last_line.isprintable()):
        return "MUTE"
    return "accepted" if outcome_name == "without effect" else outcome_name


def _check_and_write(study: StudyConfig) -> None:
    checked = validate_study(study, "bad.py")
    assert from_json(StudyConfig, json.loads(json.dumps(to_json(checked)))) == checked


def _with(study, owner, bad):
    """Return the study with `bad` in the place of `owner`."""
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
