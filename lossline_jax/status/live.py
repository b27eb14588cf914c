"""What a study's folder says of runs that another process is training: how far they are, and their rows so far."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etils import epath

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.losses.current_rows import current_rows
from lossline_jax.losses.row_count import read_suite_sets
from lossline_jax.losses.table import read_loss_rows
from lossline_jax.status.runs import RunStatus, failed_runs, last_row, run_status, study_seconds_left
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import scored_models

if TYPE_CHECKING:
    import pandas as pd

Size = tuple[int, int]  # of a file: bytes, and the second it was last written; changes whenever a log grows


def size_of(path: epath.Path) -> Size:
    """(0, 0) for a file that is not there."""
    if not path.exists():
        return 0, 0
    stat = path.stat()
    return stat.length, int(stat.mtime)


def losses_so_far(study: StudyConfig, folder: StudyDir) -> "pd.DataFrame":
    """The losses table as `lossline-jax evaluate` would write it now, from the rows of each run; may be empty.

    Raises:
        LosslineError: the study is not prepared, or a file is damaged.
    """
    import pandas as pd

    rows = [
        row
        for run_id, suite in _suites(study, folder).items()
        for row in current_rows(read_loss_rows(folder.loss_rows(run_id)), read_suite_sets(folder, suite))
    ]
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def _suites(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """The suite that each run, and each imported model, is scored on.

    Failed runs are left out, and so are runs that are newer than `prepare`: they cannot have been scored.
    """
    suites = read_json(folder.prepared_file, {"suites": dict})["suites"]
    failed = failed_runs(study, folder)
    known = [run.run_id for run in study.runs if run.run_id in suites]
    suite_of_run = {run_id: suites[run_id] for run_id in known if run_id not in failed}
    scored = [entry for entry in scored_models(folder) if entry.home.suite_file.exists()]
    return suite_of_run | {
        entry.model.run_id: read_json(entry.home.suite_file, {"suite": str})["suite"] for entry in scored
    }


def rows_mark(study: StudyConfig, folder: StudyDir) -> dict[str, Size]:
    """Changes whenever rows of a run, or of an imported model, have come."""
    run_ids = [run.run_id for run in study.runs] + [entry.model.run_id for entry in scored_models(folder)]
    sizes = {run_id: size_of(folder.loss_rows(run_id)) for run_id in run_ids}
    return {run_id: size for run_id, size in sizes.items() if size != (0, 0)}


@dataclass
class LiveProgress:
    """How far each run is. Logs that have not grown are not read again: a study has many, and few grow."""

    study: StudyConfig
    folder: StudyDir
    _logs: dict[str, tuple[Size, dict | None]] = field(default_factory=dict)  # size and last row, by run id

    def read(self) -> dict[str, Any]:
        """The runs in the order of the study, and the seconds of training left at this speed (None: not known)."""
        statuses = [self._status(run) for run in self.study.runs]
        runs = [dataclasses.asdict(status) for status in statuses]
        return {"study": self.study.name, "runs": runs, "seconds_left": study_seconds_left(self.study, statuses)}

    def _status(self, run: RunConfig) -> RunStatus:
        directory = self.folder.run(run.run_id)
        size = size_of(directory.steps_file)
        if run.run_id not in self._logs or self._logs[run.run_id][0] != size:
            self._logs[run.run_id] = size, last_row(directory)
        return run_status(run, directory, self._logs[run.run_id][1])
