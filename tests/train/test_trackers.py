"""TensorBoard and W&B show every logged step once, with the values of steps.jsonl, also after interruptions."""

import dataclasses
import json
import struct
import sys
import types

import numpy as np
import pytest
from etils import epath
from tensorboardX.proto.event_pb2 import Event, SessionLog

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.train.monitor import trackers
from tests.support.tiny_training import RUN, Source, train_bigram

EXECUTION = ExecutionConfig(data_parallel=2, log_every=1)


def train(folder, *, nan_at=None, on_checkpoint=None, **execution):
    execution = dataclasses.replace(EXECUTION, **execution)
    return train_bigram(folder, execution, Source(nan_at=nan_at), on_checkpoint=on_checkpoint)


def train_interrupted(folder, nan_at=6, **options):
    """Train a run that diverges at step `nan_at + 1`, and resume it.

    The failure leaves the checkpoint of step 4 and rows after it.
    """
    with pytest.raises(RunFailed):
        train(folder, nan_at=nan_at, **options)
    train(folder, **options)


def read_logged_rows(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def crc32c(content):
    """Return the checksum with Castagnoli's polynomial, computed bit by bit."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def mask_checksum(content):
    crc = crc32c(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def event_files(folder):
    return sorted((folder / "tensorboard").iterdir())


def read_events(folder):
    """Read all event files of a folder by the published layout of TFRecord."""
    events = []
    for path in event_files(folder):
        content = path.read_bytes()
        while content:
            head, (length,) = content[:8], struct.unpack("<Q", content[:8])
            assert content[8:12] == mask_checksum(head)
            body, content = content[12 : 12 + length], content[12 + length :]
            assert content[:4] == mask_checksum(body)
            content = content[4:]
            events.append(Event.FromString(body))
    return events


def scalars(folder):
    """Return [(step, tag, value)] in the order of the files."""
    return [
        (event.step, value.tag, value.simple_value) for event in read_events(folder) for value in event.summary.value
    ]


def expected_scalars(row):
    return {(row["step"], tag, np.float32(row[key])) for key, tag in trackers.TAGS.items() if row[key] is not None}


def test_every_step_is_in_the_event_files_once_after_an_interruption(tmp_path):
    losses = iter([3.5, 2.5, 1.5])
    scored = []

    def score(step, params):
        """Return losses like a scorer, which does not score a checkpoint a second time."""
        if step in scored:
            return {}
        scored.append(step)
        return {"wiki": next(losses)}

    train_interrupted(tmp_path, on_checkpoint=score)
    event_scalars = scalars(tmp_path)
    assert len(event_scalars) == len({(step, tag) for step, tag, _ in event_scalars})
    assert {scalar for scalar in event_scalars if not scalar[1].startswith("eval/")} == set().union(
        *map(expected_scalars, read_logged_rows(tmp_path))
    )
    assert [scalar for scalar in event_scalars if scalar[1].startswith("eval/")] == [
        (4, "eval/wiki", 3.5),
        (8, "eval/wiki", 2.5),
        (12, "eval/wiki", 1.5),
    ]
    emptied, whole = event_files(tmp_path)
    assert emptied.stat().st_size == 0 < whole.stat().st_size
    first, second, *_ = read_events(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert (second.session_log.status, second.step) == (SessionLog.START, 0)  # readers then drop earlier events
    assert [event.wall_time for event in read_events(tmp_path)][2] == pytest.approx(
        read_logged_rows(tmp_path)[0]["time"]
    )


def test_an_event_file_that_a_kill_cut_short_does_no_harm(tmp_path):
    with pytest.raises(RunFailed):
        train(tmp_path, nan_at=6, on_checkpoint=lambda step, params: {"wiki": 3.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes() + b"\x40\0\0\0\0\0\0\0abcd\x01\x02")
    train(tmp_path)
    assert [step for step, tag, _ in scalars(tmp_path) if tag == "train/loss_nats_per_token"] == list(range(1, 13))
    assert (4, "eval/wiki", 3.5) in scalars(tmp_path)


def test_a_later_file_has_a_later_name_even_if_the_clock_was_put_back(tmp_path, monkeypatch):
    with pytest.raises(RunFailed):
        train(tmp_path, nan_at=6)
    (first,) = (tmp_path / "tensorboard").iterdir()
    monkeypatch.setattr(trackers.time, "time", lambda: 1e6)
    train(tmp_path)
    assert event_files(tmp_path)[0] == first
    assert event_files(tmp_path)[1].stat().st_size


def test_an_object_store_gets_whole_files_at_each_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "is_remote", lambda path: True)
    monkeypatch.setattr(epath.Path(tmp_path).__class__, "open", refuse_appending(epath.Path(tmp_path).__class__.open))
    with pytest.raises(RunFailed):
        train(tmp_path, nan_at=5)  # fails at step 6, after step 4 was saved
    assert max(step for step, *_ in scalars(tmp_path)) >= 4
    train(tmp_path)
    event_scalars = scalars(tmp_path)
    assert set(event_scalars) == set().union(*map(expected_scalars, read_logged_rows(tmp_path)))
    assert len(event_scalars) == len(set(event_scalars))


def refuse_appending(real):
    def open(self, mode="r", *args, **kwargs):
        assert not ("a" in mode and self.parent.name == "tensorboard"), "an object store cannot append"
        return real(self, mode, *args, **kwargs)

    return open


def test_without_tensorboard_there_is_no_folder_and_no_import(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
    with pytest.raises(LosslineError, match=r"execution\.tensorboard: cannot import tensorboardX.*pip install"):
        train(tmp_path / "on")
    train(tmp_path / "off", tensorboard=False)
    assert not (tmp_path / "off" / "tensorboard").exists()


def test_tensorboard_itself_reads_the_file_and_starts_over_with_the_next(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(RunFailed):
        train(tmp_path, nan_at=6)
    early_reader = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    early_reader.Reload()
    assert [event.step for event in early_reader.Scalars("train/loss_nats_per_token")] == list(range(1, 7))
    train(tmp_path)
    late_reader = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    for reader in (early_reader, late_reader):
        reader.Reload()
        events = reader.Scalars("train/loss_nats_per_token")
        assert [(event.step, event.value) for event in events] == [
            (row["step"], np.float32(row["loss_nats_per_token"])) for row in read_logged_rows(tmp_path)
        ]


class FakeWandB(types.ModuleType):
    """A stand-in for wandb that stores what each run logs, as the server does."""

    class Error(Exception):
        pass

    def __init__(self, refuse=False):
        super().__init__("wandb")
        self.refuse, self.inits, self.history, self.open = refuse, [], [], 0

    def Settings(self, **settings):
        return settings

    def init(self, **arguments):
        if self.refuse:
            raise self.Error("no API key configured\nmore words")
        self.inits.append(arguments)
        self.open += 1
        return types.SimpleNamespace(
            summary={"step": self.history[-1]["step"]} if self.history else {},
            define_metric=lambda *args, **kwargs: None,
            log=self.history.append,
            finish=self.finish,
        )

    def finish(self):
        self.open -= 1


def test_a_resumed_run_goes_on_in_its_own_run_of_wandb(tmp_path, monkeypatch):
    wandb = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    train_interrupted(tmp_path, wandb_project="lines", on_checkpoint=lambda step, _: {"wiki": 3.0} if step == 8 else {})
    assert [(entry["project"], entry["id"], entry["resume"]) for entry in wandb.inits] == [
        ("lines", RUN.run_id, "allow")
    ] * 2
    assert wandb.inits[0]["config"]["batch_size"] == RUN.batch_size
    assert wandb.open == 0
    rows = [entry for entry in wandb.history if "eval/wiki" not in entry]
    assert [(entry["step"], entry["train/loss_nats_per_token"]) for entry in rows] == [
        (row["step"], row["loss_nats_per_token"]) for row in read_logged_rows(tmp_path)
    ]
    assert [entry for entry in wandb.history if "eval/wiki" in entry] == [{"step": 8, "eval/wiki": 3.0}]


def test_wandb_that_is_missing_or_refuses_is_reported_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(LosslineError, match=r"execution\.wandb_project: cannot import wandb; `pip install wandb`"):
        train(tmp_path, wandb_project="lines")
    monkeypatch.setitem(sys.modules, "wandb", FakeWandB(refuse=True))
    with pytest.raises(LosslineError, match=r"W&B refuses \(no API key configured\); log in .*WANDB_MODE=offline$"):
        train(tmp_path, wandb_project="lines")


def test_wandb_itself_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train_interrupted(tmp_path, wandb_project="lines")
    files = sorted((tmp_path / "wandb").glob(f"offline-run-*-{RUN.run_id}/run-{RUN.run_id}.wandb"))
    assert len(files) == 2  # `wandb sync` adds both to the run with that id
    assert all(file.stat().st_size > 0 for file in files)
