"""Names and styles of the runs: the factor in which each run differs from the base, and the run's style."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.config.serialise import to_json
from lossline_jax.config.study import RunConfig
from lossline_jax.fit.study.results import LineFit, StudyFits
from lossline_jax.formatting import shown, shown_tree
from lossline_jax.losses.loss_row import FACTOR_COLUMNS
from lossline_jax.report.figures.style import FACTOR_COLOURS, FACTOR_ORDER, Style, factor_name, factor_rank

BASE, SEED, SEVERAL = "base", "seed", "other"
MOST_NAMED = 2  # a run that differs in more factors is named by its id


@dataclass(frozen=True)
class Run:
    """A run of the table with its name and its style."""

    run_id: str
    factor: str  # "base", "seed" (a repeat of the base), the factor of its line, or "other" for several factors
    level: str  # of that factor, as in the fits
    name: str  # the level as readers see it
    style: Style
    config: Mapping | None  # the run's part of study.json; None: the study did not train the run

    @property
    def is_base(self) -> bool:
        """The run has the base's level of every factor, and the first seed."""
        return self.factor == BASE

    @property
    def title(self) -> str:
        """`base`, or `tokenizer: bytes`."""
        return self.name if self.is_base else f"{factor_name(self.factor)}: {self.name}"


def describe_runs(long: pd.DataFrame, fits: StudyFits, study_runs: Sequence[RunConfig]) -> dict[str, Run]:
    """Describe every run of the table: the base first, then by factor in the order of `FACTOR_ORDER`.

    The fits know the line of each run. A run on no line differs from the base in several factors. Such a run is named
    by these factors, or by its id where they are more than `MOST_NAMED`.

    Args:
        long: the losses table as `as_long` gives it, with printable names.
        fits: fits of that table, with printable names.
        study_runs: the runs of the study; empty for a table without a study.
    """
    table = long.drop_duplicates("run_id")
    has_seeds = "seed" in table.columns
    configs = {shown(run.run_id): shown_tree(to_json(run)) for run in study_runs}
    line_of = {run_id: line for line in fits.lines for run_id in line.run_ids or (line.label,)}
    base_line = next((line for line in fits.lines if line.label == fits.base_label), None)
    first_seed = None
    places: dict[str, tuple[str, str]] = {}  # factor and level by run id
    for row in table.to_dict("records"):
        run_id = row["run_id"]
        factor, level = _factor_and_level(row, line_of.get(run_id), base_line)
        if factor == BASE and has_seeds:
            first_seed = row["seed"] if first_seed is None else first_seed
            factor, level = (BASE, BASE) if row["seed"] == first_seed else (SEED, str(row["seed"]))
        places[run_id] = factor, level
    styles = _styles(list(dict.fromkeys(places.values())))
    runs = {}
    for run_id in sorted(places, key=lambda run_id: factor_rank(places[run_id][0])):  # a stable sort: table order
        factor, level = places[run_id]
        name = _level_name(factor, level, base_line)
        runs[run_id] = Run(run_id, factor, level, name, styles[factor, level], configs.get(run_id))
    return runs


def _factor_and_level(row: Mapping, line: LineFit | None, base_line: LineFit | None) -> tuple[str, str]:
    """Return factor and level of the run in a row of the losses table.

    `line` is None for a run that is on no line, and `base_line` is None for a table without a base.
    """
    if line is not None and line.factor and base_line and "+" in line.factor:
        return SEVERAL, line.level
    if line is not None:
        return (line.factor, line.level) if line.factor else (BASE, BASE)
    group = base_line.group if base_line else {}
    differing = [name for name in FACTOR_COLUMNS if name in group and str(row[name]) != str(group[name])]
    if len(differing) > MOST_NAMED:
        return SEVERAL, str(row["run_id"])
    return SEVERAL, ", ".join(f"{factor_name(name)} {row[name]}" for name in differing) or "no line"


def _styles(levels: list[tuple[str, str]]) -> dict[tuple[str, str], Style]:
    """Return a style for each (factor, level).

    A factor of `FACTOR_COLOURS` has its own colour in a table with a base. Several other factors get one free colour
    each. A single other factor gets a free colour for each level; a level named like a factor gets that colour.
    """
    styles: dict[tuple[str, str], Style] = {}
    last_index: dict[str, int] = {}  # of the levels of each factor until now
    level_names = {level for _, level in levels}
    free_colours = [name for name in FACTOR_ORDER if name not in level_names | {BASE}] or [SEVERAL]
    factors = list(dict.fromkeys(factor for factor, _ in levels))
    unused_colours = [name for name in free_colours if name not in factors] or free_colours
    unknown_factors = [factor for factor in factors if factor not in FACTOR_COLOURS]
    for factor, level in levels:
        k = last_index.get(factor, -1) + (level not in FACTOR_COLOURS or factor in FACTOR_COLOURS)
        last_index[factor] = k
        if factor in FACTOR_COLOURS and (BASE, BASE) in levels:
            styles[factor, level] = Style(factor, k)
        elif len(unknown_factors) > 1:
            styles[factor, level] = Style(unused_colours[unknown_factors.index(factor) % len(unused_colours)], k)
        elif level in FACTOR_COLOURS:
            styles[factor, level] = Style(level)
        else:
            styles[factor, level] = Style(free_colours[k % len(free_colours)], k // len(free_colours))
    return styles


def _level_name(factor: str, level: str, base_line: LineFit | None) -> str:
    """Return the level as readers see it. An optimiser shows only the parts that differ from the base: `lr0.001`."""
    base = str(base_line.group.get("optimiser", "")) if base_line and factor == "optimiser" else ""
    return " ".join(part for part in _parts(level) if part not in _parts(base)) if base else level


def _parts(label: str) -> list[str]:
    """Return the parts of an optimiser's label. The minus sign of `lr1e-05` does not divide it."""
    return re.split("-(?=[A-Za-z])", label)
