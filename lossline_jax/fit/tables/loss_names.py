"""Expand patterns such as `eval/*` into the losses of a table."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError
from lossline_jax.losses.cells import as_numbers


def named_losses(
    frame: pd.DataFrame, names: Sequence[str], *, leave_out: Collection[str] = (), argument: str = "y"
) -> tuple[str, ...]:
    """Return the losses that names and patterns stand for, each once, in the order of the table.

    Args:
        frame: a wide table, or a long table with `eval_set`.
        names: columns, evaluation sets or patterns with `*`, `?` or `[...]`. A pattern stands for the evaluation sets
            that it matches, or for the columns of numbers that it matches.
        leave_out: losses that no pattern stands for, such as the loss on the horizontal axis.
        argument: the argument of the caller that gave the names, for messages.

    Raises:
        ArgumentError: a pattern matches nothing.
    """
    sets = list(dict.fromkeys(str(name) for name in frame["eval_set"].dropna())) if "eval_set" in frame.columns else []
    columns = [str(name) for name in frame.columns]
    losses: list[str] = []
    for name in names:
        if name in columns or name in sets or not any(mark in name for mark in "*?["):
            losses.append(name)
            continue
        matches = [item for item in sets if fnmatchcase(item, name)]
        matches = matches or [item for item in columns if fnmatchcase(item, name) and _has_numbers(frame.loc[:, item])]
        matches = [item for item in matches if item not in leave_out]
        if not matches:
            raise ArgumentError(
                f"{{{argument}}}: no loss of the table matches {{name!r}}; it has {{listed}}",
                name=name,
                listed=", ".join((sets or columns)[:30]),
            )
        losses += matches
    return tuple(dict.fromkeys(losses)) if len(losses) > len(names) else tuple(losses)


def _has_numbers(column: pd.Series) -> bool:
    numbers, faulty = as_numbers(column)
    return not faulty.any() and bool(np.isfinite(numbers).any())
