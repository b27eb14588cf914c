"""Group runs by their factor levels, and find settings that are equal in all factors but one.

Comparisons of lines and panels of figures both use `Settings`. Levels are read from the factor columns of the table
and never from the names of runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.fit.tables.batch import BATCH, batch_is_factor, note_on_batch
from lossline_jax.fit.tables.columns import KINDS
from lossline_jax.fit.tables.rows import NOT_STATED, WHERE, level_text, level_texts, require_column, require_each_once
from lossline_jax.losses.cells import as_numbers
from lossline_jax.losses.loss_row import FACTOR_COLUMNS

SAME_SIZE_TOLERANCE = 0.1  # largest difference of logarithms of parameter counts of the same size; a choice
RESIZING = frozenset({"architecture", "tokenizer"})  # factors whose levels alone change the number of parameters
SEED = "seed"
FACTORS = tuple(name for name in FACTOR_COLUMNS if name != SEED)
PARAMS = ("params_total", "params_non_embedding")
NO_FACTORS = ("study", "eval_set", "eval_kind", "eval_fingerprint", *KINDS, WHERE)  # columns of words, but not factors
SETTING = "_setting"  # the column with the number of the setting of each row; -1: none


@dataclass(frozen=True)
class Setting:
    """A setting that has one level of every factor. All runs with these levels are repetitions of each other."""

    levels: Mapping[str, str]  # by factor
    num_params: tuple[float, float] = (np.nan, np.nan)  # total, and without embeddings; NaN: not in the table

    def differing(self, base: "Setting") -> list[str]:
        """Return the factors in which the setting differs from `base`.

        The layers of different architectures cannot be compared, nor the embeddings of different tokenizers. If one of
        these is the only other difference, sizes are equal if the total or the non-embedding parameters are within 10%.
        An equal size is not among the factors that are returned.
        """
        names = differences(self.levels, base.levels)
        other_than_size = set(names) - {"size"}
        is_resizing = len(other_than_size) == 1 and other_than_size <= RESIZING
        if is_resizing and self.size_distance(base) <= SAME_SIZE_TOLERANCE:
            return list(other_than_size)
        return names

    def name_from(self, base: "Setting") -> str:
        """Return the levels in which the setting differs from the base: `data=code`, or `the base`."""
        names = self.differing(base)
        return ", ".join(f"{name}={self.levels[name]}" for name in names) or "the base"

    def size_distance(self, other: "Setting") -> float:
        """Return the distance of the parameter counts, as a difference of logarithms; infinite if none is known.

        It is the smaller one of the distances of total and of non-embedding parameters.
        """
        distances = [abs(np.log(a / b)) for a, b in zip(self.num_params, other.num_params, strict=True)]
        return min((distance for distance in distances if np.isfinite(distance)), default=np.inf)


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Return the factors in which the levels of two settings differ. Sizes differ if their labels differ."""
    return [name for name in a if a[name] != b[name]]


def pair_names(levels: Sequence[Mapping[str, str]]) -> list[str]:
    """Name each matched pair by the levels of the factors in which the pairs differ: `code, bpe1024`.

    Args:
        levels: the levels of the reference setting of each pair.
    """
    if len(levels) < 2:
        return ["all"] * len(levels)
    varying = [name for name in levels[0] if len({of_pair[name] for of_pair in levels}) > 1]
    return [", ".join(of_pair[name] for name in varying) for of_pair in levels]


@dataclass(frozen=True)
class Settings:
    """The settings of a table. The number of a setting is its position."""

    settings: tuple[Setting, ...]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    def levels_of(self, factor: str) -> list[str]:
        """Return the levels of a factor in the order in which they first occur."""
        return list(dict.fromkeys(setting.levels[factor] for setting in self))

    def pairs(self, factor: str, level: str, reference: str) -> list[tuple[int, int]]:
        """Return pairs of settings that differ only in `factor`, as numbers (with the reference, with the level).

        A setting is in one pair at most. If sizes have different labels, the settings with the nearest parameter counts
        become a pair.

        Args:
            factor: the factor.
            level: its level in the second setting of each pair.
            reference: its level in the first setting of each pair.
        """
        near = []
        for k, first in enumerate(self):
            for n, second in enumerate(self):
                if (first.levels[factor], second.levels[factor]) != (reference, level):
                    continue
                if first.differing(second) == [factor]:
                    has_equal_labels = differences(first.levels, second.levels) == [factor]
                    near.append((0.0 if has_equal_labels else first.size_distance(second), k, n))
        taken: dict[int, int] = {}
        for _, k, n in sorted(near):
            if k not in taken and n not in taken.values():
                taken[k] = n
        return sorted(taken.items())

    def have_partners(self, factor: str) -> list[bool]:
        """Tell for each setting whether some other setting differs from it in `factor` alone."""
        return [any(other.differing(setting) == [factor] for other in self) for setting in self]


def factor_columns(frame: pd.DataFrame, factors: Sequence[str] | None) -> tuple[str, ...]:
    """Return the factor columns of a table.

    Args:
        frame: the table.
        factors: the columns that the caller named. None: those of `FACTORS` that the table has and states for any run,
            without a batch that is no factor (`batch.batch_is_factor`).

    Raises:
        LosslineError: the table does not have a named column, a column is named twice, or there is no factor column.
    """
    present = [name for name in FACTORS if name in frame.columns]
    stated = [name for name in present if not np.all(level_texts(frame.loc[:, name]).isin(NOT_STATED))]
    if BATCH in stated and not batch_is_factor(frame, stated):
        stated.remove(BATCH)
    names = tuple(stated) if factors is None else tuple(factors)
    for name in names:
        require_column(frame, name, "factors")
    require_each_once("factor", names)
    if not names:
        raise ArgumentError(
            "the table has none of the factor columns {known}; name its own with {factors}", known=", ".join(FACTORS)
        )
    return names


def find_settings(frame: pd.DataFrame, factors: Sequence[str]) -> tuple[pd.DataFrame, Settings, list[str]]:
    """Find the settings of a table.

    Args:
        frame: the table.
        factors: the factor columns.

    Returns:
        The table with the column `_setting`, the settings, and a note for each group of rows with an unknown level.
    """
    rows = frame[list(factors)].apply(level_texts)
    groups = rows.groupby(list(factors), sort=False).ngroup().to_numpy()
    is_first = ~pd.Series(groups).duplicated().to_numpy()
    first_rows = zip(groups[is_first], rows.loc[is_first].to_dict("records"), np.flatnonzero(is_first), strict=True)
    settings, notes, number_of_group = [], [], {}
    for group, levels, position in first_rows:
        if unknown := [name for name, level in levels.items() if level in NOT_STATED]:
            rows_of_group = frame.loc[groups == group]
            runs = (
                f"runs {', '.join(map(str, rows_of_group['run_id'].unique()))}"
                if "run_id" in rows_of_group
                else f"{len(rows_of_group)} rows"
            )
            notes.append(f"{runs}: {' and '.join(unknown)} not known: not compared")
            continue
        number_of_group[group] = len(settings)
        settings.append(Setting(levels, parameter_counts(frame.iloc[position])))
    numbered = frame.assign(**{SETTING: [number_of_group.get(group, -1) for group in groups]})
    return numbered, Settings(tuple(settings)), notes


def require_one_setting_a_run(frame: pd.DataFrame, settings: Settings, axes: Sequence[str]) -> None:
    """Raise ArgumentError if rows of one run are in several settings.

    Where most runs have several levels of a factor, as of the step, the column is no factor. Else two runs have one
    name.

    Args:
        frame: the table with the column `_setting`.
        settings: its settings.
        axes: the columns of the losses.
    """
    if "run_id" not in frame:
        return
    settings_of_run = frame.loc[frame[SETTING] >= 0].groupby("run_id", sort=False)[SETTING].unique()
    for run_id, numbers in settings_of_run.items():
        if len(numbers) > 1:
            first, second = (settings.settings[number].levels for number in numbers[:2])
            name = differences(first, second)[0]
            varies = (frame.groupby("run_id", sort=False)[name].nunique(dropna=False) > 1).to_numpy()
            rows = f"run {run_id!r} has rows of {name} {first[name]} and of {second[name]}"
            if 2 * varies.sum() <= varies.size:
                raise ArgumentError(
                    "{rows}: two runs have one name; name a column that tells runs apart with {run}", rows=rows
                )
            raise ArgumentError(
                "{factors}: {name} is not a property of a run: {rows}; {known}, or another column of runs with {run}",
                name=name, rows=rows, known=_columns_of_factors(frame, axes),
            )  # fmt: skip


def _columns_of_factors(frame: pd.DataFrame, axes: Sequence[str]) -> str:
    """Return the columns that can be factors, in words: each run has one level, and runs share levels."""
    runs = frame.groupby("run_id", sort=False)
    no_factors = (*axes, SEED, SETTING, "run_id", *NO_FACTORS)
    names = [
        name
        for name in frame.columns
        if name not in no_factors
        and 1 < frame.loc[:, name].nunique() < len(runs)
        and np.all(runs[name].nunique(dropna=False) == 1)
    ]
    return f"name columns that can be factors ({', '.join(names)})" if names else "name another column"


def unnamed_factors(frame: pd.DataFrame, factors: Sequence[str], axes: Sequence[str]) -> list[str]:
    """Return columns of words that may be factors, although no factor is named after them.

    Runs of one setting differ in such a column. Each run has only one word in it. And some runs share a word, so the
    column does not hold names of runs.

    Args:
        frame: the table with the column `_setting`.
        factors: the factor columns.
        axes: the columns of the losses.
    """
    if "run_id" not in frame:
        return []
    words = [
        name
        for name in frame.columns
        if name not in (*factors, *axes, SEED, SETTING, "run_id", *NO_FACTORS) and not is_numeric_dtype(frame[name])
    ]
    runs = frame.groupby("run_id", sort=False)
    is_shared = {name: 1 < frame.loc[:, name].nunique() < len(runs) for name in words}
    candidates = [name for name in words if is_shared[name] and np.all(runs[name].nunique() <= 1)]
    first = runs[[SETTING, *candidates]].first() if candidates else frame
    return [name for name in candidates if np.any(first.groupby(SETTING)[name].nunique() > 1)]


def find_base(settings: Settings, factors: Sequence[str], base: Mapping[str, Any] | None) -> Setting:
    """Return the setting with which other settings are compared.

    It is the setting with the most neighbours among all settings with the levels of `base`. Neighbours differ in one
    factor.

    Args:
        settings: the settings of the table.
        factors: the factor columns.
        base: levels by factor. A seed is ignored. None: no levels are given.

    Raises:
        LosslineError: a factor or level of `base` is not in the table, or no setting has all these levels.
    """
    given = {name: level_text(value) for name, value in (base or {}).items() if name != SEED}
    for name, level in given.items():
        if name not in factors:
            hint = suggestion(name, factors)
            raise ArgumentError(
                "{base}: {name!r} is not a factor of this table{hint}; it has {known}",
                name=name,
                hint=hint,
                known=", ".join(factors),
            )
        known = settings.levels_of(name)
        if level not in known:  # the text "7.0" means the level 7, as in a table of numbers
            level = given[name] = level_text(as_numbers(pd.Series([level], dtype=object))[0][0]) or level
        if level not in known:
            listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
            raise ArgumentError(
                "{base}: no run has {name} {level!r}{hint}; the table has {listed}",
                name=name, level=level, hint=suggestion(level, known), listed=listed,
            )  # fmt: skip
    fitting = [s for s in settings if all(s.levels[name] == level for name, level in given.items())]
    if not fitting:
        levels = " and ".join(f"{name}={level}" for name, level in given.items())
        raise ArgumentError("{base}: no run has {levels} together; leave one of them out", levels=levels)
    return max(fitting, key=lambda setting: sum(len(other.differing(setting)) == 1 for other in settings))


def divide(
    frame: pd.DataFrame, factors: Sequence[str], axes: Sequence[str], base: Mapping[str, Any] | None
) -> tuple[pd.DataFrame, Settings, Setting, list[str]]:
    """Return the table with the number of each row's setting, the settings, the base, and notes on what is doubtful.

    Args:
        frame: the table.
        factors: columns that distinguish settings.
        axes: columns or evaluation sets of losses, which are not factors.
        base: the reference level of each factor. None: the setting with most neighbours.

    Raises:
        LosslineError: there is no setting at all, a run has rows of two settings, or there is no such base.
    """
    frame, settings, notes = find_settings(frame, factors)
    notes = [*note_on_batch(frame, factors), *notes]
    if not settings:
        raise LosslineError(notes[0] if notes else "the table has no rows")
    require_one_setting_a_run(frame, settings, axes)
    if names := unnamed_factors(frame, factors, axes):
        notes.insert(0, f"runs that count as repetitions differ in {', '.join(names)}: are these factors too?")
    if base is not None and BATCH not in factors and BATCH in frame.columns:
        base = {name: level for name, level in base.items() if name != BATCH}
    return frame, settings, find_base(settings, factors, base), notes


def parameter_counts(row: pd.Series) -> tuple[float, float]:
    """Return the total and the non-embedding parameters of a row; NaN for a missing or non-positive count."""
    counts = as_numbers(pd.Series([row.get(name) for name in PARAMS], dtype=object))[0]
    total, non_embedding = np.where(np.isfinite(counts) & (counts > 0), counts, np.nan)
    return float(total), float(non_embedding)
