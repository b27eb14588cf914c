"""Read the cells of a table column. A cell is a number, a word, or a mark that the value is missing."""

import decimal
import math
import re
from typing import Any

import numpy as np
import pandas as pd

# A whole number with a leading zero is a name, such as run 007.
_INTEGER = r"[+-]?(?:0|[1-9]\d*)"
_NUMBER = r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?"
# An empty cell is missing in every column. These words mean a missing value in a column of numbers only.
MISSING_WORDS = frozenset(
    {"NA", "N/A", "#NA", "#N/A", "#N/A N/A", "<NA>", "n/a", "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan"}
    | {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}  # the spellings of NaN on Windows
)

# The range of positive losses and sizes, in the unit of their column. The largest training runs have some 1e27 FLOPs.
SMALLEST, LARGEST = 1e-30, 1e40


def typed(cells: pd.Series) -> pd.Series:
    """Return a column of text as numbers if every cell is a number or missing, else as text with None for empty cells.

    A column without any number is a column of words, even if the words are `MISSING_WORDS`.

    Args:
        cells: the column, of strings.
    """
    filled = cells != ""
    words = cells.loc[filled]
    is_number = words.str.fullmatch(_NUMBER).astype(bool)
    if not is_number.any() or not (is_number | words.isin(MISSING_WORDS)).all():
        return cells.where(filled, None)
    if filled.all() and words.str.fullmatch(_INTEGER).astype(bool).all():
        try:
            return cells.astype("int64")
        except (OverflowError, ValueError):  # too large for int64, so the text is kept
            return cells
    return cells.where(is_number.reindex(cells.index, fill_value=False), "nan").astype("float64")


def as_numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of a column, and a mask of the cells that are neither a real number nor missing.

    Args:
        column: cells of any type. Text that spells a number is a number. Booleans, dates and complex numbers are not.

    Returns:
        (values, faulty): float64 with NaN where the value is missing or faulty, and bool, both of the column's length.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy(np.float64), np.zeros(len(column), bool)
    cells = [_number(cell) for cell in column.astype(object)]
    faulty = np.array([value is None for value in cells], bool)
    return np.array([math.nan if value is None else value for value in cells], np.float64), faulty


def beyond_range(numbers: np.ndarray) -> np.ndarray:
    """Return which numbers are too near to zero or too large for a loss or a size. Powers of them overflow.

    Args:
        numbers: float64; zero, NaN and infinite ones are not marked.
    """
    size = np.abs(numbers)
    return (size > 0) & ((size < SMALLEST) | (size > LARGEST)) & np.isfinite(size)


def is_missing(column: pd.Series) -> np.ndarray:
    """Return which cells of a column of names, such as run ids, are empty or hold one of `MISSING_WORDS`.

    Args:
        column: cells of any type.
    """
    words = column.astype(object)
    return (column.isna() | words.map(lambda cell: isinstance(cell, str) and _is_missing_word(cell))).to_numpy(bool)


def _is_missing_word(text: str) -> bool:
    return not text.strip() or text.strip() in MISSING_WORDS


def _number(cell: Any) -> float | None:
    """Return the number in a cell, NaN if the value is missing. None: the cell is not a number."""
    if isinstance(cell, (bool, np.bool_)):
        return None
    if isinstance(cell, (int, float, np.integer, np.floating, decimal.Decimal)):
        try:
            return float(cell)
        except OverflowError:
            return math.copysign(math.inf, cell)
    if isinstance(cell, str):
        text = cell.strip()
        return float(text) if re.fullmatch(_NUMBER, text) or re.fullmatch(r"[+-]?\d+", text) else None
    return math.nan if cell is None or cell is pd.NA or cell is pd.NaT else None
