"""Fit a table with factor columns in every unit: lines of settings, comparisons of lines, and compute laws.

Each arrow is a call. `compare_lines` ends after the first line, and `fit_study` goes on to the second:

read_settings -> fit_setting_lines -> compare_setting_lines
              -> fit_compute_laws, fit_panel_lines, fit_isoflops, study_speedups
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from lossline_jax import logs
from lossline_jax.errors import LosslineError
from lossline_jax.fit.arguments import require_count, require_positive, require_seed
from lossline_jax.fit.compare.compare_lines import MARGIN_IN_NOISE, compare_setting_lines
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.setting_line import SettingLine, unmatched
from lossline_jax.fit.option_types import require_field_types, require_options
from lossline_jax.fit.study.compute_laws import COMPUTE_CONVENTIONS, fit_compute_laws
from lossline_jax.fit.study.isoflop import fit_isoflops
from lossline_jax.fit.study.panel_lines import comparing_unit, fit_panel_lines
from lossline_jax.fit.study.read_settings import StudyTable, read_settings
from lossline_jax.fit.study.results import LineFit, StudyFits
from lossline_jax.fit.study.setting_lines import BASE, SettingLines, fit_setting_lines
from lossline_jax.fit.study.study_speedups import study_speedups
from lossline_jax.fit.study.table_lines import line_conventions
from lossline_jax.fit.tables.columns import PER_BYTE, unit_label
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
    """The options of the comparison of lines: its margin, bootstraps and seed.

    Args:
        margin_in_noise: the margin in noise floors: a gap that is surely smaller does not move the line.
        num_resamples: resamples of each bootstrap.
        seed: seed of the bootstraps and permutations.

    Raises:
        ArgumentError: a field has a value of a wrong type or out of its range.
    """

    margin_in_noise: float = MARGIN_IN_NOISE
    num_resamples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        require_field_types(self)
        require_positive("margin_in_noise", self.margin_in_noise)
        require_count("num_resamples", self.num_resamples)
        require_seed(self.seed)


DEFAULT_STATISTICS = Statistics()
LARGE_ROWS = 20_000  # rows; the fits of a larger table show their progress. A choice


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
    """Fit a line to every setting and compare the lines that match. Nothing else is fitted.

    The arguments and errors are those of `fit_study`.

    Args:
        frame: a table of losses.
        x: evaluation set or column on the horizontal axis.
        y: evaluation set or column on the vertical axis.
        base: reference level of each factor.
        factors: columns that distinguish settings.
        units: loss columns of a long table.
        statistics: the margin, the bootstraps and their seed.
        merge_copies: True: count a run of one setting that has two names once.
    """
    require_options("statistics", statistics, Statistics)
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
    """Fit everything that a report shows.

    These are the lines of settings and their comparisons, compute laws, the lines of figures, and parabolas of loss
    against size at equal compute. A setting holds the runs that are equal in all factors; seeds are pooled.
    A run is compared only with runs that are equal in all factors but one. `failures` of the result names the runs
    that have no such partner.

    Args:
        frame: rows of `losses.LossRow`, or any table. A long table has `run_id`, `step`, `eval_set` and one column of
            losses for each unit. A wide table has columns x and y, and `run_id` names the run of a row if it is there.
        x: evaluation set or column on the horizontal axis.
        y: evaluation set or column on the vertical axis.
        base: the reference level of each factor, without the seed. Factors that are missing here take the levels of
            the setting with most neighbours, which differ in one factor. None: all factors do.
        factors: columns that distinguish settings. None: lossline's factor columns (`losses.loss_row.FACTOR_COLUMNS`,
            without the seed) that the table has.
        units: loss columns of a long table; each gets its own lines. None: nats/token and bits/byte, where the table
            has them.
        statistics: the margin, the bootstraps and their seed.
        merge_copies: True: count a run of one setting that has two names once.

    Raises:
        LosslineError: a column, set or base is missing, every line has a bad loss, or one run has two names.
    """
    require_options("statistics", statistics, Statistics)
    table, notes = read_settings(frame, x, y, base, factors=factors, units=units, merge_copies=merge_copies)
    compared = _compared(table, notes, statistics)
    frame = table.frame
    _say(table, "fitting compute laws")
    compute_fits, unfitted = fit_compute_laws(frame, (x, y), table.units)
    _say(table, "fitting the lines of the figures")
    panel_lines = fit_panel_lines(
        frame, x, y, table.units, base=table.base.levels, num_resamples=statistics.num_resamples, seed=statistics.seed
    )
    isoflops, left_out = fit_isoflops(frame, x, comparing_unit(frame, table.units))
    speedups, not_compared, speedup_conventions = study_speedups(table)
    return replace(
        compared,
        compute_fits=compute_fits,
        panel_lines=panel_lines,
        isoflops=isoflops,
        failures=(*compared.failures, *left_out, *unfitted, *not_compared),
        conventions=compared.conventions | COMPUTE_CONVENTIONS | speedup_conventions,
        speedups=speedups,
    )


def _say(table: StudyTable, doing: str) -> None:
    """Show the progress of a large table, which takes many seconds. A small table is done before anyone asks."""
    if len(table.frame) > LARGE_ROWS:
        logs.info(f"{len(table.frame):,} rows: {doing}")


def _compared(table: StudyTable, notes: Sequence[str], statistics: Statistics) -> StudyFits:
    """Fit and compare the lines of each unit. Notes keep the order of the units."""
    lines: list[LineFit] = []
    comparisons: list[FactorComparison] = []
    failures = list(notes)
    for unit in table.units:
        _say(table, f"fitting the lines of {len(table.settings.settings)} settings in {unit_label(unit)}")
        setting_lines, missing = fit_setting_lines(table, unit, statistics.num_resamples, statistics.seed)
        _say(table, f"comparing the lines in {unit_label(unit)}")
        verdicts, left_out = _compare_in_unit(table, setting_lines, statistics)
        lines += setting_lines.lines
        comparisons += verdicts
        failures += [f"{note} ({unit_label(unit)})" for note in (*missing, *left_out)]
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
    """Return the comparisons of all factors, and a note for each line that is in none of them."""
    comparisons = compare_setting_lines(
        setting_lines.cells,
        table.base.levels,
        absent=setting_lines.absent,
        unit=setting_lines.unit,
        seed=statistics.seed,
        margin_in_noise=statistics.margin_in_noise,
    )
    left_out = [_why_unmatched(cell, table.base) for cell in unmatched(setting_lines.cells, table.base.levels)]
    return [_with_unit_note(item, table.units) for item in comparisons], left_out


def _why_unmatched(cell: SettingLine, base: Setting) -> str:
    """Return the reason why the runs of a setting are in no comparison."""
    names = cell.setting.differing(base)
    runs = f"runs {', '.join(cell.run_ids)}" if cell.run_ids else f"{cell.x.size} rows"
    if not names:
        return f"{runs}: no other setting differs from the base in one factor alone: nothing to compare with"
    return f"{runs}: differ from the base in {' and '.join(names)}, and no other run is equal in all of them but one"


def _with_unit_note(comparison: FactorComparison, units: tuple[str, ...]) -> FactorComparison:
    """Withdraw verdicts on tokenizers in a table without bits/byte.

    Tokens of two tokenizers are different units, so that losses per token do not compare.
    """
    if comparison.factor != "tokenizer" or PER_BYTE in units:
        return comparison
    reason = "the table has no bits/byte, and losses per token of different tokenizers cannot be compared"
    levels = tuple(replace(level, verdict="cannot tell") for level in comparison.levels)
    note = "; ".join(part for part in (reason, comparison.note) if part)
    return replace(comparison, verdict="cannot tell", note=note, levels=levels, trend=None, interactions=())
