"""Progress and losses of runs that another process is training, read from the study's folder."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etils import epath

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.losses.current_rows import current_rows, with_factors
from lossline_jax.losses.loss_row import LossRow
from lossline_jax.losses.row_count import read_suite_sets
from lossline_jax.losses.table import read_loss_rows
from lossline_jax.status.runs import RunStatus, failed_runs, last_row, run_status, study_seconds_left
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import scored_models

if TYPE_CHECKING:
    import pandas as pd

FileState = tuple[int, int]  # size in bytes and modification time in seconds; it changes whenever a log grows


def file_state(path: epath.Path) -> FileState:
    """Return the size and the modification time of a file; (0, 0) for a missing file."""
    if not path.exists():
        return 0, 0
    stat = path.stat()
    return stat.length, int(stat.mtime)


def losses_so_far(study: StudyConfig, folder: StudyDir) -> "pd.DataFrame":
    """Return the losses table that `lossline-jax evaluate` would write now, from the rows of each run.

    Args:
        study: the study.
        folder: the study's folder.

    Returns:
        The table; empty before the first row.

    Raises:
        LosslineError: the study is not prepared, or a file is damaged.
    """
    import pandas as pd

    factors = {run.run_id: run.factors for run in study.runs}
    rows: list[LossRow] = []
    for run_id, suite in _suites(study, folder).items():
        of_run = current_rows(read_loss_rows(folder.loss_rows(run_id)), read_suite_sets(folder, suite))
        rows += with_factors(of_run, factors.get(run_id, {}))
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def _suites(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Return the suite that each run and each imported model is scored on, by run id.

    Failed runs are left out. Runs added to the study after `prepare` are left out too, because they cannot have been
    scored.
    """
    suites = read_json(folder.prepared_file, {"suites": dict})["suites"]
    failed = failed_runs(study, folder)
    known = [run.run_id for run in study.runs if run.run_id in suites]
    suite_of_run = {run_id: suites[run_id] for run_id in known if run_id not in failed}
    scored = [entry for entry in scored_models(folder) if entry.home.suite_file.exists()]
    return suite_of_run | {
        entry.model.run_id: read_json(entry.home.suite_file, {"suite": str})["suite"] for entry in scored
    }


def rows_mark(study: StudyConfig, folder: StudyDir) -> dict[str, FileState]:
    """Return a value that changes whenever a run or an imported model has new loss rows."""
    run_ids = [run.run_id for run in study.runs] + [entry.model.run_id for entry in scored_models(folder)]
    states = {run_id: file_state(folder.loss_rows(run_id)) for run_id in run_ids}
    return {run_id: state for run_id, state in states.items() if state != (0, 0)}


@dataclass
class LiveProgress:
    """The progress of each run. A log is read again only if it has grown: most logs of a study do not grow."""

    study: StudyConfig
    folder: StudyDir
    _logs: dict[str, tuple[FileState, dict | None]] = field(default_factory=dict)  # by run id, with the last row

    def read(self) -> dict[str, Any]:
        """Return the status of the runs in the order of the study, and the seconds of training left.

        `seconds_left` assumes the present speed. None: no run is running.
        """
        statuses = [self._status(run) for run in self.study.runs]
        runs = [dataclasses.asdict(status) for status in statuses]
        return {"study": self.study.name, "runs": runs, "seconds_left": study_seconds_left(self.study, statuses)}

    def _status(self, run: RunConfig) -> RunStatus:
        directory = self.folder.run(run.run_id)
        state = file_state(directory.steps_file)
        if run.run_id not in self._logs or self._logs[run.run_id][0] != state:
            self._logs[run.run_id] = state, last_row(directory)
        return run_status(run, directory, self._logs[run.run_id][1])
