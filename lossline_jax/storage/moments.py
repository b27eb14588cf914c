"""The optimiser moments of a run's checkpoints: which checkpoints have them, and their removal.

Moments are needed only to continue a run, and take twice the space of the parameters. A checkpoint without moments
stays complete: its meta.json no longer lists the files of `opt/`. meta.json is replaced first and atomically, and the
folder is deleted afterwards. A kill between the two leaves a folder that meta.json does not list.
"""

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import CheckpointRecord, checkpoint_steps, read_checkpoint, write_checkpoint

MOMENTS = "opt"  # folder of the moments in the folder of a checkpoint


def has_moments(record: CheckpointRecord) -> bool:
    """Return True if a checkpoint has moments, so that its run can continue from it."""
    return any(map(_is_of_moments, record.files))


def moments_bytes(record: CheckpointRecord) -> int:
    """Return the bytes of the moments of a checkpoint."""
    return sum(digest["bytes"] for name, digest in record.files.items() if _is_of_moments(name))


def steps_with_moments(run_dir: RunDir) -> list[int]:
    """Return the steps of the complete checkpoints with moments, in ascending order.

    A checkpoint with a damaged meta.json is left out. It is reported when the run continues.
    """
    return [step for step, record in _records(run_dir).items() if has_moments(record)]


def old_moments(run_dir: RunDir, keep: int) -> dict[int, int]:
    """Return the bytes of the moments of all checkpoints but the newest `keep` with moments, by step.

    Args:
        run_dir: paths of the run.
        keep: number of checkpoints whose moments stay.
    """
    records = _records(run_dir)
    steps = [step for step, record in records.items() if has_moments(record)]
    return {step: moments_bytes(records[step]) for step in steps[: max(0, len(steps) - keep)]}


def remove_moments(run_dir: RunDir, step: int) -> None:
    """Remove the moments of a checkpoint. The caller holds the run's lock.

    Args:
        run_dir: paths of the run.
        step: step of the checkpoint.
    """
    record = read_checkpoint(run_dir, step)
    files = {name: digest for name, digest in record.files.items() if not _is_of_moments(name)}
    write_checkpoint(run_dir, CheckpointRecord(record.meta, files))
    _moments_folder(run_dir, step).rmtree()


def remove_unlisted_moments(run_dir: RunDir) -> None:
    """Remove the moments that a killed `remove_moments` left. The caller holds the run's lock."""
    for step, record in _records(run_dir).items():
        folder = _moments_folder(run_dir, step)
        if not has_moments(record) and folder.exists():
            folder.rmtree()


def _is_of_moments(file: str) -> bool:
    return file.split("/")[0] == MOMENTS


def _records(run_dir: RunDir) -> dict[int, CheckpointRecord]:
    records = {}
    for step in checkpoint_steps(run_dir):
        try:
            records[step] = read_checkpoint(run_dir, step)
        except LosslineError:  # it is reported when the run continues
            continue
    return records


def _moments_folder(run_dir: RunDir, step: int) -> epath.Path:
    return run_dir.checkpoint(step) / MOMENTS
