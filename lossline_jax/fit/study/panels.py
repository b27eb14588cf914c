"""Choose the runs and the two losses of each line of the study's figures, from the factor columns alone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.tables.batch import BATCH, batch_is_factor
from lossline_jax.fit.tables.rows import NOT_STATED, level_text
from lossline_jax.fit.tables.settings import FACTORS, PARAMS, Setting, Settings, parameter_counts
from lossline_jax.losses.cells import as_numbers

CELL = ("data", "tokenizer", "architecture")  # factors that a line is claimed to depend on: a panel holds two of them
# Factors that one line is claimed to serve.
POOLED = ("size", "context_length", *(name for name in FACTORS if name not in (*CELL, "size", "context_length")))


def runs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each run, in the order of the table: its factors as text and its parameter counts.

    The seed is not among the factors. A column that the table lacks has one level, "".
    Runs with an unstated factor that other runs state are left out: it is not known which runs they match.

    Args:
        frame: a long table with factor columns.
    """
    runs = frame.drop_duplicates("run_id").reset_index(drop=True)
    run_table = pd.DataFrame({"run_id": runs["run_id"].astype(str)})
    for name in (*CELL, *POOLED):
        run_table[name] = runs.loc[:, name].map(level_text) if name in runs else ""
    if not batch_is_factor(run_table, (*CELL, *POOLED)):
        run_table[BATCH] = ""
    for name in PARAMS:
        run_table[name] = as_numbers(runs.loc[:, name])[0] if name in runs else float("nan")
    unstated = [
        run_table.loc[:, name].isin(NOT_STATED) & (run_table.loc[:, name].nunique() > 1) for name in (*CELL, *POOLED)
    ]
    return run_table.loc[~pd.concat(unstated, axis=1).any(axis=1)].reset_index(drop=True)


def levels_in_order(runs: pd.DataFrame, factor: str) -> tuple[str, ...]:
    """Return the levels of a factor: sizes by parameters, contexts by length, others in the order of the table.

    Args:
        runs: rows of `runs_of`.
        factor: name of the factor.
    """
    if factor not in POOLED[:2]:
        return tuple(runs[factor].unique())
    if factor == "context_length":
        return tuple(sorted(runs[factor].unique(), key=lambda level: (len(level), level)))
    sizes = pd.Series(runs.groupby(factor, sort=False)["params_total"].median())
    return tuple(sizes.sort_values(kind="stable").index)


def cells(runs: pd.DataFrame, columns: Sequence[str] = CELL) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Group the runs that are equal in `columns`, in the order of the table.

    Args:
        runs: rows of `runs_of`.
        columns: names of factors.

    Returns:
        The level of each factor, and the rows of the runs, for each group.
    """
    groups = runs.groupby(list(columns), sort=False)
    # pandas types the key as Hashable; it is a tuple where the columns are given as a list
    return [(dict(zip(columns, key, strict=True)), rows) for key, rows in groups]  # pyright: ignore[reportArgumentType]


def matched_panels(runs: pd.DataFrame, factor: str) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Return the runs that several levels of `factor` have in common, for each combination of the other `CELL` factors.

    A run is kept where another level has a run that is equal in everything else (`Settings`; the seed is ignored).

    Args:
        runs: rows of `runs_of`.
        factor: name of the factor.

    Returns:
        The level of each other factor, and the rows of the runs, for each combination.
    """
    other_factors = [name for name in CELL if name != factor]
    panels = []
    for panel, rows in cells(runs, other_factors):
        paired = rows.loc[_settings_of(rows).have_partners(factor)]
        if paired.loc[:, factor].nunique() > 1:
            panels.append((panel, paired))
    return panels


def _settings_of(runs: pd.DataFrame) -> Settings:
    """Return the setting of each run, numbered as the runs are."""
    rows = (row for _, row in runs.iterrows())
    return Settings(tuple(Setting({name: str(row[name]) for name in FACTORS}, parameter_counts(row)) for row in rows))


# Names of figures. The name of the factor follows the first two: "matched data".
MATCHED, POOL = "matched", "pool"
OWN_VALIDATION, OWN_TASK = "own validation to validation", "own validation to tasks"
TRAIN_TO_TRAIN, TEST_TO_TEST = "train-to-train", "test-to-test"
EVAL_SET = "eval_set"  # the factor of a figure that has one line for each evaluation set
MOST_SETS = 8  # evaluation sets that make lines of a panel or panels of a figure, at most. A convention


@dataclass(frozen=True)
class PanelLineSpec:
    """A line to fit: the checkpoints of some runs on two evaluation sets."""

    figure: str
    panel: dict[str, str]  # the levels that all of the panel's runs have
    factor: str  # factor that distinguishes the lines of the panel (in a pool: the colours)
    level: str  # level of that factor; "": one line serves all levels
    x: str  # evaluation set on the horizontal axis
    y: str  # evaluation set on the vertical axis
    run_ids: tuple[str, ...]


def panel_line_specs(frame: pd.DataFrame, x: str, y: str, base_run: str) -> list[PanelLineSpec]:
    """Return the lines of every figure that the table can fill.

    Args:
        frame: a long table (`run_id`, `eval_set`) with factor columns.
        x: evaluation set on the horizontal axis of the study.
        y: evaluation set on the vertical axis of the study.
        base_run: a run with the factors of the base.
    """
    runs = runs_of(frame)
    if runs.empty:
        return []
    validation, tasks = eval_sets(frame)
    groups = [*_matched(runs, x, y), *_pools(runs, x, y), *_own(runs, validation, tasks, y)]
    base_runs = _base_panel(runs, base_run)
    if x in validation:
        targets = first_sets(validation, y, but=x)
        groups += _by_data(TRAIN_TO_TRAIN, base_runs, x, targets)
    if tasks:
        first = y if y in tasks else tasks[0]
        groups += _by_data(TEST_TO_TEST, base_runs, first, first_sets(tasks, y, but=first))
    return groups


def eval_sets(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the validation sets and the tasks, each in the order of the table.

    Without a column `eval_kind` all sets are validation sets.

    Args:
        frame: a long table.
    """
    sets = frame.drop_duplicates("eval_set")
    is_task = sets["eval_kind"] == "task" if "eval_kind" in sets else pd.Series(False, sets.index)
    return list(sets.loc[~is_task, "eval_set"]), list(sets.loc[is_task, "eval_set"])


def own_set(data: str, validation: Sequence[str]) -> str | None:
    """Return the validation set of a pretraining corpus. None: there is none, or several match.

    It has the same name, spelling aside (`fineweb-100b`, `fineweb_100b`). Or it is the only set whose name the name of
    the corpus begins with (`smollm` of `smollm-corpus`).

    Args:
        data: name of the corpus.
        validation: names of the validation sets.
    """
    if data in validation:
        return data
    letters = {name: re.sub(r"[^a-z0-9]", "", name.lower()) for name in (data, *validation)}
    for is_match in (str.__eq__, str.startswith):
        matches = [name for name in validation if letters[name] and is_match(letters[data], letters[name])]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def first_sets(sets: Sequence[str], first: str, but: str) -> list[str]:
    """Return at most `MOST_SETS` of the sets other than `but`, with `first` before all others.

    Args:
        sets: names of evaluation sets.
        first: the set to put first, if it is there.
        but: the set to leave out.
    """
    return sorted((name for name in sets if name != but), key=lambda name: name != first)[:MOST_SETS]


def _matched(runs: pd.DataFrame, x: str, y: str) -> Iterator[PanelLineSpec]:
    for factor in CELL:
        for panel, rows in matched_panels(runs, factor):
            for level, rows_of_level in rows.groupby(factor, sort=False):
                runs_of_level = tuple(rows_of_level["run_id"])
                yield PanelLineSpec(f"{MATCHED} {factor}", panel, factor, str(level), x, y, runs_of_level)


def _pools(runs: pd.DataFrame, x: str, y: str) -> Iterator[PanelLineSpec]:
    for factor in POOLED:
        for cell, runs_of_cell in cells(runs):
            for _, rows in matched_panels(runs_of_cell, factor):
                yield PanelLineSpec(f"{POOL} {factor}", cell, factor, "", x, y, tuple(rows["run_id"]))


def _own(runs: pd.DataFrame, validation: Sequence[str], tasks: Sequence[str], y: str) -> Iterator[PanelLineSpec]:
    for cell, rows in cells(runs):
        validation_set = own_set(cell["data"], validation)
        if validation_set is None:
            continue
        for figure, sets in ((OWN_VALIDATION, validation), (OWN_TASK, tasks)):
            for target in first_sets(sets, y, but=validation_set):
                yield PanelLineSpec(figure, cell, EVAL_SET, target, validation_set, target, tuple(rows["run_id"]))


def _base_panel(runs: pd.DataFrame, base_run: str) -> pd.DataFrame:
    """Return the runs that differ from the base in data alone. Without any, return all runs of the base's cell."""
    for _, rows in matched_panels(runs, "data"):
        if base_run in set(rows["run_id"]):
            return rows
    return next((rows for _, rows in cells(runs) if base_run in set(rows["run_id"])), runs.iloc[:0])


def _by_data(figure: str, runs: pd.DataFrame, x: str, targets: Sequence[str]) -> Iterator[PanelLineSpec]:
    for target in targets:
        for level in levels_in_order(runs, "data"):
            runs_of_level = tuple(runs.loc[runs["data"] == level, "run_id"])
            yield PanelLineSpec(figure, {EVAL_SET: target}, "data", level, x, target, runs_of_level)
