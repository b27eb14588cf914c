"""Parse delimited text (.csv, .tsv) into a table. Every cell is under its own column name, or the line is refused.

The separator is that of the ending, or else the one that divides the header: a spreadsheet may write `;` into a .csv.

Some programs write empty cells after the last column, and these are accepted. R's `write.table` begins every row with
a row name that the header leaves out, and this is accepted too. A file that makes sense in two ways is refused.
Read `parse_delimited` first.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.cells import typed
from lossline_jax.losses.decimal_commas import with_decimal_points

WORD_COLUMNS = ("run_id",)  # columns of names, which stay text: 007 is not 7, and 1e5 is not 100000
TAB = "\t"
_ROWS_PER_BLOCK = 20_000  # rows held as Python lists before they become a frame; it bounds the memory


@dataclass
class _RowNames:
    """Evidence that decides if rows begin with row names. With row names, every row has one cell too many."""

    first_cells: list[str] = field(default_factory=list)
    num_with_extra: int = 0  # rows whose one extra cell is not empty
    first_with_extra: int = 0  # line number of the first such row
    first_without: int = 0  # line number of the first row that does not have exactly one extra cell
    too_long: str = ""  # error message for the first row that has several extra cells

    def are_counted(self) -> bool:
        """Return whether the first cells are 1, 2, 3, ..., the row names that R gives by default."""
        return self.first_cells == [str(k + 1) for k in range(len(self.first_cells))]


def parse_delimited(text: str, separator: str, name: str, names: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table, indexed by the line number of each row. Blank rows are left out.

    Args:
        text: the content of the file. The first row has the column names.
        separator: the character between two cells. Where it does not divide the header and `;`, a tab or a comma does,
            that other character is taken.
        name: the file name, for messages and for the name of the index.
        names: columns whose cells are names and stay text, in addition to `WORD_COLUMNS`.

    Raises:
        LosslineError: the quotes are broken, a column name occurs twice, a row does not fit the header, or a number
            with a comma has two readings. The message gives the line number.
    """
    separator = _separator(text, separator, name)
    records = _records(text, separator, name)
    _, header = next(records, (0, []))
    if not header:
        raise LosslineError(f"{name}: cannot be read as {'tsv' if separator == TAB else 'csv'}: it is empty")
    named_columns = _without_empty_end(header)
    blocks, lines, row_names = [], [], _RowNames()
    block: list[list[str]] = []
    for line, cells in records:
        if not any(cells):
            continue
        if len(cells) < len(named_columns):
            raise LosslineError(
                f"line {line} of {name}: {_count(cells)}, and the header names {len(named_columns)} columns; write "
                "empty cells where values are missing"
            )
        _note_length(row_names, line, cells, width=len(header), name=name)
        block.append((cells + [""] * len(header))[: len(header) + 1])
        lines.append(line)
        if len(block) == _ROWS_PER_BLOCK:
            blocks.append(pd.DataFrame(block, dtype="str"))
            block = []
    blocks.append(pd.DataFrame(block, columns=range(len(header) + 1), dtype="str"))
    start = _first_column(row_names, lines, name)
    cells = pd.concat(blocks, ignore_index=True).iloc[:, start : start + len(header)]
    columns = _column_names(header, name)
    if separator != ",":
        is_number_column = [title not in (*WORD_COLUMNS, *names) for title in columns]
        numbers = with_decimal_points(cells.loc[:, is_number_column], lines, name)
        cells = pd.DataFrame({column: numbers.get(column, cells[column]) for column in cells})
    table = {}
    for title, header_cell, (_, column) in zip(columns, header, cells.items(), strict=True):
        if not header_cell and (column == "").all():
            continue
        is_name = title in (*WORD_COLUMNS, *names)
        table[title] = column.where(column != "", None) if is_name else typed(column)
    frame = pd.DataFrame(table)
    frame.index = pd.Index(lines, dtype="int64", name=f"line of {name}")
    return frame


def _records(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped cells of each record. A record of several lines has its first number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        raise LosslineError(f"line {line} of {name}: cannot be read ({error}); check its quotes") from error


def _note_length(evidence: _RowNames, line: int, cells: list[str], *, width: int, name: str) -> None:
    """Record if a row fits the header, has one extra cell, or has several extra cells."""
    evidence.first_cells.append(cells[0])
    if len(cells) != width + 1 and not evidence.first_without:
        evidence.first_without = line
    extra_cells = _without_empty_end(cells[width:])
    if len(extra_cells) == 1:
        evidence.num_with_extra += 1
        evidence.first_with_extra = evidence.first_with_extra or line
    if len(extra_cells) > 1 and not evidence.too_long:
        evidence.too_long = (
            f"line {line} of {name}: {_count(cells)}, and the header names {width}; quote cells that have a separator "
            "inside"
        )


def _first_column(evidence: _RowNames, lines: list[int], name: str) -> int:
    """Return 1 if rows begin with a row name that the header leaves out, else 0.

    Raises:
        LosslineError: some rows do not fit the header, or the rows fit the header in two ways.
    """
    if evidence.too_long:
        raise LosslineError(evidence.too_long)
    all_longer = bool(lines) and not evidence.first_without
    if not evidence.num_with_extra:
        if all_longer and evidence.are_counted():
            raise LosslineError(
                f"{name}: every row begins with its number and ends in an empty cell without a column name; name the "
                "first column in the header, or remove the separators at the ends of rows"
            )
        return 0
    where = f"line {evidence.first_with_extra} of {name}"
    if not all_longer:
        raise LosslineError(
            f"{where}: it has one cell more than the header, and line {evidence.first_without} does not; "
            "quote cells that have a separator inside, or name every column"
        )
    if evidence.num_with_extra < len(lines) and not evidence.are_counted():
        raise LosslineError(
            f"{where}: it has one cell more than the header, and in other rows that cell is empty; name every column"
        )
    first_cells = evidence.first_cells
    if len(set(first_cells)) < len(first_cells) or any(_is_decimal(cell) for cell in first_cells):
        raise LosslineError(
            f"{where}: it has one cell more than the header, and the first cells cannot be row names; "
            "name every column, and quote cells that have a separator inside"
        )
    return 1


def _is_decimal(cell: str) -> bool:
    return not cell.isdigit() and cell.replace(".", "", 1).lstrip("+-").isdigit()


def _column_names(header: list[str], name: str) -> list[str]:
    """Return the column names. A column without one is called by its position, `Unnamed: 2`, as in pandas."""
    if twice := [title for k, title in enumerate(header) if title and title in header[:k]]:
        raise LosslineError(f"{name}: column {twice[0]!r} occurs twice in the header; rename or remove one")
    return [title or _free_name(k, header) for k, title in enumerate(header)]


def _free_name(position: int, header: list[str]) -> str:
    names = (f"Unnamed: {k}" for k in itertools.count(position, len(header)))
    return next(name for name in names if name not in header)


def _separator(text: str, expected: str, name: str) -> str:
    """Return the separator that divides the header: the expected one, or else `;`, a tab or a comma.

    Raises:
        LosslineError: two separators divide the header, and the rows do not tell which is meant.
    """
    records = {mark: _first_records(text, mark, name) for mark in dict.fromkeys((expected, ";", TAB, ","))}
    width = len(records.pop(expected)[0])
    found = [mark for mark, rows in records.items() if len(rows[0]) > 1]
    if width > 1:  # another separator may be meant only if it divides the rows as it divides the header
        found = [mark for mark in found if len({len(cells) for cells in records[mark]}) == 1]
        found = [mark for mark in found if len(records[mark][0]) >= width]
        found = [expected, *found] if found else []
    if len(found) > 1:
        raise LosslineError(
            f"{name}: its columns may be separated by {found[0]!r} or {found[1]!r}; "
            "quote the names that have one inside"
        )
    return found[0] if found else expected


def _first_records(text: str, separator: str, name: str) -> list[list[str]]:
    """Return the cells of the header and of the first row. A separator that breaks quotes divides nothing."""
    try:
        records = [cells for _, cells in itertools.islice(_records(text, separator, name), 2)]
    except LosslineError:
        records = []
    return records or [[]]


def _without_empty_end(cells: list[str]) -> list[str]:
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _count(cells: list[str]) -> str:
    return f"it has {len(cells)} cell{'s' if len(cells) != 1 else ''}"
