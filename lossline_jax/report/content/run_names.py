"""Who each run is: which factor sets it apart from the base, and how it is drawn."""

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
MOST_NAMED = 2  # a run that differs in more factors goes by its id


@dataclass(frozen=True)
class Run:
    """One run of the table."""

    run_id: str
    factor: str  # "base", "seed" (a repeat of the base), the factor of its line, or "other" for several
    level: str  # of that factor, as in the fits
    name: str  # the level as it is shown
    style: Style
    config: Mapping | None  # its part of study.json

    @property
    def is_base(self) -> bool:
        return self.factor == BASE

    @property
    def title(self) -> str:
        """`base`, or `tokenizer: bytes`."""
        return self.name if self.is_base else f"{factor_name(self.factor)}: {self.name}"


def describe_runs(long: pd.DataFrame, fits: StudyFits, study_runs: Sequence[RunConfig]) -> dict[str, Run]:
    """Describe every run of the table: the base first, then by factor in the order of the house.

    The fits say which line a run is on. A run on none of them (it differs from the base in several factors)
    is named by those that differ, or by its id.

    Args:
        long: the losses table with its names as they may be shown.
        fits: fits of that table, likewise.
        study_runs: the runs of the study; none for a table without a study.
    """
    table = long.drop_duplicates("run_id").set_index("run_id")
    configs = {shown(run.run_id): shown_tree(to_json(run)) for run in study_runs}
    line_of = {run_id: line for line in fits.lines for run_id in line.run_ids or (line.label,)}
    base_line = next((line for line in fits.lines if line.label == fits.base_label), None)
    first_seed = None
    places = {}
    for run_id, row in table.iterrows():
        factor, level = _place(row, line_of.get(run_id), base_line)
        if factor == BASE and "seed" in table.columns:
            first_seed = row["seed"] if first_seed is None else first_seed
            factor, level = (BASE, BASE) if row["seed"] == first_seed else (SEED, str(row["seed"]))
        places[run_id] = factor, level
    styles = _styles(list(dict.fromkeys(places.values())))
    order = sorted(places, key=lambda run_id: factor_rank(places[run_id][0]))  # stable: as in the table within
    return {
        run_id: Run(
            run_id,
            *places[run_id],
            _shown(*places[run_id], base_line),
            styles[places[run_id]],
            configs.get(run_id),
        )
        for run_id in order
    }


def _place(row: pd.Series, line: LineFit | None, base_line: LineFit | None) -> tuple[str, str]:
    """Factor and level of a run."""
    if line is not None and line.factor and base_line and "+" in line.factor:
        return SEVERAL, line.level
    if line is not None:
        return (line.factor, line.level) if line.factor else (BASE, BASE)
    group = base_line.group if base_line else {}
    differing = [name for name in FACTOR_COLUMNS if name in group and str(row[name]) != str(group[name])]
    if len(differing) > MOST_NAMED:
        return SEVERAL, str(row.name)
    return SEVERAL, ", ".join(f"{factor_name(name)} {row[name]}" for name in differing) or "no line"


def _styles(levels: list[tuple[str, str]]) -> dict[tuple[str, str], Style]:
    """A style a level: colour by factor; by level where the factor is not one of the house."""
    styles, seen = {}, {}
    named = {level for _, level in levels}
    strangers = [name for name in FACTOR_ORDER if name not in named | {BASE}] or [SEVERAL]
    factors = list(dict.fromkeys(factor for factor, _ in levels))
    colours = [name for name in strangers if name not in factors] or strangers
    foreign = [factor for factor in factors if factor not in FACTOR_COLOURS]
    for factor, level in levels:
        k = seen[factor] = seen.get(factor, -1) + (level not in FACTOR_COLOURS or factor in FACTOR_COLOURS)
        if factor in FACTOR_COLOURS and (BASE, BASE) in levels:
            styles[factor, level] = Style(factor, k)
        elif len(foreign) > 1:  # a colour a factor, as for those of the house
            styles[factor, level] = Style(colours[foreign.index(factor) % len(colours)], k)
        elif level in FACTOR_COLOURS:
            styles[factor, level] = Style(level)
        else:
            styles[factor, level] = Style(strangers[k % len(strangers)], k // len(strangers))
    return styles


def _shown(factor: str, level: str, base_line: LineFit | None) -> str:
    """The level as a reader sees it; of an optimiser only the parts that differ from the base: `lr0.001`."""
    base = str(base_line.group.get("optimiser", "")) if base_line and factor == "optimiser" else ""
    return " ".join(part for part in level.split("-") if part not in base.split("-")) if base else level
