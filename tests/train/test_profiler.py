"""A trace has the requested steps and can be read."""

import gzip
import json

import pytest

from lossline_jax.cli.main import main
from lossline_jax.cli.options import RunOptions, TrainOptions
from lossline_jax.cli.parsing import parse_study
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.train.monitor import profiler
from lossline_jax.train.monitor.profiler import traced_steps
from tests.support.paths import SUPPORT
from tests.support.tiny_training import Source, train_bigram

TINY = str(SUPPORT / "tiny_study.py")
EXECUTION = ExecutionConfig(data_parallel=2)


def train(folder, profile_steps, source=None):
    return train_bigram(folder, EXECUTION, source, profile_steps=profile_steps)


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        (0, 3, range(5, 8)),  # not from step 4, which saves a checkpoint
        (0, 5, range(4, 9)),  # checkpoints are too frequent
        (4, 2, range(9, 11)),
        (4, 40, range(8, 13)),  # the run ends
        (10, 5, range(14, 14)),
        (0, 0, range(4, 4)),
    ],
)
def test_the_steps_that_are_traced(start, count, expected):
    assert traced_steps(start, 12, count, (4, 8, 12)) == expected


def test_a_trace_has_the_printed_steps_and_does_not_change_the_losses(tmp_path, capsys):
    train(tmp_path / "plain", 0)
    train(tmp_path / "traced", 3)
    messages = capsys.readouterr().err
    assert f"profile: steps 5 to 7 in {tmp_path}/traced/profile" in messages
    assert not (tmp_path / "plain" / "profile").exists()
    (trace,) = (tmp_path / "traced" / "profile").rglob("*.trace.json.gz")
    assert list(trace.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = {event["args"]["step_num"] for event in events if event.get("name") == "train"}
    assert steps == {"5", "6", "7"}
    losses = [
        [json.loads(line)["loss_nats_per_token"] for line in (tmp_path / name / "steps.jsonl").read_text().splitlines()]
        for name in ("plain", "traced")
    ]
    assert losses[0] == losses[1]


def test_fewer_steps_than_requested_are_reported(tmp_path, capsys):
    train(tmp_path, 40)
    assert "--profile: 9 of 40 steps" in capsys.readouterr().err


def test_a_trace_ends_with_a_run_that_fails_meanwhile(tmp_path):
    with pytest.raises(Exception, match="loss is nan at step 6"):
        train(tmp_path / "failing", 3, Source(nan_at=5))
    train(tmp_path / "next", 3)  # jax refuses a second trace while one is running
    assert list((tmp_path / "next" / "profile").rglob("*.xplane.pb"))


def test_an_object_store_gets_the_files_of_the_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(profiler, "is_remote", lambda path: True)
    train(tmp_path, 1)
    assert [path.suffixes[-2:] for path in sorted((tmp_path / "profile").rglob("*.trace.json.gz"))] == [
        [".json", ".gz"]
    ]


def test_the_flag_is_of_the_verb_and_not_of_the_study():
    plain, _, _ = parse_study("train", TrainOptions, TINY, [])
    for verb, kind in (("train", TrainOptions), ("run", RunOptions)):
        study, _, options = parse_study(verb, kind, TINY, ["--profile", "5"])
        assert options.profile == 5
        assert study == plain


def test_no_step_is_no_number_of_steps_to_trace(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", TINY, "--profile", "0"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "lossline: --profile: 0 is not a valid number of steps; give 1 or more\n"
