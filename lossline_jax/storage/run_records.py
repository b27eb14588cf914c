"""The JSON records of a run, with one dataclass, one reader and one writer for each file.

    done.json                        `RunResult` of a run that has ended
    failed.json                      `RunFailure` of a run that cannot be trained
    checkpoints/<step>/meta.json     `CheckpointRecord`
    losses/unscored/<run_id>.json    `UnscoredCheckpoints`, in the study's folder

The meta.json of a checkpoint is written last. A folder without this file is not a checkpoint.
"""

import time
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from etils import epath

from lossline_jax.config.serialise import to_json
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_record, write_json
from lossline_jax.storage.paths import RunDir

T = TypeVar("T")
FORMAT = 1  # version of meta.json
META_FILE = "meta.json"


@dataclass(frozen=True)
class RunResult:
    """The content of done.json: totals of a finished run over all its restarts."""

    run_fingerprint: str
    step: int
    tokens: int
    tokens_per_second: float  # over steps and waits for input, without set-up, compilation, checkpoints, evaluation
    wall_seconds: float
    compile_seconds: float  # first call of the step: tracing and compilation
    seconds: dict  # seconds by activity (timer.py)
    # The devices of the process that ended the run. None: the run ended before these fields were recorded.
    num_devices: int | None = None
    device_kind: str | None = None
    num_processes: int | None = None
    mfu: float | None = None  # model FLOPs utilisation of the whole run; None: the peak of the devices is not known


@dataclass(frozen=True)
class RunFailure:
    """The content of failed.json: why a run cannot be trained."""

    reason: str
    time: float | None = None  # seconds since 1970; None: not recorded
    step: int | None = None  # step whose loss or gradient is not finite; None: the run failed for another reason
    learning_rate: float | None = None  # at `step`; None: as for `step`


@dataclass(frozen=True)
class CheckpointMeta:
    """The position of a checkpoint in its run, and the fingerprints of the run and data it belongs to."""

    step: int  # number of updates before the checkpoint
    next_global_example: int  # index of the first sequence not trained on: step x batch size
    data_fingerprint: str
    run_fingerprint: str
    seconds: dict = field(default_factory=dict)  # seconds up to the checkpoint by activity (timer.py)
    num_devices: int | None = None  # of the run at this checkpoint, for its costs (status/runs.py); None: not recorded
    device_kind: str | None = None  # None: not recorded
    code: dict = field(default_factory=dict)  # SHA-256 of the source of each of the run's own classes, by name
    format: int = FORMAT

    @property
    def wall_seconds(self) -> float | None:
        """Seconds of the run up to this checkpoint. None: not recorded, as for weights from elsewhere."""
        return self.seconds.get("wall")


@dataclass(frozen=True)
class CheckpointRecord:
    """The content of a checkpoint's meta.json."""

    meta: CheckpointMeta
    files: dict  # size in bytes and SHA-256 of every other file, by its path in the checkpoint's folder


@dataclass(frozen=True)
class UnscoredCheckpoints:
    """The record of the checkpoints of a run that could not be scored, with the reasons."""

    reason: str  # one line about the first of these checkpoints
    steps: dict = field(default_factory=dict)  # reason for each checkpoint, by step


def read_result(run_dir: RunDir) -> RunResult | None:
    """Return the totals of a finished run. None: the run has not ended. Raises as `files.read_record`."""
    return _read(RunResult, run_dir.done_file)


def write_result(run_dir: RunDir, result: RunResult) -> None:
    """Write done.json, which marks a run as finished."""
    write_json(run_dir.done_file, asdict(result))


def read_failure(run_dir: RunDir) -> RunFailure | None:
    """Return why a run failed. None: the run has not failed. Raises as `files.read_record`."""
    return _read(RunFailure, run_dir.failed_file)


def write_failure(run_dir: RunDir, reason: str, *, step: int | None = None, learning_rate: float | None = None) -> None:
    """Write failed.json, which marks a run as failed until it is trained again.

    Args:
        run_dir: paths of the run.
        reason: one line for the user.
        step: as in `RunFailure`.
        learning_rate: as in `RunFailure`.
    """
    write_json(run_dir.failed_file, asdict(RunFailure(reason, time.time(), step, learning_rate)))


def read_unscored(file: epath.Path) -> UnscoredCheckpoints | None:
    """Return the content of `StudyDir.unscored_file`. None: all checkpoints could be scored.

    Raises as `files.read_record`.
    """
    return _read(UnscoredCheckpoints, file)


def write_unscored(file: epath.Path, unscored: UnscoredCheckpoints) -> None:
    """Write `StudyDir.unscored_file`."""
    write_json(file, asdict(unscored))


def checkpoint_steps(run_dir: RunDir) -> list[int]:
    """Return the steps of the complete checkpoints in ascending order."""
    if not run_dir.checkpoints.exists():
        return []
    folders = [folder for folder in run_dir.checkpoints.iterdir() if folder.name.isdecimal()]
    return sorted(int(folder.name) for folder in folders if (folder / META_FILE).exists())


def checkpointed_step(run_dir: RunDir) -> int:
    """Return the step of the newest complete checkpoint, or 0 before the first checkpoint."""
    return max(checkpoint_steps(run_dir), default=0)


def read_checkpoint(run_dir: RunDir, step: int) -> CheckpointRecord:
    """Read the meta.json of a checkpoint. Raises as `files.read_record`."""
    return read_record(CheckpointRecord, run_dir.checkpoint(step) / META_FILE)


def write_checkpoint(run_dir: RunDir, record: CheckpointRecord) -> None:
    """Write the meta.json of a checkpoint, which completes the checkpoint."""
    content = {"meta": to_json(record.meta), "files": record.files}
    write_json(run_dir.checkpoint(record.meta.step) / META_FILE, content)


def newest_checkpoint(run_dir: RunDir) -> CheckpointMeta | None:
    """Return the meta of the newest checkpoint.

    None: there is no checkpoint, or its record is damaged. A damaged record is reported when the run resumes.
    """
    steps = checkpoint_steps(run_dir)
    try:
        return read_checkpoint(run_dir, steps[-1]).meta if steps else None
    except LosslineError:
        return None


def _read(cls: type[T], file: epath.Path) -> T | None:
    return read_record(cls, file) if file.exists() else None
