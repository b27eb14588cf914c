"""Fit a table with factor columns: a line a setting, which factors move it, and compute laws, in every unit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.compare.compare_lines import MARGIN_IN_NOISE, compare_lines
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.setting_line import Cell, unmatched
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.resampling import bootstrap, has_checkpoints, with_run_intervals
from lossline_jax.fit.study.isoflop import fit_isoflops
from lossline_jax.fit.study.panel_lines import comparing_unit, fit_figure_lines
from lossline_jax.fit.study.results import ComputeFit, StudyFits
from lossline_jax.fit.study.table_lines import LEVEL, Group, fit_groups, line_conventions
from lossline_jax.fit.tables.columns import (
    COUNT_EACH_TIME,
    PER_BYTE,
    RUN,
    UNITS,
    X,
    Y,
    name_checkpoints,
    names_of_runs,
    numeric_losses,
    paired_points,
    plain,
    require_loss_column,
    require_several_values,
    usable_losses,
)
from lossline_jax.fit.tables.copies import find_copies, one_of_each
from lossline_jax.fit.tables.other_unit import require_one_unit_of_repetitions
from lossline_jax.fit.tables.rows import open_rows, require_each_once
from lossline_jax.fit.tables.settings import (
    FACTORS,
    SETTING,
    Setting,
    differences,
    factor_columns,
    find_base,
    find_settings,
    require_one_setting_a_run,
    unnamed_factors,
)
from lossline_jax.losses.cells import as_numbers

BASE = "base"
COMPUTE_CONVENTIONS = {
    "N": "total parameters, embeddings included",
    "D": "tokens seen",
    "compute points": "every checkpoint; only the last of a run has a fully decayed learning rate",
}
COMPARE_CONVENTIONS = {
    "gap": "mean over runs of y - reference line(x), over the range of x that both lines have; mean over all pairs of "
    "settings that are equal in every other factor",
    "noise": "standard deviation of a run's mean distance from the line of its setting, over repeated settings; "
    "without repetitions the scatter of checkpoints about the line",
    "test": "runs are the units: F test of no gaps, Holm-corrected over factors; permutation of whole runs between "
    "levels for one line against a line a level",
}


def fit_study(
    frame: pd.DataFrame,
    x: str,
    y: str,
    base: Mapping[str, Any] | None = None,
    *,
    factors: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    margin_in_noise: float = MARGIN_IN_NOISE,
    num_resamples: int = 200,
    seed: int = 0,
    merge_copies: bool = False,
) -> StudyFits:
    """Fit a line to every setting (runs equal in all factors; seeds are pooled), and compare those that match.

    A run that no other matches in all factors but one is named in `failures`, not compared.

    Args:
        frame: rows of `table.LossRow`, or any table: a long one (run_id, step, eval_set and losses a unit), or a wide
            one where x and y are columns and `run_id`, where it is there, names the run of a row.
        x, y: evaluation sets (or columns) on the axes.
        base: level of each factor of the base (the seed is ignored), that others are compared with; factors that are
            left out, or all: those of the setting with most neighbours that differ in one factor.
        factors: columns that tell settings apart; None: those of `table.FACTOR_COLUMNS` that the table has.
        units: loss columns of a long table, a set of lines each; None: nats/token and bits/byte, each where it has
            any.
        margin_in_noise: a gap that is surely smaller than so many times the noise does not move the line.
        merge_copies: count a run of one setting that stands under two names once.

    Raises:
        LosslineError: a column, set or base that is not there, a bad loss in every line, or two names of one run.
    """
    frame = open_rows(frame)
    if units and {x, y} <= set(frame.columns):
        raise ArgumentError(
            "{units}: {x} and {y} are columns of this table, in the unit that they have; leave {units} out"
        )
    factors = factor_columns(frame, factors)
    require_each_once("unit", units or ())
    units = _units(frame, x, y, units)
    frame, settings, failures = find_settings(frame, factors)
    if not settings:
        raise LosslineError(failures[0] if failures else "the table has no rows")
    require_one_setting_a_run(frame, settings)
    if names := unnamed_factors(frame, factors, (x, y)):
        failures.insert(0, f"runs that count as repetitions differ in {', '.join(names)}: are these factors too?")
    base_setting = find_base(settings, factors, base)
    frame, merged = _without_copies(frame, x, y, factors, units[0], merge_copies)
    failures += merged
    lines, comparisons = [], []
    for unit in units:
        points = paired_points(frame, x, y, (), unit=unit)
        _require_one_unit(points, x, y)
        groups, said = _groups(points, settings, base_setting, f"no checkpoint has both {x!r} and {y!r}")
        fitted, unfitted = fit_groups([group for group, _ in groups], x, y, unit, num_resamples, seed)
        setting_of = {id(group): setting for group, setting in groups}
        matched = [(item, setting_of[id(item.group)]) for item in fitted]
        cells = [item.cell(setting.levels, setting.num_params) for item, setting in matched]
        said += [
            f"{item.line.label}: no losses in this unit" for item, c in zip(fitted, cells, strict=True) if not c.x.size
        ]
        cells = [cell for cell in cells if cell.x.size]
        present = [cell.levels for cell in cells]
        absent = [setting.levels for setting in settings if setting.levels not in present]
        lines += [item.line for item in fitted]
        if repeated := sum(item.num_repeated for item in fitted):
            said.append(f"{repeated} of {len(points)} checkpoints {COUNT_EACH_TIME}")
        if contradicting := _num_contradicting(points):
            said.append(f"{contradicting} of {len(points)} checkpoints (run and step) occur again with other losses")
        if dropped := sum(item.line.fit.num_dropped for item in fitted):
            said.append(f"{dropped} of {len(points)} checkpoints lack a loss: left out")
        comparisons += compare_lines(
            cells, base_setting.levels, absent=absent, unit=unit, seed=seed, margin_in_noise=margin_in_noise
        )
        said += unfitted + [_said_unmatched(cell, base_setting) for cell in unmatched(cells, base_setting.levels)]
        failures += [f"{failure} ({UNITS.get(unit, 'unit of the table')})" for failure in said]
    if not lines:
        raise LosslineError(failures[0])
    frame = usable_losses(frame, units)
    isoflops, left_out = fit_isoflops(frame, x, comparing_unit(frame, units))
    failures += left_out
    return StudyFits(
        x=x,
        y=y,
        by=factors,
        units=units,
        base_label=BASE,
        lines=tuple(lines),
        comparisons=tuple(_with_unit_note(item, units) for item in comparisons),
        compute_fits=tuple(_compute_fits(frame, (x, y), units, failures)),
        figure_lines=fit_figure_lines(frame, x, y, units, base_setting.levels, num_resamples=num_resamples, seed=seed),
        isoflops=isoflops,
        failures=tuple(failures),
        conventions=line_conventions(x, y) | COMPARE_CONVENTIONS | COMPUTE_CONVENTIONS,
    )


def _without_copies(
    frame: pd.DataFrame, x: str, y: str, factors: Sequence[str], unit: str, merge: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The table with each run once, and a line for each copy: of those left out, and of those between settings."""
    if "run_id" not in frame:
        return frame, []
    points = paired_points(frame, x, y, factors, unit=unit)
    points = points[points[SETTING] >= 0]
    repeated = find_copies(points, RUN, (X, Y), (SETTING,))
    kept, said = one_of_each(frame, "run_id", repeated, merge)
    known = {(copy.kept, copy.copy) for copy in repeated}
    everywhere = [copy for copy in find_copies(points, RUN, (X, Y)) if copy.is_certain]
    between = [copy for copy in everywhere if (copy.kept, copy.copy) not in known]
    return kept, said + [f"{copy}, in two settings: is one of them named wrongly?" for copy in between]


def _num_contradicting(points: pd.DataFrame) -> int:
    """Points whose run has another one of the same step, with other losses: as a log has that was written on."""
    if "step" not in points.columns:
        return 0
    known = points[points[[RUN, "step", X, Y]].notna().all(axis=1)]
    return int(known.duplicated([RUN, "step"]).sum() - known.duplicated([RUN, "step", X, Y]).sum())


def _units(frame: pd.DataFrame, x: str, y: str, units: Sequence[str] | None) -> tuple[str, ...]:
    if {x, y} <= set(frame.columns):
        return ("",)
    for unit in units or ():
        require_loss_column(unit, "units")
    known = [unit for unit in UNITS if unit in frame.columns]
    axes = [frame[frame["eval_set"] == name] for name in (x, y)] if "eval_set" in frame else [frame]
    filled = tuple(unit for unit in known if all(rows[unit].notna().any() for rows in axes))
    return tuple(units or filled or known or UNITS)  # a table without losses is told which column it lacks


def _require_one_unit(points: pd.DataFrame, x: str, y: str) -> None:
    """Raises LosslineError for a run in another unit than its repetitions, and where all points have one x."""
    for setting, rows in points.groupby(SETTING):
        if setting >= 0 and rows[RUN].notna().all():
            losses = {name: as_numbers(rows[column])[0] for name, column in ((x, X), (y, Y))}
            require_one_unit_of_repetitions(losses, names_of_runs(rows, RUN))
    require_several_values(*(as_numbers(points[column])[0] for column in (X, Y)), x)


def _groups(
    points: pd.DataFrame, settings: Sequence[Setting], base: Setting, why_empty: str
) -> tuple[list[tuple[Group, Setting]], list[str]]:
    """The points of each setting, the base first, and a line for each setting without any."""
    groups, absent, labels = [], [], set()
    for k, setting in sorted(enumerate(settings), key=lambda item: len(item[1].differing(base))):
        differing = setting.differing(base)
        label = ", ".join(f"{name}={setting.levels[name]}" for name in differing) or BASE
        if label in labels:  # another whose size counts as equal too
            differing = differences(setting.levels, base.levels)
            label = ", ".join(f"{name}={setting.levels[name]}" for name in differing)
        labels.add(label)
        rows = points[points[SETTING] == k]
        if rows.empty:
            absent.append(f"{label}: {why_empty}")
            continue
        level = ", ".join(setting.levels[name] for name in differing)
        groups.append((Group(label, "+".join(differing), level, dict(setting.levels), rows), setting))
    return groups, absent


def _said_unmatched(cell: Cell, base: Setting) -> str:
    """Why runs are in no comparison."""
    names = Setting(dict(cell.levels), cell.num_params).differing(base)
    who = f"runs {', '.join(cell.run_ids)}" if cell.run_ids else f"{cell.x.size} rows"
    if not names:
        return f"{who}: no other setting differs from the base in one factor alone: nothing to compare with"
    return f"{who}: differ from the base in {' and '.join(names)}, and no other run is equal in all of them but one"


def _with_unit_note(comparison: FactorComparison, units: tuple[str, ...]) -> FactorComparison:
    """Losses per token of different tokenizers are in different units: said where bits/byte do not stand beside."""
    if comparison.factor != "tokenizer" or PER_BYTE in units:
        return comparison
    said = "the table has no bits/byte beside it, and a token of one tokenizer is not a token of another"
    levels = tuple(replace(level, verdict="cannot tell") for level in comparison.levels)
    note = "; ".join(part for part in (said, comparison.note) if part)
    return replace(comparison, verdict="cannot tell", note=note, levels=levels)


def _compute_fits(
    frame: pd.DataFrame, eval_sets: Sequence[str], units: Sequence[str], failures: list[str]
) -> list[ComputeFit]:
    """A compute law for every set of runs that differ in size and seed alone, where there are two sizes."""
    fits = []
    if not {*FACTORS, "params_total", "tokens_seen", "run_id", "eval_set"} <= set(frame.columns):
        return fits
    columns = [name for name in FACTORS if name != "size"]
    known = frame[frame["eval_set"].isin(eval_sets) & frame["tokens_seen"].notna()]
    for key, rows in known.groupby(columns, sort=True, dropna=False):
        if rows["params_total"].nunique() < 2:
            continue
        group = {name: plain(value) for name, value in zip(columns, key, strict=True)}
        label = ", ".join(str(value) for value in group.values())
        for eval_set in eval_sets:
            chosen = name_checkpoints(rows[rows["eval_set"] == eval_set])
            for unit in units:
                try:
                    losses = numeric_losses(chosen, unit, eval_set)
                except LosslineError as error:
                    failures.append(f"compute law of {label} ({unit}): {error}")
                    continue
                fit = fit_compute_law(
                    chosen["params_total"],
                    chosen["tokens_seen"],
                    losses,
                    clusters=chosen["run_id"],
                    unit=UNITS.get(unit, unit),
                )
                if fit.has_curve and has_checkpoints(fit):
                    inputs = {"N": chosen["params_total"], "D": chosen["tokens_seen"]}
                    fit = with_run_intervals(fit, bootstrap(fit, inputs, losses, clusters=chosen["run_id"]), LEVEL)
                fits.append(ComputeFit(label, group, eval_set, unit, fit))
    return fits
