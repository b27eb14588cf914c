"""Compare settings by the compute that they need for the same loss. Read `compare_compute` first.

read_compute -> ComputeTable.cells -> measured_displacement or power_displacements -> judge_levels
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.fit.speedup.cell import ComputeCell, Displacement
from lossline_jax.fit.speedup.judge_compute import MeasuredLevel, judge_levels
from lossline_jax.fit.speedup.late_rises import notes_on_both
from lossline_jax.fit.speedup.measured_curves import MIN_RECORDS, measured_displacement, usable_runs
from lossline_jax.fit.speedup.noise_pool import Matched
from lossline_jax.fit.speedup.power_curves import GroupNote, note_on_groups, power_displacements
from lossline_jax.fit.speedup.power_problem import NAMES
from lossline_jax.fit.speedup.read_compute import (
    ComputeColumns,
    ComputeTable,
    loss_unit,
    read_compute,
    require_compute_of_checkpoints,
)
from lossline_jax.fit.speedup.speedups import ComputeComparison, CurveKind, FactorSpeedup, LevelSpeedup
from lossline_jax.fit.tables.columns import PER_BYTE, require_loss_column
from lossline_jax.fit.tables.pairing import TOLERANCE
from lossline_jax.fit.tables.rows import as_names, as_pandas, require_each_once
from lossline_jax.fit.tables.settings import Setting, Settings
from lossline_jax.formatting import counted

MARGIN = 1.1  # a ratio: a speedup within 1/1.1 and 1.1 is no difference. A convention
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


@dataclass(frozen=True)
class CurveOptions:
    """The curves of loss against compute, and the margin.

    Args:
        curve: "measured": the curve of each run through its checkpoints. "power law": L = E + A / C^alpha with an A for
            each level. "auto": measured where half of the runs have four checkpoints or more, and neither `fix` nor
            `share` is given; else the power law.
        fix: given values of E and alpha of the power law, by name.
        share: which of E and alpha have one value for all levels. None: both, unless the exponents differ (5%).
        last: True: use only the last checkpoint of each run.
        frontier: True: use only the point of least loss at each budget of a setting.
        margin: a ratio above 1: a speedup whose interval lies within 1/margin and margin is no difference.
    """

    curve: Literal["auto", "measured", "power law"] = "auto"
    fix: Mapping[str, float] = field(default_factory=dict)
    share: tuple[str, ...] | None = None
    last: bool = False
    frontier: bool = False
    margin: float = MARGIN


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
      measured curves where half of the runs of one side end clearly above an earlier loss (see `late_rises`).

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
    _require_options(curves)
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
    if curves.last:
        cells = [cell.last_points() for cell in cells]
    if curves.frontier:
        cells = [cell.frontier(TOLERANCE) for cell in cells]
    kind, notes = _kind(cells, curves), []
    if kind == "measured":
        usable = [usable_runs(cell) for cell in cells]
        short = [run for _, runs in usable for run in runs]
        if short:
            shown = ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
            notes.append(f"{loss}: fewer than {MIN_RECORDS} checkpoints with a falling loss, left out: {shown}")
        cells = [cell for cell, _ in usable]
    settings = Settings(tuple(cell.setting for cell in cells))
    measured: list[MeasuredLevel] = []
    note_of_factor: dict[str, str] = {}
    for factor in base.levels:
        levels = [level for level in settings.levels_of(factor) if level != base.levels[factor]] if cells else []
        items, note = _measure(cells, settings, factor, base.levels[factor], levels=levels, kind=kind, curves=curves)
        measured += items
        if items:
            note_of_factor[factor] = note
    judged = judge_levels(measured, curves.margin)
    found = []
    for factor, note in note_of_factor.items():
        levels_of_factor = tuple(level for item, level in zip(measured, judged, strict=True) if item.factor == factor)
        speedup = FactorSpeedup(factor, base.levels[factor], loss, unit, note, kind, curves.margin, levels_of_factor)
        found.append(_with_note_on_unit(speedup))
    return found, notes


def _measure(
    cells: Sequence[ComputeCell],
    settings: Settings,
    factor: str,
    reference: str,
    *,
    levels: Sequence[str],
    kind: CurveKind,
    curves: CurveOptions,
) -> tuple[list[MeasuredLevel], str]:
    """Return the pairs of each level of a factor, and a note on their curves."""
    pairs = {level: settings.pairs(factor, level, reference) for level in levels}
    displacements: dict[tuple[int, int], Displacement | str] = {}
    notes: list[GroupNote] = []
    if kind == "measured":
        for of_level in pairs.values():
            for k, n in of_level:
                displacements[k, n] = measured_displacement(cells[k], cells[n])
    else:
        for k in dict.fromkeys(k for of_level in pairs.values() for k, _ in of_level):
            group = [n for of_level in pairs.values() for first, n in of_level if first == k]
            found, note = power_displacements(cells[k], [cells[n] for n in group], curves.fix, curves.share)
            displacements |= {(k, n): item for n, item in zip(group, found, strict=True)}
            notes.append(note)
    items = [
        _measured_level(factor, level, reference, [(cells[k], cells[n], displacements[k, n]) for k, n in of_level])
        for level, of_level in pairs.items()
    ]
    return items, note_on_groups(notes)


def _measured_level(
    factor: str,
    level: str,
    reference: str,
    found: Sequence[tuple[ComputeCell, ComputeCell, Displacement | str]],
) -> MeasuredLevel:
    matched: list[Matched] = [(a, b, item) for a, b, item in found if not isinstance(item, str)]
    reasons = list(dict.fromkeys(item for *_, item in found if isinstance(item, str)))
    rises, is_half = notes_on_both([(a, b) for a, b, _ in matched], reference)
    if not found:
        note = f"no two settings differ in {factor} alone ({reference} and {level})"
    elif not matched:
        note = "; ".join(reasons)
    else:
        left_out = f"{len(found) - len(matched)} of {len(found)} pairs left out: {reasons[0]}" if reasons else ""
        one = "one run of this level: its noise is that of the repeated settings"
        is_one = all(item.num_runs == 1 and item.variance is None for *_, item in matched)
        is_one = is_one and any(item.reference_freedom for *_, item in matched)
        num_short = sum(cell.num_left_out for a, b, _ in matched for cell in (a, b))
        short = f"{counted(num_short, 'run')} left out, whose loss hardly falls" if num_short else ""
        note = "; ".join(part for part in (*rises, left_out, short, one if is_one else "") if part)
    return MeasuredLevel(factor, level, tuple(matched), note, is_half)


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


def _with_note_on_unit(item: FactorSpeedup) -> FactorSpeedup:
    """Withdraw verdicts on tokenizers where losses are not in bits/byte: tokens of two tokenizers are two units."""
    if item.factor != "tokenizer" or item.unit == PER_BYTE:
        return item
    reason = "losses per token of different tokenizers cannot be compared; losses in bits/byte can"
    levels: tuple[LevelSpeedup, ...] = tuple(replace(level, verdict="cannot tell") for level in item.levels)
    return replace(item, note="; ".join(part for part in (reason, item.note) if part), levels=levels)


def _require_options(curves: CurveOptions) -> None:
    """Raise LosslineError for options that mean nothing or do not belong together."""
    if not (curves.margin > 1 and math.isfinite(curves.margin)):
        raise ArgumentError("{margin}: {value:g} is not a ratio above 1, such as 1.1", value=curves.margin)
    for argument, names in (("fix", curves.fix), ("share", curves.share or ())):
        for name in names:
            if name not in NAMES:
                hint = suggestion(name, NAMES)
                raise ArgumentError(
                    f"{{{argument}}}: {{name!r}} is not a parameter of L = E + A / C^alpha that levels share{{hint}}; "
                    "these are E and alpha",
                    name=name,
                    hint=hint,
                )
    for name, value in curves.fix.items():
        if not math.isfinite(value) or value < 0 or (name == "alpha" and value == 0):
            raise ArgumentError("{fix}: {name}={value:g} is not a positive number", name=name, value=value)
        if name in (curves.share or ()):
            raise ArgumentError("{share}: {name} has a given value, which all levels share; leave it out", name=name)
    if curves.curve == "measured" and (curves.fix or curves.share is not None):
        raise ArgumentError("{fix}, {share}: belong to the power law, and {curve} is measured; leave {curve} out")
    if curves.curve == "measured" and curves.last:
        raise ArgumentError("{last}: leaves one point of each run, which is no measured curve; leave {curve} out")
    if curves.curve not in ("auto", "measured", "power law"):
        raise LosslineError(f"curve {curves.curve!r} is unknown; it is auto, measured or power law")
