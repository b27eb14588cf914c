"""Convert any frame to the form that the fits read: plain cells, column names of one level, and named rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.losses.cells import is_missing

NOT_STATED = ("unknown", "")  # levels that mean: the table does not state the factor of an imported model
WHERE = "_where"  # the column with the name of each row in messages
RUN_ID = "run_id"
_OWN_COLUMNS = re.compile("_(where|x|y|run|setting|loss|tokens|budget|final|size_.*)")  # names of lossline's columns
_NUMBERED = re.compile("(line|row) of (.+)", re.DOTALL)  # name of the index that `read_losses` gives
_EXACT = 2.0**53  # from here on, float64 cannot hold all whole numbers


def open_rows(frame: Any, run: str | None = None) -> pd.DataFrame:
    """Return the rows of a user's table with the column `_where`, the name of each row in messages.

    Args:
        frame: a pandas frame, or a frame with the method `to_pandas`.
        run: the column that names the run of a row. None: `run_id`, if the table has it.

    Raises:
        LosslineError: the value is not a table, the table has no rows, a column occurs twice or has a name that
            lossline uses, or a row has no run.
    """
    frame = as_pandas(frame)
    names = row_names(frame)
    frame = plain_frame(frame)
    if reserved := [name for name in frame.columns if _OWN_COLUMNS.fullmatch(name)]:
        raise LosslineError(f"column {reserved[0]!r} has a name that lossline uses itself; rename it")
    if frame.empty:
        raise LosslineError("the table has no rows")
    frame = frame.assign(**{WHERE: names})
    if run is not None:
        require_column(frame, run, "cluster")
    keys = {run or RUN_ID} | ({RUN_ID} if "eval_set" in frame.columns else set())
    for name in keys & set(frame.columns):
        require_runs(frame, name)
        frame[name] = level_texts(frame.loc[:, name])
    if "eval_set" in frame.columns:
        frame["eval_set"] = level_texts(frame.loc[:, "eval_set"])
    return frame


def plain_frame(frame: Any) -> pd.DataFrame:
    """Return a frame whose cells are numbers, text, dates or missing. Named index levels become columns.

    Cells that hold several values (lists, mappings) become text. A column of text and numbers becomes text, so a word
    and a number of the same digits become one level.

    Args:
        frame: a pandas frame, or a frame with the method `to_pandas`.

    Raises:
        LosslineError: the value is not a table, or a column occurs twice.
    """
    frame = as_pandas(frame)
    if isinstance(frame.columns, pd.MultiIndex):
        raise LosslineError("the table has columns of several levels; give each column one name")
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise LosslineError(f"the table has column {twice!r} twice; rename or remove one")
    names = [name for name in frame.index.names if name is not None and name != WHERE]
    levels = [name for name in names if not _NUMBERED.fullmatch(str(name))]
    only_in_index = [name for name in levels if str(name) not in frame.columns]
    columns = {str(name): frame.index.get_level_values(name).to_numpy() for name in only_in_index}
    frame = frame.reset_index(drop=True).assign(**columns)
    return pd.DataFrame({name: _plain_column(frame.loc[:, name]) for name in frame.columns})


def as_pandas(frame: Any) -> pd.DataFrame:
    """Return a pandas frame as it is, and any other frame (such as a polars one) converted by its `to_pandas`.

    Raises:
        LosslineError: the value is not a table.
    """
    if isinstance(frame, pd.DataFrame):
        return frame
    if not hasattr(frame, "to_pandas"):
        raise LosslineError(f"a table is a pandas or polars frame, not {type(frame).__name__}")
    return frame.to_pandas()


def require_column(frame: pd.DataFrame, name: str, argument: str | None = None) -> None:
    """Raise LosslineError with a suggestion and a list of columns if the table does not have the column.

    Args:
        frame: the table.
        name: the column.
        argument: the argument of the caller that gave the column or has it as default, for the message. None: the
            message names no argument.
    """
    if name in frame.columns:
        return
    known = [str(column) for column in frame.columns if not _OWN_COLUMNS.fullmatch(str(column))]
    holding = next((column for column in known if column != WHERE and _has_cell(frame.loc[:, column], name)), None)
    listed = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
    hint = suggestion(name, known)
    if holding is not None and argument in ("x", "y", "losses", "outputs"):
        raise ArgumentError(
            f"{{{argument}}}: the table has no column {{name!r}}, and column {{holding!r}} has it in its cells: "
            "name the two columns with {metric_column} and {value_column}; the table has {listed}",
            name=name,
            holding=holding,
            listed=listed,
        )
    if argument is None:
        raise LosslineError(f"the table has no column {name!r}{hint}; it has {listed}")
    raise ArgumentError(
        f"{{{argument}}}: the table has no column {{name!r}}{{hint}}; name it with {{{argument}}}; it has {{listed}}",
        name=name,
        hint=hint,
        listed=listed,
    )


def _has_cell(column: pd.Series, value: str) -> bool:
    """Tell whether a cell of a column of text is this value."""
    is_text = column.dtype.kind not in "iufcbM"
    return bool(is_text and column.map(lambda cell: isinstance(cell, str) and cell == value).to_numpy(bool).any())


def as_names(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return names as a tuple. Text is a single name. None: there are no names."""
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


def require_each_once(what: str, names: Sequence[str]) -> None:
    """Raise LosslineError if a name occurs twice: the result for this name would be made and counted twice.

    Args:
        what: the kind of the names, for the message.
        names: the names.
    """
    for name in names:
        if list(names).count(name) > 1:
            raise LosslineError(f"{what} {name!r} is named twice; name it once")


def require_different_columns(columns: Mapping[str, str | None], where: str = "") -> None:
    """Raise ArgumentError if two quantities are read from one column: a fit could not tell them apart.

    Args:
        columns: the column of each quantity, by the words or the field that name it in the message. None: no column.
        where: the beginning of the message, such as the argument that names all these columns.
    """
    names: dict[str, str] = {}
    for name, column in columns.items():
        if column and (other := names.setdefault(column, name)) != name:
            template = f"{where}{other} and {name} are both column {{column!r}}; name another column for one of them"
            raise ArgumentError(template, column=column)


def level_text(value: Any) -> str:
    """Return a cell as the level of a factor: 1, 1.0 and "1" are one level, and an empty cell is ""."""
    if is_empty(value):
        return ""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value)


def level_texts(column: pd.Series) -> pd.Series:
    """Return `level_text` of each cell of a column. Each distinct word or number is converted once."""
    dtype = column.dtype
    if not (isinstance(dtype, pd.StringDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "iuf")):
        return column.map(level_text)
    codes, cells = pd.factorize(column)
    texts = np.array([*map(level_text, cells), ""], dtype=object)  # the code of a missing cell is -1, the last one
    return pd.Series(texts[codes], index=column.index, name=column.name, dtype="str")


def row_names(frame: pd.DataFrame) -> list[str]:
    """Return the name of each row for messages.

    The name is `line 7 of t.csv` in a table that was read from a file, the index if that is called `_where`, and else
    `row 3`, counted from one.
    """
    if frame.index.name == WHERE:
        return [str(name) for name in frame.index]
    numbered = _NUMBERED.fullmatch(str(frame.index.name))
    if numbered is None:
        return [f"row {k + 1}" for k in range(len(frame))]
    return [f"{numbered[1]} {number} of {numbered[2]}" for number in frame.index]


def require_runs(frame: pd.DataFrame, name: str) -> None:
    """Raise LosslineError if a row has no run in column `name`."""
    missing = is_missing(frame.loc[:, name])
    if missing.all():
        raise LosslineError(f"column {name} is empty in every row; fill in the run of each row, or remove the column")
    if missing.any():
        names = frame[WHERE] if WHERE in frame.columns else row_names(frame)
        where = list(names)[int(np.argmax(missing))]
        others = f", as in {missing.sum() - 1} other rows" if missing.sum() > 1 else ""
        raise LosslineError(f"{where}: {name} does not say a run{others}; fill it in, or leave such rows out")


def _plain_column(column: pd.Series) -> pd.Series:
    """Return a column of numbers, dates, or objects that are text, hashable values or None."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return column
    if column.dtype == "str":  # pandas' own type of text holds no other cells, and NaN where one is missing
        return column
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        if not column.isna().any():
            return column.astype(getattr(column.dtype, "numpy_dtype", object))
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan), name=column.name)
    cells = column.astype(object).where(column.notna(), None)
    texts = cells.map(lambda cell: isinstance(cell, str)).to_numpy(bool)
    empty = cells.map(is_empty).to_numpy(bool)
    if texts.any() and not (texts | empty).all():
        return cells.map(lambda cell: None if is_empty(cell) else level_text(cell))
    return cells.map(lambda cell: cell if _is_hashable(cell) else str(cell))


def is_empty(value: Any) -> bool:
    """Tell whether a cell is empty: no value, NaN, or only white space."""
    if isinstance(value, str):
        return not value.strip()
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
