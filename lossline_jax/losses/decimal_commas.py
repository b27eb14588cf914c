"""Numbers with a decimal comma, as spreadsheets of many languages write them, become numbers with a point or an error.

They occur in files whose columns are separated by semicolons or tabs. A number that has two readings is refused.
"""

import re
from collections.abc import Sequence

import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.cells import MISSING_WORDS

_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")  # it may also be a number with three decimals
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?|[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_POINT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+(?:[eE][+-]?\d+)?|[+-]?[iI]nf(?:inity)?")
_FIX = "write every number with a decimal point and without separators of thousands"


def with_decimal_points(cells: pd.DataFrame, lines: Sequence[int], name: str) -> pd.DataFrame:
    """Return the cells with a decimal point in each number that has a decimal comma. Words stay as they are.

    A column has decimal commas if each of its cells is a number or missing. Columns of words may have commas.

    Args:
        cells: columns of text, without the columns of names.
        lines: the line number of each row.
        name: the file name, for messages.

    Raises:
        LosslineError: the file has decimal commas and decimal points, or a number such as 125,000 has two readings.
    """
    columns = [column for column in cells if _is_of_numbers(cells.loc[:, column])]
    numbers = [
        (cell, line) for column in columns for cell, line in zip(cells[column], lines, strict=True) if cell.strip()
    ]
    with_comma = [(cell, line) for cell, line in numbers if "," in cell]
    if not with_comma:
        return cells
    (first, first_line) = with_comma[0]
    for cell, line in numbers:
        if "." in cell:
            raise LosslineError(
                f"line {line} of {name}: {cell} has a point, and {first} (line {first_line}) has a comma; {_FIX}"
            )
        if not (_COMMA.fullmatch(cell) or "," not in cell):
            raise LosslineError(f"line {line} of {name}: {cell} is not a number with a decimal comma; {_FIX}")
    if all(_THOUSANDS.fullmatch(cell) for cell, _ in with_comma):
        raise LosslineError(
            f"line {first_line} of {name}: {first} may be {first.replace(',', '.')} or {first.replace(',', '')}; {_FIX}"
        )
    pointed = cells.copy()
    for column in columns:
        pointed[column] = cells[column].str.replace(",", ".", regex=False)
    return pointed


def _is_of_numbers(column: pd.Series) -> bool:
    """Return True if each cell is missing or may be a number in some country's writing."""
    kinds = (_COMMA, _GROUPED, _POINT, _WHOLE)
    return all(
        not cell or cell in MISSING_WORDS or any(kind.fullmatch(cell) for kind in kinds) for cell in column.unique()
    )
