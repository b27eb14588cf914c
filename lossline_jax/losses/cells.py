"""Columns of a table: which text is a number, which a word, and which says that a value is missing."""

import decimal
import math
import re
from typing import Any

import numpy as np
import pandas as pd

# Whole numbers with a leading zero are names, such as run 007.
_INTEGER = r"[+-]?(?:0|[1-9]\d*)"
_NUMBER = r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?"
# An empty cell is missing everywhere; these words are missing in a column of numbers, and words elsewhere.
MISSING_WORDS = frozenset(
    {"NA", "N/A", "#NA", "#N/A", "#N/A N/A", "<NA>", "n/a", "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan"}
    | {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}  # as Windows writes NaN
)

SMALLEST, LARGEST = 1e-30, 1e40  # the largest training runs have some 1e27 FLOPs


def typed(cells: pd.Series) -> pd.Series:
    """Cells of text as numbers where all of them are numbers or missing, else as words with empty ones missing.

    A column without one number is a column of words, whatever the words are.
    """
    filled = cells != ""
    words = cells[filled]
    is_number = words.str.fullmatch(_NUMBER).astype(bool)
    if not is_number.any() or not (is_number | words.isin(MISSING_WORDS)).all():
        return cells.where(filled, None)
    if filled.all() and words.str.fullmatch(_INTEGER).astype(bool).all():
        try:
            return cells.astype("int64")
        except (OverflowError, ValueError):  # too large to be held exactly: kept as it is written
            return cells
    return cells.where(is_number.reindex(cells.index, fill_value=False), "nan").astype("float64")


def as_numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """(values, faulty): float64 with NaN where missing, and which cells hold something else than a real number.

    Text counts as a number where it is written as one. Booleans, dates and complex numbers are none.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy(np.float64), np.zeros(len(column), bool)
    cells = [_number(cell) for cell in column.astype(object)]
    faulty = np.array([value is None for value in cells], bool)
    return np.array([math.nan if value is None else value for value in cells], np.float64), faulty


def beyond_range(numbers: np.ndarray) -> np.ndarray:
    """Numbers so near to zero or so large that no loss or size is meant, and powers of them overflow."""
    size = np.abs(numbers)
    return (size > 0) & ((size < SMALLEST) | (size > LARGEST)) & np.isfinite(size)


def is_missing(column: pd.Series) -> np.ndarray:
    """Cells that are empty, or words that say so in a column that names something, such as runs."""
    words = column.astype(object)
    return (column.isna() | words.map(lambda cell: isinstance(cell, str) and _says_nothing(cell))).to_numpy(bool)


def _says_nothing(text: str) -> bool:
    return not text.strip() or text.strip() in MISSING_WORDS


def _number(cell: Any) -> float | None:
    """None: not a number."""
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
