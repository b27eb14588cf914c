"""Read and write the losses table and any other table of losses. `loss_row` has the schema of the losses table."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.formatting import utf8
from lossline_jax.losses.loss_row import COLUMNS, LossRow
from lossline_jax.losses.parquet import check_parquet, sealed_parquet
from lossline_jax.storage.checksums import KEY, NotAsWritten, seal_line, unseal_line
from lossline_jax.storage.files import write_atomic
from lossline_jax.storage.inputs import (
    ENDINGS,
    fault_of_line,
    file_kind,
    numbered_lines,
    open_input,
    parse_object,
    read_text,
)
from lossline_jax.storage.object_store import reachable_path

if TYPE_CHECKING:
    import pandas as pd


def append_rows(path: epath.Path, rows: Iterable[LossRow]) -> None:
    """Add rows to a JSONL file. The file is rewritten atomically, so a crash leaves the old file whole.

    Each line ends in its own checksum (`seal_line`), so later rows do not change the earlier lines.

    Args:
        path: the file, which may not exist yet.
        rows: the rows to add at the end.
    """
    old = path.read_bytes() if path.exists() else b""
    new = "".join(seal_line(dataclasses.asdict(row)) + "\n" for row in rows)
    write_atomic(path, old + utf8(new, str(path)))


def read_loss_rows(path: epath.Path) -> list[LossRow]:
    """Return the rows of a JSONL file, or no rows if the file does not exist.

    Args:
        path: the file.

    Raises:
        LosslineError: a line is not a row of this schema, or its checksum is wrong.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):  # a line ends at a line feed only
        if not line:
            continue
        try:
            rows.append(LossRow(**unseal_line(line.decode("utf-8"))))
        except (ValueError, TypeError) as error:
            raise LosslineError(
                f"{path}: line {number} is not a row of the losses table ({fault_of_line(error)}); delete the file "
                "and run `lossline-jax evaluate` again"
            ) from error
    return rows


def write_table(rows: list[LossRow], csv_path: epath.Path, parquet_path: epath.Path) -> None:
    """Write the table as CSV and as Parquet, each file atomically.

    Args:
        rows: the rows of the table.
        csv_path: the CSV file.
        parquet_path: the Parquet file, which holds a checksum of its values.
    """
    import pyarrow as pa

    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    write_atomic(csv_path, text.getvalue())
    table = pa.table({name: [getattr(row, name) for row in rows] for name in COLUMNS})
    write_atomic(parquet_path, sealed_parquet(table))


def write_frame(frame: "pd.DataFrame", path: epath.Path) -> None:
    """Write any table as `.csv` or `.parquet`, atomically.

    Args:
        frame: the table; its index is not written.
        path: the file.

    Raises:
        LosslineError: the file has another ending, or cannot be written.
    """
    if path.suffix.lower() == ".csv":
        write_atomic(path, frame.to_csv(index=False))
    elif path.suffix.lower() == ".parquet":
        sink = io.BytesIO()
        frame.to_parquet(sink, index=False)
        write_atomic(path, sink.getvalue())
    else:
        raise LosslineError(f"{path}: cannot write a table of this ending; use .csv or .parquet")


def read_losses(path: epath.PathLike, names: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a table of losses with any columns.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; a text file may be compressed (`inputs.ENDINGS`).
        names: columns of a CSV or TSV file whose cells are names, so that 007 is not 7; `run_id` is always one.

    Returns:
        The table. Its index has the line numbers of a text file or the row numbers of a Parquet file, for messages.

    Raises:
        LosslineError: the file is missing, unreadable, empty or of another ending, or a column name occurs twice.
    """
    if not isinstance(path, str | os.PathLike):
        raise LosslineError(f"read_losses: a {type(path).__name__} is not a path; a table in memory needs no reading")
    path = reachable_path(path)
    readers = {"csv": _read_csv, "tsv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}
    form = file_kind(path).form
    if form not in readers:
        raise LosslineError(
            f"{path}: not a table that lossline can read{_table_inside(path)}; "
            f"use .csv, .tsv or .jsonl (each also with {ENDINGS}), or .parquet"
        )
    try:
        frame = readers[form](path, names)
    except LosslineError:
        raise
    except (ValueError, TypeError, LookupError, OSError, ArithmeticError, NotImplementedError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LosslineError(f"{path}: cannot be read as {form} ({reason}); fetch or write it again") from error
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise LosslineError(f"{path}: column {twice!r} occurs twice; rename or remove one")
    if frame.empty:
        raise LosslineError(f"{path}: the table has no rows")
    return frame


def _table_inside(folder: epath.Path) -> str:
    """Return a hint to the table of a study if the path is the study's folder."""
    table = folder / "losses" / "losses.parquet"
    return f": it is a folder; did you mean {table}?" if table.exists() else ""


def _read_csv(path: epath.Path, names: Sequence[str]) -> "pd.DataFrame":
    from lossline_jax.losses.delimited import parse_delimited

    separator = "\t" if file_kind(path).form == "tsv" else ","
    return parse_delimited(read_text(path, "table"), separator, path.name, names)


def _read_parquet(path: epath.Path, _names: Sequence[str]) -> "pd.DataFrame":
    """Return the columns of a Parquet file, including the columns of a stored index."""
    import pandas as pd
    from pyarrow import ArrowException

    with open_input(path, "table") as file:
        content = file.read()
    try:
        check_parquet(content)
    except NotAsWritten as error:
        raise LosslineError(f"{path}: damaged ({error}); write it again: lossline-jax evaluate") from error
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except ArrowException as error:
        raise ValueError(str(error)) from error
    index = frame.index.to_frame(index=False)
    index = index[[name for name in frame.index.names if name is not None and name not in frame.columns]]
    frame = pd.concat([index, frame.reset_index(drop=True)], axis=1)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name=f"row of {path.name}")
    return frame


def _read_jsonl(path: epath.Path, _names: Sequence[str]) -> "pd.DataFrame":
    """Return the values of JSON lines unchanged: no string becomes a number or a date, and no digit is lost."""
    import pandas as pd

    line_numbers, rows = [], []
    for where, line in numbered_lines(path, "table"):
        line_numbers.append(int(where.rpartition(":")[2]))
        rows.append(_storable(_unsealed(parse_object(line, where), line, where), where))
    return pd.DataFrame(rows, index=pd.Index(line_numbers, dtype="int64", name=f"line of {path.name}"))


def _unsealed(fields: dict[str, Any], line: str, where: str) -> dict[str, Any]:
    """Return a row of a study without its checksum, and any other line unchanged."""
    if fields.keys() != {*COLUMNS, KEY}:
        return fields
    try:
        return unseal_line(line.rstrip("\r\n"))
    except NotAsWritten as error:
        raise LosslineError(f"{where}: damaged ({error}); delete the file and run `lossline-jax evaluate`") from error


def _storable(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the fields. Refuse an integer beyond int64 and text that is not valid Unicode."""
    for name, value in fields.items():
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise LosslineError(
                f"{where}: {name!r} is an integer of {len(str(abs(value)))} digits, too large for a table; write it "
                "as a number with a decimal point, or in quotes if it is a name"
            )
        utf8(f"{name} {value}", where)
    return fields
