"""Choose the runs and the two losses of each line of the study's figures, from the factor columns alone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.tables.rows import level_text
from lossline_jax.fit.tables.settings import FACTORS, NOT_STATED, PARAMS, Setting, Settings, parameter_counts
from lossline_jax.losses.cells import as_numbers

CELL = ("data", "tokenizer", "architecture")  # what the line is said to depend on: a panel holds two of them
POOLED = ("size", "context_length", "optimiser")  # what one line is said to serve


def runs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run in the order of the table: its factors (but the seed) as text, its parameter counts.

    A column that the table lacks has one level, "". Runs with an unstated factor that others state are left out:
    nobody can say whom they match.
    """
    runs = frame.drop_duplicates("run_id").reset_index(drop=True)
    run_table = pd.DataFrame({"run_id": runs["run_id"].astype(str)})
    for name in (*CELL, *POOLED):
        run_table[name] = runs[name].map(level_text) if name in runs else ""
    for name in PARAMS:
        run_table[name] = as_numbers(runs[name])[0] if name in runs else float("nan")
    unstated = [run_table[name].isin(NOT_STATED) & (run_table[name].nunique() > 1) for name in (*CELL, *POOLED)]
    return run_table[~pd.concat(unstated, axis=1).any(axis=1)].reset_index(drop=True)


def levels_in_order(runs: pd.DataFrame, factor: str) -> tuple[str, ...]:
    """Return the levels of a factor: sizes by parameters, contexts by length, others in the order of the table."""
    if factor not in POOLED[:2]:
        return tuple(runs[factor].unique())
    if factor == "context_length":
        return tuple(sorted(runs[factor].unique(), key=lambda level: (len(level), level)))
    return tuple(runs.groupby(factor, sort=False)["params_total"].median().sort_values(kind="stable").index)


def cells(runs: pd.DataFrame, columns: Sequence[str] = CELL) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Runs that are equal in `columns`, in the order of the table."""
    return [(dict(zip(columns, key, strict=True)), rows) for key, rows in runs.groupby(list(columns), sort=False)]


def matched_panels(runs: pd.DataFrame, factor: str) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Return the runs that several levels of `factor` have in common, for each combination of the other `CELL` factors.

    A run is kept where another level has a run that is equal in everything else (`Settings`; the seed is ignored).
    """
    held = [name for name in CELL if name != factor]
    panels = []
    for panel, rows in cells(runs, held):
        paired = rows[_settings_of(rows).have_partners(factor)]
        if paired[factor].nunique() > 1:
            panels.append((panel, paired))
    return panels


def _settings_of(runs: pd.DataFrame) -> Settings:
    """The setting of each run, numbered as the runs are."""
    rows = (row for _, row in runs.iterrows())
    return Settings(tuple(Setting({name: row[name] for name in FACTORS}, parameter_counts(row)) for row in rows))


MATCHED, POOL = "matched", "pool"  # and the factor: "matched data"
OWN_VALIDATION, OWN_TASK = "own validation to validation", "own validation to tasks"
TRAIN_TO_TRAIN, TEST_TO_TEST = "train-to-train", "test-to-test"
EVAL_SET = "eval_set"  # the factor of a figure with a line an evaluation set
MOST_SETS = 8  # lines of one panel or panels of one figure that evaluation sets make


@dataclass(frozen=True)
class PanelLineSpec:
    """A line to fit: the checkpoints of some runs on two evaluation sets."""

    figure: str
    panel: dict[str, str]  # the levels that all of the panel's runs have
    factor: str  # what the lines (of a pool: the colours) of the panel differ in
    level: str  # of that factor; "" for one line that serves all levels
    x: str
    y: str
    run_ids: tuple[str, ...]


def panel_line_specs(frame: pd.DataFrame, x: str, y: str, base_run: str) -> list[PanelLineSpec]:
    """The lines of every figure that the table can fill.

    Args:
        frame: a long table (`run_id`, `eval_set`) with factor columns.
        x, y: evaluation sets on the axes of the study.
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
    """Validation sets and tasks, each in the order of the table. Without `eval_kind` all are validation sets."""
    sets = frame.drop_duplicates("eval_set")
    is_task = sets["eval_kind"] == "task" if "eval_kind" in sets else pd.Series(False, sets.index)
    return list(sets.loc[~is_task, "eval_set"]), list(sets.loc[is_task, "eval_set"])


def own_set(data: str, validation: Sequence[str]) -> str | None:
    """The validation set of a pretraining corpus: of the same name, spelling aside (`fineweb-100b`, `fineweb_100b`),
    or the only one that the corpus' name begins with (`smollm` of `smollm-corpus`)."""
    if data in validation:
        return data
    spelt = {name: re.sub(r"[^a-z0-9]", "", name.lower()) for name in (data, *validation)}
    for fits in (str.__eq__, str.startswith):
        matches = [name for name in validation if spelt[name] and fits(spelt[data], spelt[name])]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def first_sets(sets: Sequence[str], first: str, but: str) -> list[str]:
    """At most `MOST_SETS` of the sets other than `but`, `first` before all others."""
    return sorted((name for name in sets if name != but), key=lambda name: name != first)[:MOST_SETS]


def _matched(runs: pd.DataFrame, x: str, y: str) -> Iterator[PanelLineSpec]:
    for factor in CELL:
        for panel, rows in matched_panels(runs, factor):
            for level, of_level in rows.groupby(factor, sort=False):
                yield PanelLineSpec(f"{MATCHED} {factor}", panel, factor, level, x, y, tuple(of_level["run_id"]))


def _pools(runs: pd.DataFrame, x: str, y: str) -> Iterator[PanelLineSpec]:
    for factor in POOLED:
        for cell, members in cells(runs):
            for _, rows in matched_panels(members, factor):
                yield PanelLineSpec(f"{POOL} {factor}", cell, factor, "", x, y, tuple(rows["run_id"]))


def _own(runs: pd.DataFrame, validation, tasks, y: str) -> Iterator[PanelLineSpec]:
    for cell, rows in cells(runs):
        validation_set = own_set(cell["data"], validation)
        if validation_set is None:
            continue
        for figure, sets in ((OWN_VALIDATION, validation), (OWN_TASK, tasks)):
            for target in first_sets(sets, y, but=validation_set):
                yield PanelLineSpec(figure, cell, EVAL_SET, target, validation_set, target, tuple(rows["run_id"]))


def _base_panel(runs: pd.DataFrame, base_run: str) -> pd.DataFrame:
    """The runs that differ from the base in data with all else equal; without any, all of the base's cell."""
    for _, rows in matched_panels(runs, "data"):
        if base_run in set(rows["run_id"]):
            return rows
    return next((rows for _, rows in cells(runs) if base_run in set(rows["run_id"])), runs.iloc[:0])


def _by_data(figure: str, runs: pd.DataFrame, x: str, targets: Sequence[str]) -> Iterator[PanelLineSpec]:
    for target in targets:
        for level in levels_in_order(runs, "data"):
            of_level = tuple(runs.loc[runs["data"] == level, "run_id"])
            yield PanelLineSpec(figure, {EVAL_SET: target}, "data", level, x, target, of_level)
