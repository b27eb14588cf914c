"""steps.jsonl: one JSON object for each logged training step."""

import contextlib
from typing import Any

from lossline_jax.errors import LosslineError
from lossline_jax.storage.checksums import seal_line, unseal_line
from lossline_jax.storage.files import is_remote, make_folder, write_atomic
from lossline_jax.storage.paths import RunDir

LOGGED = {"step", "loss_nats_per_token", "tokens_per_second", "time"}  # that `lossline-jax status` shows of every row


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
        logged_rows = read_step_log(run_dir)
        self.last_step = logged_rows[-1]["step"] if logged_rows else 0  # that was ever logged
        self.rows = [row for row in logged_rows if row["step"] <= after_step]
        self.flush()

    def append(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        if self._appends:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(seal_line(row) + "\n")

    def flush(self) -> None:
        """Write all rows as one whole file."""
        write_atomic(self._file, "".join(seal_line(row) + "\n" for row in self.rows))


def read_step_log(run_dir: RunDir) -> list[dict[str, Any]]:
    """The rows of a run, oldest first; a last line that a kill has cut short is left out.

    Raises:
        LosslineError: another line is no row, or is not as it was written.
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
