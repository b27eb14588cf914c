"""The small JSON records of a run: the description of a checkpoint, and the result of a finished run."""

from dataclasses import dataclass, field

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import RunDir

FORMAT = 1
META_FILE = "meta.json"


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


def checkpoint_steps(run_dir: RunDir) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    if not run_dir.checkpoints.exists():
        return []
    folders = [folder for folder in run_dir.checkpoints.iterdir() if folder.name.isdecimal()]
    return sorted(int(folder.name) for folder in folders if (folder / META_FILE).exists())


@dataclass(frozen=True)
class TrainResult:
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


def checkpoint_meta(directory: RunDir) -> dict:
    """What the newest checkpoint says of itself; empty before the first. A damaged one is named when it is resumed."""
    newest = _newest_meta(directory)
    try:
        return read_json(newest, {"meta": dict})["meta"] if newest else {}
    except LosslineError:
        return {}


def checkpointed_step(directory: RunDir) -> int:
    """Step of the newest whole checkpoint; 0 before the first."""
    newest = _newest_meta(directory)
    return int(newest.parent.name) if newest else 0


def _newest_meta(directory: RunDir) -> epath.Path | None:
    if not directory.checkpoints.exists():
        return None
    folders = sorted(folder for folder in directory.checkpoints.iterdir() if folder.name.isdecimal())
    whole = [folder / "meta.json" for folder in folders if (folder / "meta.json").exists()]
    return whole[-1] if whole else None
