"""steps.jsonl: one JSON object for each logged training step."""

import json
from typing import Any

from lossline_jax.rundir import RunDir, is_remote, make_folder, write_atomic


class StepLog:
    """Appends rows; only process 0 makes one.

    A local file gains each row at once, so that it can be followed. An object store cannot append: there the
    rows wait for `flush`, which comes with every checkpoint; what a kill loses is trained again anyway.

    `rows` are those that the file holds, or will after `flush`.

    Args:
        run_dir: of the run.
        after_step: the restored step; rows beyond it, which will be trained again, are dropped.
    """

    def __init__(self, run_dir: RunDir, after_step: int):
        self._file = run_dir.steps_file
        self._appends = not is_remote(self._file)
        make_folder(run_dir.root)
        found = read_rows(run_dir)
        self.last_step = found[-1]["step"] if found else 0  # that was ever logged
        self.rows = [row for row in found if row["step"] <= after_step]
        self.flush()

    def append(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        if self._appends:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def flush(self) -> None:
        """Write all rows as one whole file."""
        write_atomic(self._file, "".join(json.dumps(row) + "\n" for row in self.rows))


def read_rows(run_dir: RunDir) -> list[dict[str, Any]]:
    """The rows of a run, oldest first; a line cut short by a kill, and what follows it, is left out."""
    rows: list[dict[str, Any]] = []
    if run_dir.steps_file.exists():
        for line in run_dir.steps_file.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows
