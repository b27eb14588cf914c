"""The records of a run are read as they were written, also those of earlier versions."""

import pytest
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_records import (
    CheckpointMeta,
    CheckpointRecord,
    RunFailure,
    RunResult,
    UnscoredCheckpoints,
    checkpoint_steps,
    checkpointed_step,
    newest_checkpoint,
    read_checkpoint,
    read_failure,
    read_result,
    read_unscored,
    write_checkpoint,
    write_failure,
    write_result,
    write_unscored,
)
from tests.support.paths import TESTS

RESULT = RunResult("run", 20, 2560, 1000.0, 3.5, 0.5, {"wall": 3.5}, num_devices=4, device_kind="TPU v5 lite", mfu=0.4)


@pytest.fixture
def run_dir(tmp_path):
    return RunDir(epath.Path(tmp_path) / "run")


def meta(step):
    return CheckpointMeta(step, 16 * step, "data", "run", {"wall": float(step)}, num_devices=4, device_kind="H100")


def test_a_run_that_left_no_record_has_neither_ended_nor_failed(run_dir):
    assert (read_result(run_dir), read_failure(run_dir), newest_checkpoint(run_dir)) == (None, None, None)
    assert (checkpoint_steps(run_dir), checkpointed_step(run_dir)) == ([], 0)


def test_records_come_back_as_they_were_written(run_dir):
    write_result(run_dir, RESULT)
    assert read_result(run_dir) == RESULT
    unscored = UnscoredCheckpoints("step 4: its checkpoint is gone", {"4": "its checkpoint is gone"})
    write_unscored(run_dir.root / "unscored.json", unscored)
    assert read_unscored(run_dir.root / "unscored.json") == unscored
    for step in (4, 8):
        write_checkpoint(run_dir, CheckpointRecord(meta(step), {"params/a": {"bytes": 1, "sha256": "0"}}))
    assert read_checkpoint(run_dir, 4) == CheckpointRecord(meta(4), {"params/a": {"bytes": 1, "sha256": "0"}})
    assert newest_checkpoint(run_dir) == meta(8)


@pytest.mark.parametrize("where", [{}, {"step": 7, "learning_rate": 0.1}])
def test_failures_have_one_shape(run_dir, where):
    write_failure(run_dir, "loss is nan at step 7", **where)
    failure = read_failure(run_dir)
    assert failure == RunFailure("loss is nan at step 7", failure.time, **where)
    assert {"reason", "time", "step", "learning_rate"} <= read_json(run_dir.failed_file).keys()


@pytest.mark.parametrize(
    "earlier",
    [{"step": 7, "reason": "loss is nan", "learning_rate": 0.1, "time": 1.5}, {"reason": "loss is nan", "time": 1}],
)
def test_both_earlier_shapes_of_a_failure_are_read(run_dir, earlier):
    write_json(run_dir.failed_file, earlier)
    assert read_failure(run_dir) == RunFailure(**earlier)


def test_a_record_that_lacks_a_field_is_named_with_what_to_do(run_dir):
    write_json(run_dir.done_file, {"wall_seconds": 1.0})
    with pytest.raises(LosslineError, match=r"done\.json: RunResult needs .*restore it from a copy, or delete it"):
        read_result(run_dir)
    write_json(run_dir.failed_file, {"reason": 3})
    with pytest.raises(LosslineError, match=r"failed\.json\.reason: expected str, got 3; restore it"):
        read_failure(run_dir)


def test_records_of_the_old_study_are_read():
    folder = StudyDir(epath.Path(TESTS / "golden" / "old_study"))
    runs = [RunDir(path) for path in folder.run("").root.iterdir()]
    assert len(runs) == 3
    for run in runs:
        assert checkpoint_steps(run) == [10, 20]
        assert newest_checkpoint(run).step == read_result(run).step == 20
        assert newest_checkpoint(run).run_fingerprint == read_result(run).run_fingerprint
        assert "params/manifest.ocdbt" in read_checkpoint(run, 10).files
