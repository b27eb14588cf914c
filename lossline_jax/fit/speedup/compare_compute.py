"""Compare settings by the compute that they need for the same loss. Read `compare_compute` first.

read_compute -> ComputeTable.cells -> far_compute_runs -> speedups_of_factors (measured_displacement or
power_displacements, judge_levels) -> without_far_compute
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.fit.compare.far_run import runs_in_doubt, runs_set_aside
from lossline_jax.fit.option_types import require_options
from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.speedup.curve_options import CurveOptions, require_curve_options
from lossline_jax.fit.speedup.far_compute import far_compute_runs, without_far_budgets
from lossline_jax.fit.speedup.measure_speedups import speedups_of_factors
from lossline_jax.fit.speedup.measured_curves import MIN_RECORDS, usable_runs
from lossline_jax.fit.speedup.read_compute import (
    ComputeColumns,
    ComputeTable,
    loss_unit,
    read_compute,
    require_compute_of_checkpoints,
)
from lossline_jax.fit.speedup.set_aside_compute import without_far_compute
from lossline_jax.fit.speedup.speedups import ComputeComparison, CurveKind, FactorSpeedup
from lossline_jax.fit.tables.columns import require_loss_column
from lossline_jax.fit.tables.pairing import TOLERANCE
from lossline_jax.fit.tables.rows import as_names, as_pandas, require_each_once
from lossline_jax.fit.tables.settings import Setting

MIN_CHECKPOINTS = 4  # checkpoints of at least half of the runs that make their own curves the default. A convention

SPEEDUP_CONVENTIONS = {
    "speedup": "compute of the reference / compute of the level at equal loss; geometric mean over runs, over pairs of "
    "settings that are equal in every other factor, and over the lower half of the common losses",
    "speedup intervals": "90%, Student's t with whole runs as units; p is of speedup 1, Holm-corrected over all levels",
    "speedup noise": "deviation of ln(compute) at equal loss between runs of one setting",
}
EVERY_POINT = (
    "every checkpoint; before the end of a decaying learning rate, a run is above the loss that a run of this length "
    "would reach"
)
DEFAULT_CURVES = CurveOptions()
TABLE_COLUMNS = ComputeColumns()


def compare_compute(
    frame: pd.DataFrame,
    losses: str | Sequence[str],
    base: Mapping[str, Any] | None = None,
    *,
    factors: Sequence[str] | None = None,
    unit: str | None = None,
    columns: ComputeColumns = TABLE_COLUMNS,
    curves: CurveOptions = DEFAULT_CURVES,
    merge_copies: bool = False,
) -> ComputeComparison:
    """Measure how much less compute each level of a factor needs for the same loss as the reference level.

    A setting holds the runs that are equal in all factors. Each setting of a level is paired with the setting of the
    reference level that is equal in all other factors. The speedup at a loss is the compute with which the reference
    reaches this loss, over that of the level. Only losses that all runs of both settings reach are compared (of power
    laws: losses that both curves reach within their own compute). Nothing is extrapolated.

    The speedup of a level is the geometric mean over its runs, its pairs, and the lower half of the common losses.
    There the reference uses the upper half of the common range of ln(compute). Runs are the units of interval and
    test. The noise of a run is pooled over the settings of the table, but a noisier setting (F test, 10%) has its own.
    These are the verdicts of a level:

    - `saves compute`, `costs compute`: the t test of a speedup of 1 rejects at 5%, Holm-corrected over all levels of
      all factors on this loss.
    - `depends`: one of its pairs saves compute and another one costs compute (t tests at 5%, Bonferroni over pairs).
      It goes before all others.
    - `no difference`: none of these, and the 90% interval lies within 1/margin and margin.
    - `cannot tell`: everything else. Levels of `tokenizer` always are where the losses are not in bits/byte. So are
      measured curves where half of the runs of one side end clearly above an earlier loss (see `late_rises`), and
      levels whose compute seems to have another unit than that of the reference. So are power laws that miss their own
      points by more than the speedup, and by more than ten times the noise of a run.

    Runs far from the other runs of their own setting (`far_compute`) are set aside: everything is measured without
    them. They are named in the note, and a level says what its verdict is with them where it is another one. A far run
    is only in doubt where few other runs tell the noise, or where a setting has two runs and either may be off. Runs in
    doubt count, and a verdict that does not hold without them becomes `cannot tell`. A checkpoint at which all runs of
    a setting lie off their curve is set aside too, and named.

    Args:
        frame: a table with `run_id`, factor columns and compute. A long table has `eval_set` and `step` too.
        losses: columns or evaluation sets, each of them compared on its own.
        base: the reference level of each factor. None: the levels of the setting with most neighbours.
        factors: columns that distinguish settings. None: lossline's factor columns that the table has.
        unit: loss column of a long table. None: bits_per_byte, or else nats_per_token.
        columns: the columns that tell the compute.
        curves: the curves of loss against compute, and the margin.
        merge_copies: True: count a run of one setting that has two names once.

    Raises:
        LosslineError: a column, set or base is missing, a value is bad, one run has two names, or an option is wrong.
    """
    losses, factors = as_names(losses), None if factors is None else as_names(factors)
    require_options("columns", columns, ComputeColumns)
    require_options("curves", curves, CurveOptions)
    curves = replace(curves, share=None if curves.share is None else as_names(curves.share))
    require_curve_options(curves)
    require_each_once("factor", factors or ())
    require_each_once("loss", losses)
    frame = as_pandas(frame)
    unit = loss_unit(frame, losses, unit)
    if unit:
        require_loss_column(unit)
    table, notes = read_compute(frame, losses, base, factors=factors, columns=columns)
    return compare_table(table, losses, unit, curves=curves, merge_copies=merge_copies, notes=notes)


def compare_table(
    table: ComputeTable,
    losses: Sequence[str],
    unit: str,
    *,
    curves: CurveOptions = DEFAULT_CURVES,
    merge_copies: bool = False,
    notes: Sequence[str] = (),
) -> ComputeComparison:
    """Compare the compute of a table that is already divided into settings. See `compare_compute`.

    Args:
        table: the table.
        losses: columns or evaluation sets.
        unit: loss column of a long table; "": the losses are columns.
        curves: the curves of loss against compute, and the margin.
        merge_copies: True: count a run of one setting that has two names once.
        notes: notes to begin with.

    Raises:
        LosslineError: a loss is bad, one run has two names, or the checkpoints of a run have one compute.
    """
    found: list[FactorSpeedup] = []
    failures = list(notes)
    for loss in losses:
        cells, missing = table.cells(loss, unit, merge_copies)
        if not curves.last:
            require_compute_of_checkpoints(cells, table.source)
        failures += [note for note in missing if note not in failures]
        factors, left_out = _compare_on(cells, table.base, loss=loss, unit=unit, curves=curves)
        found += factors
        failures += left_out
    conventions = SPEEDUP_CONVENTIONS | {"points of compute": _points(curves)}
    return ComputeComparison(tuple(found), table.source, tuple(failures), conventions)


def _compare_on(
    cells: Sequence[ComputeCell], base: Setting, *, loss: str, unit: str, curves: CurveOptions
) -> tuple[list[FactorSpeedup], list[str]]:
    """Return the speedups of all factors on one loss, and a note for each run that is left out."""
    points = _points_that_count(cells, curves)
    kind, notes = _kind(points, curves), []
    if kind == "measured":
        cells = points
    # The runs of a frontier are not repetitions: they differ in size.
    rest, checkpoints = (cells, ()) if curves.frontier else without_far_budgets(cells, base)
    if kind == "measured":
        short = [run for cell in rest for run in usable_runs(cell)[1]]
        if short:
            shown = ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
            too_few = f"fewer than {MIN_RECORDS} checkpoints{points[0].chosen} with a falling loss"
            notes.append(f"{loss}: {too_few}, left out: {shown}")
        cells, rest = ([usable_runs(cell)[0] for cell in of_all] for of_all in (cells, rest))
    far = () if curves.frontier else far_compute_runs(rest)

    def compared(kept: Sequence[ComputeCell]) -> list[FactorSpeedup]:
        counting = kept if kind == "measured" else _points_that_count(kept, curves)
        return speedups_of_factors(counting, base, loss=loss, unit=unit, kind=kind, curves=curves)

    kept = _without(rest, runs_set_aside(far))
    found = compared(kept)
    if far or checkpoints:
        in_doubt = [compared(_without(kept, runs)) for runs in runs_in_doubt(far)]
        found = without_far_compute(found, compared(cells), in_doubt, (*checkpoints, *far), cells=cells)
    return found, notes


def _points_that_count(cells: Sequence[ComputeCell], curves: CurveOptions) -> list[ComputeCell]:
    """Return the settings with the points that the options choose."""
    if curves.last:
        cells = [cell.last_points() for cell in cells]
    return [cell.frontier(TOLERANCE) for cell in cells] if curves.frontier else list(cells)


def _without(cells: Sequence[ComputeCell], runs: Set[str]) -> list[ComputeCell]:
    return [cell.without(runs) for cell in cells] if runs else list(cells)


def _points(curves: CurveOptions) -> str:
    """Return the points that are compared, in words."""
    of_run = "the last checkpoint of each run" if curves.last else EVERY_POINT
    return f"{of_run}; of these the least loss at each budget of a setting" if curves.frontier else of_run


def _kind(cells: Sequence[ComputeCell], curves: CurveOptions) -> CurveKind:
    if curves.curve != "auto":
        return curves.curve
    counts = [int(np.sum(cell.runs == run)) for cell in cells for run in cell.run_ids]
    has_checkpoints = bool(counts) and float(np.median(counts)) >= MIN_CHECKPOINTS
    return "measured" if has_checkpoints and not curves.fix and curves.share is None else "power law"
