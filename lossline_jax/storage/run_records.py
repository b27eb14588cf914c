"""The JSON records of a run: one dataclass, one reader and one writer for each file.

done.json                         `RunResult`, of a run that has ended
failed.json                       `RunFailure`, of a run that cannot be trained
checkpoints/<step>/meta.json      `CheckpointRecord`, written last: a folder without it is no checkpoint
losses/unscored/<run_id>.json     `UnscoredCheckpoints`, in the study's folder
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
FORMAT = 1
META_FILE = "meta.json"


@dataclass(frozen=True)
class RunResult:
    """Totals of a finished run over all its restarts: the content of done.json."""

    run_fingerprint: str
    step: int
    tokens: int
    tokens_per_second: float  # in steps and waits for input: no set-up, compilation, checkpoint or evaluation
    wall_seconds: float
    compile_seconds: float  # first call of the step: tracing and compilation
    seconds: dict  # by what they went on (timer.py)
    # Of the process that ended the run; runs that ended before these were kept have none.
    num_devices: int | None = None
    device_kind: str | None = None
    num_processes: int | None = None
    mfu: float | None = None  # of the whole run, by the peak of those devices; None: their peak is not known


@dataclass(frozen=True)
class RunFailure:
    """Why a run cannot be trained: the content of failed.json."""

    reason: str
    time: float | None = None  # seconds since 1970; None: not written
    step: int | None = None  # whose loss or gradient is not finite; None: the run failed otherwise
    learning_rate: float | None = None  # of that step


@dataclass(frozen=True)
class CheckpointMeta:
    """Where a checkpoint stands and what it belongs to."""

    step: int  # updates done
    next_global_example: int  # index of the first sequence not trained on: step x batch size
    data_fingerprint: str
    run_fingerprint: str
    seconds: dict = field(default_factory=dict)  # spent so far, by what on (timer.py)
    num_devices: int | None = None  # of the run when it was written, for its costs (status/runs.py)
    device_kind: str | None = None
    format: int = FORMAT

    @property
    def wall_seconds(self) -> float | None:
        """Seconds of the run up to this checkpoint; None: not written, as for weights from elsewhere."""
        return self.seconds.get("wall")


@dataclass(frozen=True)
class CheckpointRecord:
    """The content of a checkpoint's meta.json."""

    meta: CheckpointMeta
    files: dict  # size in bytes and SHA-256 of every other file, by its path in the checkpoint's folder


@dataclass(frozen=True)
class UnscoredCheckpoints:
    """Why checkpoints of a run could not be scored."""

    reason: str  # one line on the first of them
    steps: dict = field(default_factory=dict)  # the reason of each, by step


def read_result(run_dir: RunDir) -> RunResult | None:
    """Return the totals of a finished run; None: it has not ended. Raises as `files.read_record`."""
    return _read(RunResult, run_dir.done_file)


def write_result(run_dir: RunDir, result: RunResult) -> None:
    """Write done.json, by which a run is finished."""
    write_json(run_dir.done_file, asdict(result))


def read_failure(run_dir: RunDir) -> RunFailure | None:
    """Return why a run failed; None: it has not. Raises as `files.read_record`."""
    return _read(RunFailure, run_dir.failed_file)


def write_failure(run_dir: RunDir, reason: str, *, step: int | None = None, learning_rate: float | None = None) -> None:
    """Write failed.json, by which a run is failed until it is trained again."""
    write_json(run_dir.failed_file, asdict(RunFailure(reason, time.time(), step, learning_rate)))


def read_unscored(file: epath.Path) -> UnscoredCheckpoints | None:
    """Return what `StudyDir.unscored_file` holds; None: all could be scored. Raises as `files.read_record`."""
    return _read(UnscoredCheckpoints, file)


def write_unscored(file: epath.Path, unscored: UnscoredCheckpoints) -> None:
    """Write `StudyDir.unscored_file`."""
    write_json(file, asdict(unscored))


def checkpoint_steps(run_dir: RunDir) -> list[int]:
    """Return the steps of the complete checkpoints, ascending."""
    if not run_dir.checkpoints.exists():
        return []
    folders = [folder for folder in run_dir.checkpoints.iterdir() if folder.name.isdecimal()]
    return sorted(int(folder.name) for folder in folders if (folder / META_FILE).exists())


def checkpointed_step(run_dir: RunDir) -> int:
    """Return the step of the newest complete checkpoint; 0 before the first."""
    return max(checkpoint_steps(run_dir), default=0)


def read_checkpoint(run_dir: RunDir, step: int) -> CheckpointRecord:
    """Read the meta.json of a checkpoint. Raises as `files.read_record`."""
    return read_record(CheckpointRecord, run_dir.checkpoint(step) / META_FILE)


def write_checkpoint(run_dir: RunDir, record: CheckpointRecord) -> None:
    """Write the meta.json of a checkpoint, which completes it."""
    content = {"meta": to_json(record.meta), "files": record.files}
    write_json(run_dir.checkpoint(record.meta.step) / META_FILE, content)


def newest_checkpoint(run_dir: RunDir) -> CheckpointMeta | None:
    """Return the meta of the newest checkpoint; None: there is none, or it is damaged, which a resume tells."""
    steps = checkpoint_steps(run_dir)
    try:
        return read_checkpoint(run_dir, steps[-1]).meta if steps else None
    except LosslineError:
        return None


def _read(cls: type[T], file: epath.Path) -> T | None:
    return read_record(cls, file) if file.exists() else None
