"""Group runs by their factor levels, and find settings that are equal in all factors but one.

Comparisons of lines and panels of figures both ask `Settings`. Levels are read from the factor columns of the table
and never from names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.fit.tables.columns import KINDS
from lossline_jax.fit.tables.rows import WHERE, level_text, require_column, require_each_once
from lossline_jax.losses.cells import as_numbers
from lossline_jax.losses.loss_row import FACTOR_COLUMNS

SAME_SIZE_TOLERANCE = 0.1  # relative difference of parameter counts that still counts as the same size
RESIZING = frozenset({"architecture", "tokenizer"})  # factors that change a model's parameters by themselves
SEED = "seed"
FACTORS = tuple(name for name in FACTOR_COLUMNS if name != SEED)
PARAMS = ("params_total", "params_non_embedding")
NOT_STATED = ("unknown", "")  # a factor of an imported model that nobody stated, or an empty cell
NO_FACTORS = ("study", "eval_set", "eval_kind", "eval_fingerprint", *KINDS, WHERE)  # words of a losses table, and ours
SETTING = "_setting"  # column: which setting a row belongs to, -1 for none


@dataclass(frozen=True)
class Setting:
    """One level of every factor: the runs that have them all are repetitions of each other."""

    levels: Mapping[str, str]  # by factor
    num_params: tuple[float, float] = (np.nan, np.nan)  # total and without embeddings; NaN where the table lacks one

    def differing(self, base: "Setting") -> list[str]:
        """Return the factors that set it apart from the base; the size is none of them where it counts as equal.

        Layers of different architectures and embeddings of different tokenizers do not compare. Where one of these is
        the only other difference, sizes count as equal if total or non-embedding parameters are within 10%.
        """
        names = differences(self.levels, base.levels)
        others = set(names) - {"size"}
        if len(others) == 1 and others <= RESIZING and self.size_distance(base) <= SAME_SIZE_TOLERANCE:
            return list(others)
        return names

    def size_distance(self, other: "Setting") -> float:
        """Return how far apart the parameter counts are, as a difference of logarithms; infinite where none is known.

        The nearer of the two counts decides.
        """
        distances = [abs(np.log(a / b)) for a, b in zip(self.num_params, other.num_params, strict=True)]
        return min((distance for distance in distances if np.isfinite(distance)), default=np.inf)


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Return the factors in which two settings differ, labels of sizes included."""
    return [name for name in a if a[name] != b[name]]


@dataclass(frozen=True)
class Settings:
    """The settings of a table, by number, and which of them are equal in all factors but one."""

    settings: tuple[Setting, ...]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    def levels_of(self, factor: str) -> list[str]:
        """Return the levels of a factor in the order in which they first occur."""
        return list(dict.fromkeys(setting.levels[factor] for setting in self))

    def pairs(self, factor: str, level: str, reference: str) -> list[tuple[int, int]]:
        """Return pairs of settings, of the reference and of the level, that are equal in all other factors.

        A setting is in one pair at most. Where sizes have other labels the nearest parameter counts make the pair.
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
        """Tell for each setting whether one of another level of `factor` is equal in all other factors."""
        return [any(other.differing(setting) == [factor] for other in self) for setting in self]


def factor_columns(frame: pd.DataFrame, factors: Sequence[str] | None) -> tuple[str, ...]:
    """Those that were named, or those of the house that the table has and states of any run.

    Raises:
        LosslineError: one is not there, or there is none.
    """
    present = [name for name in FACTORS if name in frame.columns]
    stated = [name for name in present if not frame[name].map(level_text).isin(NOT_STATED).all()]
    names = tuple(stated) if factors is None else tuple(factors)
    for name in names:
        require_column(frame, name)
    require_each_once("factor", names)
    if not names:
        raise ArgumentError(
            "the table has none of the factor columns {known}; name its own with {factors}", known=", ".join(FACTORS)
        )
    return names


def find_settings(frame: pd.DataFrame, factors: Sequence[str]) -> tuple[pd.DataFrame, Settings, list[str]]:
    """Return the table with column `_setting`, the settings that it numbers, and a note for rows of unknown levels."""
    rows = frame[list(factors)].map(level_text)
    numbers = rows.groupby(list(factors), sort=False).ngroup().to_numpy()
    first = ~pd.Series(numbers).duplicated().to_numpy()
    settings, failures, number_of = [], [], {}
    for number, row, where in zip(numbers[first], rows[first].to_dict("records"), np.flatnonzero(first), strict=True):
        if missing := [name for name, level in row.items() if level in NOT_STATED]:
            rows_of_setting = frame[numbers == number]
            who = (
                f"runs {', '.join(map(str, rows_of_setting['run_id'].unique()))}"
                if "run_id" in rows_of_setting
                else f"{len(rows_of_setting)} rows"
            )
            failures.append(f"{who}: {' and '.join(missing)} not known: not compared")
            continue
        number_of[number] = len(settings)
        settings.append(Setting(row, parameter_counts(frame.iloc[where])))
    numbered = frame.assign(**{SETTING: [number_of.get(number, -1) for number in numbers]})
    return numbered, Settings(tuple(settings)), failures


def require_one_setting_a_run(frame: pd.DataFrame, settings: Settings) -> None:
    """Raise LosslineError where rows of one run are in several settings: the run of a row is named wrongly then."""
    if "run_id" not in frame:
        return
    several = frame[frame[SETTING] >= 0].groupby("run_id", sort=False)[SETTING].unique()
    for run_id, numbers in several[several.map(len) > 1].items():
        first, second = (settings.settings[number].levels for number in numbers[:2])
        name = differences(first, second)[0]
        raise LosslineError(f"run {run_id!r} has rows of {name} {first[name]} and of {second[name]}: name runs apart")


def unnamed_factors(frame: pd.DataFrame, factors: Sequence[str], axes: Sequence[str]) -> list[str]:
    """Columns of words in which runs of one setting differ although no factor says so: they may be factors too.

    Each run has one word there, and not every run a word of its own, as a name would be.
    """
    if "run_id" not in frame:
        return []
    words = [
        name
        for name in frame.columns
        if name not in (*factors, *axes, SEED, SETTING, "run_id", *NO_FACTORS) and not is_numeric_dtype(frame[name])
    ]
    runs = frame.groupby("run_id", sort=False)
    candidates = [name for name in words if 1 < frame[name].nunique() < len(runs) and (runs[name].nunique() <= 1).all()]
    first = runs[[SETTING, *candidates]].first() if candidates else frame
    return [name for name in candidates if (first.groupby(SETTING)[name].nunique() > 1).any()]


def find_base(settings: Settings, factors: Sequence[str], base: Mapping[str, Any] | None) -> Setting:
    """Return the setting that others are compared with: of those with the given levels the one with most neighbours.

    Neighbours differ in one factor.

    Raises:
        LosslineError: a factor or level that is not there, or no setting has them all.
    """
    given = {name: level_text(value) for name, value in (base or {}).items() if name != SEED}
    for name, level in given.items():
        if name not in factors:
            hint = suggestion(name, factors)
            raise ArgumentError(
                "{base}: {name!r} is no factor of this table{hint}; it has {known}",
                name=name,
                hint=hint,
                known=", ".join(factors),
            )
        known = settings.levels_of(name)
        if level not in known:  # 7.0 is the level 7, as in the table
            level = given[name] = level_text(as_numbers(pd.Series([level], dtype=object))[0][0]) or level
        if level not in known:
            raise LosslineError(f"no run has {name} {level!r}{suggestion(level, known)}; the table has {known[:20]}")
    fitting = [s for s in settings if all(s.levels[name] == level for name, level in given.items())]
    if not fitting:
        raise LosslineError(f"no run has all the factors of the base: {given}")
    return max(fitting, key=lambda setting: sum(len(other.differing(setting)) == 1 for other in settings))


def parameter_counts(row: pd.Series) -> tuple[float, float]:
    """Return the total and the non-embedding parameters of a row; NaN where one is missing or not positive."""
    counts = as_numbers(pd.Series([row.get(name) for name in PARAMS], dtype=object))[0]
    total, non_embedding = np.where(np.isfinite(counts) & (counts > 0), counts, np.nan)
    return float(total), float(non_embedding)
