"""Fit a table with factor columns: a line a setting, which factors move it, and compute laws, in every unit.

read_settings -> fit_setting_lines -> compare_setting_lines            `compare_lines` ends here
              -> fit_compute_laws, fit_panel_lines, fit_isoflops      `fit_study` goes on
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.compare.compare_lines import MARGIN_IN_NOISE, compare_setting_lines
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.setting_line import SettingLine, unmatched
from lossline_jax.fit.study.compute_laws import COMPUTE_CONVENTIONS, fit_compute_laws
from lossline_jax.fit.study.isoflop import fit_isoflops
from lossline_jax.fit.study.panel_lines import comparing_unit, fit_panel_lines
from lossline_jax.fit.study.read_settings import StudyTable, read_settings
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.study.setting_lines import BASE, SettingLines, fit_setting_lines
from lossline_jax.fit.study.table_lines import line_conventions
from lossline_jax.fit.tables.columns import PER_BYTE, UNITS, usable_losses
from lossline_jax.fit.tables.settings import Setting

COMPARE_CONVENTIONS = {
    "gap": "mean over runs of y - reference line(x), over the range of x that both lines have; mean over all pairs of "
    "settings that are equal in every other factor",
    "noise": "standard deviation of a run's mean distance from the line of its setting, over repeated settings; "
    "without repetitions the scatter of checkpoints about the line",
    "test": "runs are the units: F test of no gaps, Holm-corrected over factors; permutation of whole runs between "
    "levels for one line against a line a level",
}


@dataclass(frozen=True)
class Statistics:
    """The margin and the resampling that lines of a study are compared with.

    Args:
        margin_in_noise: a gap that is surely smaller than so many times the noise does not move the line.
        num_resamples: resamples of each bootstrap.
        seed: of the bootstraps and permutations.
    """

    margin_in_noise: float = MARGIN_IN_NOISE
    num_resamples: int = 200
    seed: int = 0


DEFAULT_STATISTICS = Statistics()


def compare_lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    base: Mapping[str, Any] | None = None,
    *,
    factors: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    statistics: Statistics = DEFAULT_STATISTICS,
    merge_copies: bool = False,
) -> StudyFits:
    """Fit a line to every setting, and compare those that match; fit nothing else.

    The arguments and errors are those of `fit_study`.
    """
    table, notes = read_settings(frame, x, y, base, factors=factors, units=units, merge_copies=merge_copies)
    return _compared(table, notes, statistics)


def fit_study(
    frame: pd.DataFrame,
    x: str,
    y: str,
    base: Mapping[str, Any] | None = None,
    *,
    factors: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    statistics: Statistics = DEFAULT_STATISTICS,
    merge_copies: bool = False,
) -> StudyFits:
    """Fit all that a report shows: lines of settings and their comparisons, compute laws, lines of figures, parabolas.

    A setting holds the runs that are equal in all factors; seeds are pooled. `failures` names the runs that no other
    matches in all factors but one, as these are not compared.

    Args:
        frame: rows of `table.LossRow`, or any table: a long one (run_id, step, eval_set and losses a unit), or a wide
            one where x and y are columns and `run_id`, where it is there, names the run of a row.
        x, y: evaluation sets (or columns) on the axes.
        base: level of each factor of the base (the seed is ignored), that others are compared with; factors that are
            left out, or all: those of the setting with most neighbours that differ in one factor.
        factors: columns that tell settings apart; None: those of `table.FACTOR_COLUMNS` that the table has.
        units: loss columns of a long table, a set of lines each; None: nats/token and bits/byte, each where it has
            any.
        statistics: the margin, the bootstraps and their seed.
        merge_copies: count a run of one setting that stands under two names once.

    Raises:
        LosslineError: a column, set or base that is not there, a bad loss in every line, or two names of one run.
    """
    table, notes = read_settings(frame, x, y, base, factors=factors, units=units, merge_copies=merge_copies)
    compared = _compared(table, notes, statistics)
    frame = usable_losses(table.frame, table.units)
    laws, unfitted = fit_compute_laws(frame, (x, y), table.units)
    panel_lines = fit_panel_lines(
        frame,
        x,
        y,
        table.units,
        table.base.levels,
        num_resamples=statistics.num_resamples,
        seed=statistics.seed,
    )
    isoflops, left_out = fit_isoflops(frame, x, comparing_unit(frame, table.units))
    return replace(
        compared,
        compute_fits=laws,
        panel_lines=panel_lines,
        isoflops=isoflops,
        failures=(*compared.failures, *left_out, *unfitted),
        conventions=compared.conventions | COMPUTE_CONVENTIONS,
    )


def _compared(table: StudyTable, notes: Sequence[str], statistics: Statistics) -> StudyFits:
    """Fit and compare the lines of each unit; notes keep the order of the units."""
    lines, comparisons, failures = [], [], list(notes)
    for unit in table.units:
        setting_lines, missing = fit_setting_lines(table, unit, statistics.num_resamples, statistics.seed)
        verdicts, left_out = _compare_in_unit(table, setting_lines, statistics)
        lines += setting_lines.lines
        comparisons += verdicts
        failures += [f"{note} ({UNITS.get(unit, 'unit of the table')})" for note in (*missing, *left_out)]
    if not lines:
        raise LosslineError(failures[0])
    return StudyFits(
        x=table.x,
        y=table.y,
        by=table.factors,
        units=table.units,
        base_label=BASE,
        lines=tuple(lines),
        comparisons=tuple(comparisons),
        failures=tuple(failures),
        conventions=line_conventions(table.x, table.y) | COMPARE_CONVENTIONS,
    )


def _compare_in_unit(
    table: StudyTable, setting_lines: SettingLines, statistics: Statistics
) -> tuple[list[FactorComparison], list[str]]:
    """The comparisons of all factors, and a note for each line that is in none."""
    present = [cell.levels for cell in setting_lines.cells]
    comparisons = compare_setting_lines(
        setting_lines.cells,
        table.base.levels,
        absent=[setting.levels for setting in table.settings if setting.levels not in present],
        unit=setting_lines.unit,
        seed=statistics.seed,
        margin_in_noise=statistics.margin_in_noise,
    )
    left_out = [_why_unmatched(cell, table.base) for cell in unmatched(setting_lines.cells, table.base.levels)]
    return [_with_unit_note(item, table.units) for item in comparisons], left_out


def _why_unmatched(cell: SettingLine, base: Setting) -> str:
    """Say why runs are in no comparison."""
    names = cell.setting.differing(base)
    who = f"runs {', '.join(cell.run_ids)}" if cell.run_ids else f"{cell.x.size} rows"
    if not names:
        return f"{who}: no other setting differs from the base in one factor alone: nothing to compare with"
    return f"{who}: differ from the base in {' and '.join(names)}, and no other run is equal in all of them but one"


def _with_unit_note(comparison: FactorComparison, units: tuple[str, ...]) -> FactorComparison:
    """Withdraw verdicts on tokenizers in a table without bits/byte: tokens of two tokenizers are different units."""
    if comparison.factor != "tokenizer" or PER_BYTE in units:
        return comparison
    reason = "the table has no bits/byte beside it, and a token of one tokenizer is not a token of another"
    levels = tuple(replace(level, verdict="cannot tell") for level in comparison.levels)
    note = "; ".join(part for part in (reason, comparison.note) if part)
    return replace(comparison, verdict="cannot tell", note=note, levels=levels)
