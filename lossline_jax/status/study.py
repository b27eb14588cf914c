"""The status of a study: the progress, the loss rows and the cost of every run. No jax."""

from dataclasses import asdict, dataclass
from typing import Any

from lossline_jax.config.study import StudyConfig
from lossline_jax.losses.row_count import NO_SETS, RowCount, count_rows, read_suite_sets
from lossline_jax.status.leftovers import other_runs_note
from lossline_jax.status.runs import (
    Cost,
    RunStatus,
    last_row,
    run_cost,
    run_status,
    sets_of_runs,
    study_seconds_left,
)
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_lock import lock_holder
from lossline_jax.weights.registry import scored_models


@dataclass(frozen=True)
class RunProgress:
    """One run with its state, its cost and the number of its rows in the losses table."""

    status: RunStatus
    cost: Cost | None  # None: the run has no checkpoint yet, or its devices were not recorded
    rows: RowCount


@dataclass(frozen=True)
class ImportedProgress:
    """One imported model with its newest known step and the number of its rows in the losses table."""

    run_id: str
    last_step: int
    weights: str  # the folder of its weights
    rows: RowCount


@dataclass(frozen=True)
class StudyStatus:
    """The status of a study, as the study's folder shows it."""

    runs: tuple[RunProgress, ...]
    imported: tuple[ImportedProgress, ...]
    seconds_left: float | None  # of training, at the present speed; None: no run is running
    problems: tuple[str, ...]  # why evaluation sets are left out
    report: str | None  # path of the page; None: not yet written
    other_runs_note: str  # a line about runs in the folder that are not part of the study; "" if there are none

    def __repr__(self) -> str:
        done = sum(run.status.state == "done" for run in self.runs)
        return f"<StudyStatus: {done} of {len(self.runs)} runs done; show() prints it>"

    @property
    def rows(self) -> tuple[RowCount, ...]:
        """The row counts of every run and of every imported model."""
        return tuple(progress.rows for progress in (*self.runs, *self.imported))


def read_status(study: StudyConfig, folder: StudyDir) -> StudyStatus:
    """Read the status of a study from its folder.

    Args:
        study: the study.
        folder: the study's folder.

    Raises:
        LosslineError: a file of the folder is damaged.
    """
    sets = sets_of_runs(folder)
    runs, imported = [], []
    for run in study.runs:
        directory = folder.run(run.run_id)
        status, cost = run_status(run, directory, last_row(directory)), run_cost(directory)
        run_sets = sets.get(run.run_id, NO_SETS)
        count = count_rows(folder, run.run_id, run.checkpoint_steps, set_names=study.suite.set_names, sets=run_sets)
        runs.append(RunProgress(status, cost, count))
    all_sets = list(sets.values())
    for entry in scored_models(folder):
        run_id, steps = entry.model.run_id, entry.model.steps
        suite = read_json(entry.home.suite_file, {"suite": str})["suite"] if entry.home.suite_file.exists() else None
        all_sets.append(read_suite_sets(folder, suite))
        count = count_rows(folder, run_id, steps, set_names=study.suite.set_names, sets=all_sets[-1])
        imported.append(ImportedProgress(run_id, steps[-1], str(entry.weights.root), count))
    return StudyStatus(
        runs=tuple(runs),
        imported=tuple(imported),
        seconds_left=study_seconds_left(study, [progress.status for progress in runs]),
        problems=tuple(sorted({reason for suite in all_sets for reason in suite.problems.values()})),
        report=str(folder.report_file) if folder.report_file.exists() else None,
        other_runs_note=other_runs_note(study, folder),
    )


def status_json(study: StudyConfig, folder: StudyDir, status: StudyStatus) -> dict[str, Any]:
    """Return a status as plain JSON values for other programs.

    Args:
        study: the study.
        folder: its folder.
        status: its status.
    """
    return {
        "study": study.name,
        "folder": str(folder.root),
        "report": status.report,
        "seconds_left": status.seconds_left,
        "runs": [_run_json(index, run, folder) for index, run in enumerate(status.runs)],
    }


def _run_json(index: int, run: RunProgress, folder: StudyDir) -> dict[str, Any]:
    holder = lock_holder(folder.run(run.status.run_id).lock_file)
    return {
        "index": index,
        **asdict(run.status),
        "rows": {"scored": run.rows.scored, "expected": run.rows.expected},
        "heartbeat_seconds": None if holder is None else holder.age_seconds,
        "chip_hours": None if run.cost is None else run.cost.chip_hours,
        "device_kind": None if run.cost is None else run.cost.device_kind,
    }
