"""Delimited text (.csv, .tsv) as a table: every cell stands under its own name, or the line is refused.

Rows may end in empty cells beyond the header, as some programs write them. Rows may also begin with a name that the
header leaves out, as R's `write.table` writes them. Two readings of one file that both make sense are refused.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.cells import typed

WORD_COLUMNS = ("run_id",)  # names, however they are spelt: 007 is not 7, and 1e5 is not 100000
TAB = "\t"
_ROWS_OF_A_BLOCK = 20_000


@dataclass
class _RowNames:
    """Evidence for and against names of rows in front of the first column: every row is a cell too long then."""

    first_cells: list[str] = field(default_factory=list)
    num_with_last: int = 0  # rows whose last cell, the one too many, is filled
    first_with_last: int = 0  # line of the first of them
    first_without: int = 0  # line of the first row that is not one cell too long
    too_long: str = ""  # what to say of the first row that no names can explain

    def counted(self) -> bool:
        """Return whether the first cells are 1, 2, 3, ..., as R names rows by default."""
        return self.first_cells == [str(k + 1) for k in range(len(self.first_cells))]


def parse_delimited(text: str, separator: str, name: str, names: Sequence[str] = ()) -> pd.DataFrame:
    """The table, its index the line of each row; blank rows are left out.

    Args:
        text: content of the file, its first row the names of columns.
        separator: one character.
        name: of the file, for messages and for the index.
        names: columns that name something, beside `WORD_COLUMNS`; their cells stay words.

    Raises:
        LosslineError: broken quotes, a column that is named twice, or a row that does not fit the header, by its line.
    """
    records = _records(text, separator, name)
    _, header = next(records, (0, []))
    if not header:
        raise LosslineError(f"{name}: cannot be read as {'tsv' if separator == TAB else 'csv'}: it is empty")
    named = _without_empty_end(header)
    _refuse_false_separator(named, separator, name)
    blocks, lines, row_names = [], [], _RowNames()
    block: list[list[str]] = []
    for line, cells in records:
        if not any(cells):
            continue
        if len(cells) < len(named):
            raise LosslineError(
                f"line {line} of {name}: {_count(cells)}, and the header names {len(named)} columns; write empty cells "
                "where values are missing"
            )
        _note_length(row_names, line, cells, len(header), name)
        block.append((cells + [""] * len(header))[: len(header) + 1])
        lines.append(line)
        if len(block) == _ROWS_OF_A_BLOCK:
            blocks.append(pd.DataFrame(block, dtype="str"))
            block = []
    blocks.append(pd.DataFrame(block, columns=range(len(header) + 1), dtype="str"))
    start = _first_column(row_names, lines, name)
    cells = pd.concat(blocks, ignore_index=True).iloc[:, start : start + len(header)]
    columns = _column_names(header, name)
    table = {}
    for title, written, (_, column) in zip(columns, header, cells.items(), strict=True):
        if not written and (column == "").all():
            continue
        is_name = title in (*WORD_COLUMNS, *names)
        table[title] = column.where(column != "", None) if is_name else typed(column)
    frame = pd.DataFrame(table)
    frame.index = pd.Index(lines, dtype="int64", name=f"line of {name}")
    return frame


def _records(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Line and stripped cells of each record; a record of several lines has the number of its first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        raise LosslineError(f"line {line} of {name}: cannot be read ({error}); check its quotes") from error


def _note_length(names: _RowNames, line: int, cells: list[str], width: int, name: str) -> None:
    """Take down what the length of a row says: it fits the header, is one cell too long, or fits nothing."""
    names.first_cells.append(cells[0])
    if len(cells) != width + 1 and not names.first_without:
        names.first_without = line
    extra = _without_empty_end(cells[width:])
    if len(extra) == 1:
        names.num_with_last += 1
        names.first_with_last = names.first_with_last or line
    if len(extra) > 1 and not names.too_long:
        names.too_long = (
            f"line {line} of {name}: {_count(cells)}, and the header names {width}; quote cells that have a separator "
            "inside"
        )


def _first_column(names: _RowNames, lines: list[int], name: str) -> int:
    """1 where rows begin with names that the header leaves out, else 0.

    Raises:
        LosslineError: some rows do not fit the header, or rows fit it in two ways.
    """
    if names.too_long:
        raise LosslineError(names.too_long)
    all_longer = bool(lines) and not names.first_without
    if not names.num_with_last:
        if all_longer and names.counted():
            raise LosslineError(
                f"{name}: every row ends in an empty cell without a name and begins with its number: name the first "
                "column in the header, or remove the separators at the ends"
            )
        return 0
    where = f"line {names.first_with_last} of {name}"
    if not all_longer:
        raise LosslineError(
            f"{where}: it has a cell more than the header names columns, and line {names.first_without} has not; "
            "quote cells that have a separator inside, or name every column"
        )
    if names.num_with_last < len(lines) and not names.counted():
        raise LosslineError(
            f"{where}: it has a cell more than the header names columns, and in other rows that cell is empty; name "
            "every column"
        )
    if len(set(names.first_cells)) < len(names.first_cells) or any(_is_decimal(cell) for cell in names.first_cells):
        raise LosslineError(
            f"{where}: it has a cell more than the header names columns, and the first cells are no names of rows; "
            "name every column, and quote cells that have a separator inside"
        )
    return 1


def _is_decimal(cell: str) -> bool:
    return not cell.isdigit() and cell.replace(".", "", 1).lstrip("+-").isdigit()


def _column_names(header: list[str], name: str) -> list[str]:
    """Names of columns; a nameless one is called `Unnamed: 2` by its place, as pandas calls it."""
    if twice := [title for k, title in enumerate(header) if title and title in header[:k]]:
        raise LosslineError(f"{name}: column {twice[0]!r} stands twice in the header; rename or remove one")
    return [title or _free_name(k, header) for k, title in enumerate(header)]


def _free_name(place: int, header: list[str]) -> str:
    names = (f"Unnamed: {k}" for k in itertools.count(place, len(header)))
    return next(name for name in names if name not in header)


def _refuse_false_separator(header: list[str], separator: str, name: str) -> None:
    other = next((mark for mark in ",;\t" if mark != separator and any(mark in title for title in header)), None)
    if len(header) == 1 and other:
        raise LosslineError(
            f"{name}: its columns are separated by {other!r}; write .csv with ',' between them, or .tsv with tabs"
        )


def _without_empty_end(cells: list[str]) -> list[str]:
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _count(cells: list[str]) -> str:
    return f"it has {len(cells)} cell{'s' if len(cells) != 1 else ''}"
