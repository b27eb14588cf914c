"""The contents of a study's folder that its runs do not need: other runs, lost runs, old moments, temporary files.

`read_leftovers` lists them, and `remove` removes what the user chose. Neither touches what a living process holds.
No jax.
"""

import contextlib
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from etils import epath

from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError, RunLocked
from lossline_jax.storage.files import is_remote
from lossline_jax.storage.leftovers import parts_without_writer, remove_leftovers
from lossline_jax.storage.moments import old_moments, remove_moments
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import hold_run_lock, is_locked
from lossline_jax.weights.registry import scored_models


@dataclass(frozen=True)
class StoredRun:
    """The stored files of one run."""

    run_id: str
    num_bytes: int  # of the run's folder; 0: there is no folder
    has_folder: bool
    has_rows: bool  # the run has rows of losses
    is_held: bool  # a process works on the run
    old_moments: dict[int, int]  # bytes of the moments that no run needs, by step


@dataclass(frozen=True)
class Leftovers:
    """The runs and the temporary files in the folder of a study.

    Attributes:
        folder: the study's folder.
        runs: the runs of the study, in its order.
        others: the runs that are not part of the study.
        parts: temporary files and folders that a killed process left.
    """

    folder: str
    runs: tuple[StoredRun, ...]
    others: tuple[StoredRun, ...]
    parts: tuple[str, ...]

    @property
    def lost(self) -> tuple[StoredRun, ...]:
        """The runs of the study whose folder was deleted by hand, and whose rows the fits still use."""
        return tuple(run for run in self.runs if run.has_rows and not run.has_folder)

    @property
    def moments_bytes(self) -> int:
        """The bytes of the moments that no run needs."""
        return sum(sum(run.old_moments.values()) for run in self.runs)


def other_runs(study: StudyConfig, folder: StudyDir) -> list[str]:
    """Return the ids of the runs and models in the folder that are not part of the study, in alphabetical order.

    Args:
        study: the study.
        folder: its folder.
    """
    known = {run.run_id for run in study.runs} | {entry.model.run_id for entry in scored_models(folder)}
    return sorted((_names(folder.run("").root) | _names(folder.imported) | _scored(folder)) - known)


def other_runs_note(study: StudyConfig, folder: StudyDir) -> str:
    """Return a line about the runs in the folder that are not part of the study. Empty: there are none.

    Args:
        study: the study.
        folder: its folder.
    """
    others = other_runs(study, folder)
    if not others:
        return ""
    runs, are = ("run", "is") if len(others) == 1 else ("runs", "are")
    return f"{len(others)} other {runs} in {folder.root} {are} not part of this study: lossline-jax runs {folder.root}"


def read_leftovers(study: StudyConfig, folder: StudyDir, keep_moments: int | None) -> Leftovers:
    """Read what the folder of a study holds, with sizes. This lists every file of its runs.

    Args:
        study: the study.
        folder: its folder.
        keep_moments: number of the newest checkpoints of a run whose moments it needs. None: all.
    """
    scored = _scored(folder)

    def stored(run_id: str, keep: int | None) -> StoredRun:
        directory = folder.run(run_id)
        return StoredRun(
            run_id=run_id,
            num_bytes=sum(map(tree_bytes, _homes(folder, run_id))),
            has_folder=any(home.exists() for home in _homes(folder, run_id)),
            has_rows=run_id in scored,
            is_held=is_locked(directory.lock_file) or is_locked(folder.scoring_lock(run_id)),
            old_moments={} if keep is None else old_moments(directory, keep),
        )

    return Leftovers(
        folder=str(folder.root),
        runs=tuple(stored(run.run_id, keep_moments) for run in study.runs),
        others=tuple(stored(run_id, None) for run_id in other_runs(study, folder)),
        parts=tuple(parts_without_writer(*_places(study, folder))),
    )


def remove(study: StudyConfig, folder: StudyDir, chosen: Collection[StoredRun], keep_moments: int | None) -> list[str]:
    """Remove old moments and temporary files of a study, and all that the folder holds of the chosen runs.

    What a process holds is left alone.

    Args:
        study: the study.
        folder: its folder.
        chosen: runs to remove whole, with their rows of losses.
        keep_moments: as for `read_leftovers`.

    Returns:
        One line for each run that was left alone because a process works on it.
    """
    held = []
    for run in chosen:
        try:
            _remove_run(folder, run.run_id)
        except RunLocked as error:
            held.append(str(error))
    for run in study.runs if keep_moments is not None else ():
        directory = folder.run(run.run_id)
        if old_moments(directory, keep_moments or 0):
            try:
                with hold_run_lock(directory.lock_file):
                    for step in old_moments(directory, keep_moments or 0):  # again, now that nobody can add to them
                        remove_moments(directory, step)
            except RunLocked as error:
                held.append(str(error))
    remove_leftovers(*_places(study, folder))
    return held


def tree_bytes(folder: epath.Path) -> int:
    """Return the bytes of all files below a folder. A folder that does not exist has 0."""
    if not folder.exists():
        return 0
    total = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a process that trains may replace it meanwhile
            total += tree_bytes(path) if path.is_dir() else path.stat().length
    return total


def _remove_run(folder: StudyDir, run_id: str) -> None:
    """Remove the folder and the rows of a run.

    The folder is renamed while its lock is held, and deleted afterwards: nobody ever finds half a run.
    """
    with hold_run_lock(folder.scoring_lock(run_id)):
        for home in _homes(folder, run_id):
            doomed = home
            with _lock_of(RunDir(home)):
                if home.exists() and not is_remote(home):
                    doomed = home.parent / f".{run_id}.{uuid.uuid4().hex[:8]}.part"
                    home.rename(doomed)
            if doomed.exists():
                doomed.rmtree()
        folder.loss_rows(run_id).unlink(missing_ok=True)
        folder.unscored_file(run_id).unlink(missing_ok=True)
    folder.scoring_lock(run_id).unlink(missing_ok=True)


@contextlib.contextmanager
def _lock_of(directory: RunDir) -> Iterator[None]:
    """Hold the lock of a run that has a folder. A run without a folder has nothing to lock."""
    if not directory.root.exists():
        yield
        return
    if not directory.root.is_dir():
        raise LosslineError(f"{directory.root}: not a folder of a run; remove it by hand")
    with hold_run_lock(directory.lock_file):
        yield


def _homes(folder: StudyDir, run_id: str) -> tuple[epath.Path, epath.Path]:
    """Return the folders that a run or an imported model may have."""
    return folder.run(run_id).root, folder.imported_model(run_id).root


def _names(folder: epath.Path) -> set[str]:
    """Return the names in a folder, without hidden ones."""
    return {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.exists() else set()


def _scored(folder: StudyDir) -> set[str]:
    """Return the ids of the runs and models that have rows of losses."""
    names = _names(folder.loss_rows("").parent)
    return {name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl")}


def _places(study: StudyConfig, folder: StudyDir) -> list[epath.Path]:
    """Return the folders in which a killed process may have left temporary files."""
    runs = folder.run("").root
    return [
        *(folder.root, folder.prepared, folder.corpora, folder.tokenizers, folder.stores, folder.suites, runs),
        *(folder.imported, folder.losses, folder.losses / "rows", folder.losses / "unscored", folder.fits_file.parent),
        *(folder.report, folder.report / "figures", *(folder.run(run.run_id).root for run in study.runs)),
    ]
