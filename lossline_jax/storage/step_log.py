"""The log of training steps in steps.jsonl, with one JSON object for each logged step."""

import contextlib
from typing import Any

from lossline_jax.errors import LosslineError
from lossline_jax.storage.checksums import seal_line, unseal_line
from lossline_jax.storage.files import is_remote, make_folder, write_atomic
from lossline_jax.storage.paths import RunDir

LOGGED = {"step", "loss_nats_per_token", "tokens_per_second", "time"}  # fields that `lossline-jax status` needs


class StepLog:
    """A log that appends rows to steps.jsonl. Only process 0 creates one.

    A local file gets each row at once, so that a user can follow it. An object store cannot append. There the rows
    wait for `flush`, which runs with every checkpoint. The steps of rows that a kill loses are trained again anyway.

    The attribute `rows` has the rows of the file, including rows that the next `flush` will write.

    Args:
        run_dir: paths of the run.
        after_step: the restored step. Rows of later steps are dropped, since these steps are trained again.
    """

    def __init__(self, run_dir: RunDir, after_step: int) -> None:
        self._file = run_dir.steps_file
        self._appends = not is_remote(self._file)
        make_folder(run_dir.root)
        logged_rows = read_step_log(run_dir)
        self.last_step = logged_rows[-1]["step"] if logged_rows else 0  # including dropped rows
        self.rows = [row for row in logged_rows if row["step"] <= after_step]
        self.flush()

    def append(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        if self._appends:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(seal_line(row) + "\n")

    def flush(self) -> None:
        """Replace the file with one that has all rows."""
        write_atomic(self._file, "".join(seal_line(row) + "\n" for row in self.rows))


def read_step_log(run_dir: RunDir) -> list[dict[str, Any]]:
    """Return the rows of a run, oldest first. A last line that a kill has cut short is left out.

    Args:
        run_dir: paths of the run.

    Raises:
        LosslineError: another line is not a row, or is not what was written.
    """
    if not run_dir.steps_file.exists():
        return []
    *lines, unended = run_dir.steps_file.read_bytes().split(b"\n")
    rows = [_row(line, f"{run_dir.steps_file}:{number}") for number, line in enumerate(lines, start=1)]
    with contextlib.suppress(LosslineError):
        rows.append(_row(unended, ""))
    return rows


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = unseal_line(line.decode("utf-8"))
        if missing := LOGGED - row.keys():
            raise ValueError(f"it has no {min(missing)}")
    except ValueError as error:
        raise LosslineError(f"{where}: damaged ({error}); delete this line, or restore the file") from error
    return row
