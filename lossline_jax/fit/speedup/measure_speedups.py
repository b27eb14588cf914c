"""Measure the speedup of every level on one loss: settings are paired, displaced and judged."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lossline_jax.fit.compare.far_run import OTHER_UNIT
from lossline_jax.fit.speedup.cell import ComputeCell, Displacement
from lossline_jax.fit.speedup.curve_options import CurveOptions
from lossline_jax.fit.speedup.judge_compute import MeasuredLevel, judge_levels
from lossline_jax.fit.speedup.late_rises import notes_on_both
from lossline_jax.fit.speedup.measured_curves import MIN_RECORDS, measured_displacement
from lossline_jax.fit.speedup.noise_pool import Matched
from lossline_jax.fit.speedup.power_curves import GroupNote, note_on_groups, power_displacements
from lossline_jax.fit.speedup.speedups import CurveKind, FactorSpeedup, LevelSpeedup
from lossline_jax.fit.tables.columns import PER_BYTE
from lossline_jax.fit.tables.settings import Setting, Settings
from lossline_jax.formatting import counted


def speedups_of_factors(
    cells: Sequence[ComputeCell], base: Setting, *, loss: str, unit: str, kind: CurveKind, curves: CurveOptions
) -> list[FactorSpeedup]:
    """Return the speedups of all factors on one loss.

    Args:
        cells: every setting, with the points that count.
        base: the setting with the reference level of each factor.
        loss: evaluation set or column.
        unit: loss column of a long table; "": the loss is a column.
        kind: the kind of the curves.
        curves: the options of the curves, and the margin.
    """
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
    return found


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
    units = list(dict.fromkeys(note for a, b, item in matched if (note := _as_if_in_another_unit(a, b, item))))
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
        too_few = f"fewer than {MIN_RECORDS} checkpoints{matched[0][1].chosen} with a falling loss"
        short = f"{counted(num_short, 'run')} left out: {too_few}" if num_short else ""
        note = "; ".join(part for part in (*units, *rises, left_out, short, one if is_one else "") if part)
    return MeasuredLevel(factor, level, tuple(matched), note, is_half or bool(units))


def _as_if_in_another_unit(reference: ComputeCell, level: ComputeCell, item: Displacement) -> str:
    """Say that the compute of a level seems to have another unit than that of its reference. Empty: it does not.

    A speedup of a hundred alone is credible: a recipe may be that much better at one task. It is not where the budgets
    of the runs differ by a hundred in the same direction, the smallest and the largest alike.
    """
    ends = [(cell.log_compute.min(), cell.log_compute.max()) for cell in (reference, level)]
    shifts = np.array([ends[0][0] - ends[1][0], ends[0][1] - ends[1][1], item.values[-1]])
    smallest = np.log(OTHER_UNIT)
    if not (np.all(shifts > smallest) or np.all(shifts < -smallest)):
        return ""
    of_reference, of_level = ("{:.2g} to {:.2g}".format(*np.exp(low_and_high)) for low_and_high in ends)
    return (
        f"its compute, {of_level}, seems to have another unit than that of the reference, {of_reference}: check the "
        "unit of both"
    )


def _with_note_on_unit(item: FactorSpeedup) -> FactorSpeedup:
    """Withdraw verdicts on tokenizers where losses are not in bits/byte: tokens of two tokenizers are two units."""
    if item.factor != "tokenizer" or item.unit == PER_BYTE:
        return item
    reason = "losses per token of different tokenizers cannot be compared; losses in bits/byte can"
    levels: tuple[LevelSpeedup, ...] = tuple(replace(level, verdict="cannot tell") for level in item.levels)
    return replace(item, note="; ".join(part for part in (reason, item.note) if part), levels=levels)
