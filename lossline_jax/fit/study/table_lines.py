"""Fit a line to every group of any table of losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.resampling import Bootstrap, bootstrap, derive_seed, has_checkpoints, with_run_intervals
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.study.irreducible import IrreducibleModes
from lossline_jax.fit.study.results import LineFit, StudyFits
from lossline_jax.fit.tables.columns import (
    COUNT_EACH_TIME,
    RUN,
    UNITS,
    X,
    Y,
    group_label,
    loss_column,
    names_of_runs,
    numeric_losses,
    paired_points,
    plain,
    require_several_values,
    run_column,
)
from lossline_jax.fit.tables.copies import one_run_each
from lossline_jax.fit.tables.other_unit import require_one_unit, require_one_unit_of_repetitions
from lossline_jax.fit.tables.pairing import pair_runs
from lossline_jax.fit.tables.rows import WHERE, as_names, as_pandas, open_rows, require_column, require_default_column
from lossline_jax.fit.tables.settings import Setting
from lossline_jax.fit.tables.wide import wide_table
from lossline_jax.losses.cells import as_numbers

BAND_POINTS = 60


@dataclass(frozen=True)
class Across:
    """Pair the models of different levels of `column` that are equal in every column of `on`."""

    column: str
    on: tuple[str, ...]


@dataclass(frozen=True)
class LinePoints:
    """Points of one line, with what makes it one."""

    label: str
    factor: str
    level: str
    values: dict[str, str | int | float]
    points: pd.DataFrame


@dataclass(frozen=True, eq=False)
class FittedGroup:
    """A group with its line."""

    group: LinePoints
    line: LineFit
    x: np.ndarray  # (n,) losses as fitted, NaN where one is missing
    y: np.ndarray
    runs: np.ndarray | None
    resamples: Bootstrap | None  # None: no curve

    @property
    def num_repeated(self) -> int:
        """Points that a run has already; they count each time."""
        return _num_repeated(self.x, self.y, self.runs)

    def cell(self, setting: Setting) -> SettingLine:
        """Return the same as the line of a setting, which can be compared."""
        keep = np.isfinite(self.x) & np.isfinite(self.y)
        runs = None if self.runs is None else self.runs[keep]
        return SettingLine(setting, self.x[keep], self.y[keep], runs, self.line.fit, self.resamples)


def fit_lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = (),
    *,
    unit: str | None = None,
    cluster: str | None = None,
    across: Across | None = None,
    irreducible: IrreducibleModes | None = None,
    num_resamples: int = 200,
    seed: int = 0,
    merge_copies: bool = False,
) -> StudyFits:
    """Fit a shifted power law to each group of a table. A group that cannot be fitted is reported, not fatal.

    Args:
        frame: a wide table (x and y are columns) or lossline's own long table (x and y are evaluation sets).
        by: columns whose values make a group; none: one line for the whole table.
        unit: loss column of a long table; None: nats_per_token. A wide table has the unit it has, and takes none.
        cluster: column naming the run of each point; by default `run_id` where there is one.
        across: pair models of different levels of a column: x is the loss of the one, y that of the other (and the
            two may be the same loss); a line for each ordered pair of levels.
        irreducible: where E_x and E_y come from; None: both free.
        merge_copies: count a run of one group that stands under two names once.

    Raises:
        LosslineError: unknown columns or sets, two names of one run, or bad values in every group.
    """
    by = as_names(by)
    frame = as_pandas(frame)
    for argument in ("params", "tokens"):
        if (column := getattr(irreducible, argument, None)) is not None:
            require_default_column(frame, column, argument)
    unit = loss_column(frame, (x, y), unit)
    own_unit = "" if {x, y} <= set(frame.columns) else unit
    merged: list[str] = []
    if across is not None:
        groups = across_groups(frame, x, y, by, across, unit, cluster)
    else:
        points = paired_points(open_rows(frame, cluster), x, y, by, unit=unit, cluster=cluster)
        points, merged = one_run_each(points, RUN, (X, Y), by, merge=merge_copies)
        groups = _groups(points, by)
    for group in groups:
        _require_one_unit(group.points, x, y)
    fitted, failures = fit_groups(groups, x, y, own_unit, num_resamples, seed, irreducible)
    if not fitted or (across is None and not any(item.line.fit.has_curve for item in fitted)):
        raise LosslineError(failures[0] if failures else f"{across.column} has one level only: nothing to pair")
    return StudyFits(
        x=x,
        y=y,
        by=by,
        units=(own_unit,),
        base_label=None,
        lines=tuple(item.line for item in fitted),
        failures=(*merged, *failures),
        conventions=line_conventions(x, y),
    )


def across_groups(
    frame: pd.DataFrame, x: str, y: str, by: Sequence[str], across: Across, unit: str, cluster: str | None = None
) -> list[LinePoints]:
    """One group for each ordered pair of levels, its points paired; the run of a point is that of the second model."""
    wide = wide_table(frame, list(dict.fromkeys((x, y))), unit, by=by, run=cluster)
    runs = run_column(wide, cluster)
    for name in (*by, across.column, *across.on, *([runs] if runs else [])):
        require_column(wide, name)
    groups = []
    for key, rows in wide.groupby(list(by), sort=True, dropna=False) if by else [((), wide)]:
        values = {name: plain(value) for name, value in zip(by, key, strict=True)}
        levels = list(rows.groupby(across.column, sort=True))
        for first, x_rows in levels:
            for second, y_rows in levels:
                if first == second:
                    continue
                pairs = pair_runs(x_rows, y_rows, across.on)
                run = pairs.second[runs].astype(str) if runs else None
                points = pairs.second.assign(**{X: pairs.first[x], Y: pairs.second[y], RUN: run})
                points[WHERE] = [f"{a} with {b}" for a, b in zip(pairs.first[WHERE], pairs.second[WHERE], strict=True)]
                group_values = values | {across.column: f"{first} -> {second}"}
                groups.append(
                    LinePoints(group_label(group_values), across.column, f"{first} -> {second}", group_values, points)
                )
    return groups


def _require_one_unit(points: pd.DataFrame, x: str, y: str) -> None:
    """Raises LosslineError for a run of the group whose losses are in another unit than those of the other runs."""
    x_loss, y_loss = (as_numbers(points[column])[0] for column in (X, Y))
    told_apart = points[RUN].notna().all()
    runs = names_of_runs(points, RUN if told_apart else None)
    if told_apart:
        require_one_unit_of_repetitions({x: x_loss, y: y_loss}, runs)
    require_one_unit(y_loss, [x_loss], runs, y)


def line_conventions(x: str, y: str) -> dict[str, str]:
    """What every line of a table has in common, for the report."""
    return {
        "line": "y = K (x - E_x)^kappa + E_y, least squares on y",
        "x": x,
        "y": y,
        "intervals": "bands and gaps: 90% bootstrap of whole runs; parameters: the same where a run has several "
        "points, none of one run alone, else 90% profile likelihood",
        "gap": "mean of y - base(x) over the points on the common support of x",
    }


def _groups(points: pd.DataFrame, by: tuple[str, ...]) -> list[LinePoints]:
    if not by:
        return [LinePoints("all", "", "", {}, points)]
    groups = []
    for key, rows in points.groupby(list(by), sort=True, dropna=False):
        values = {name: plain(value) for name, value in zip(by, key, strict=True)}
        level = ", ".join(str(value) for value in values.values())
        groups.append(LinePoints(group_label(values), "+".join(by), level, values, rows))
    return groups


def fit_groups(
    groups: Sequence[LinePoints],
    x: str,
    y: str,
    unit: str,
    num_resamples: int,
    seed: int,
    irreducible: IrreducibleModes | None = None,
) -> tuple[list[FittedGroup], list[str]]:
    """Lines of all groups that have usable losses, and a line for each failure, in the order of `groups`."""
    fitted, failures = [], []
    for group in groups:
        try:
            columns = numeric_losses(group.points, X, x), numeric_losses(group.points, Y, y)
            require_several_values(*columns, x)
            modes = irreducible.of_points(group.points, *columns) if irreducible else {}
        except LosslineError as error:
            failures.append(f"{group.label}: {error}")
            continue
        fitted.append(_fit_group(group, *columns, unit, num_resamples, seed, modes))
        fit = fitted[-1].line.fit
        if not fit.has_curve:
            failures.append(f"{group.label}: {fit.status}: {fit.note}")
    return fitted, failures


def _fit_group(group: LinePoints, x, y, unit: str, num_resamples: int, seed: int, modes: dict) -> FittedGroup:
    runs = _clusters(group.points)
    fit = fit_line(x, y, runs, unit=UNITS.get(unit, "the table's own"), **modes)
    fit = _with_table_notes(fit, x, y, runs)
    band, note, resamples = None, "", None
    if fit.has_curve:
        resamples = bootstrap(
            fit, {"x": x}, y, clusters=runs, num_resamples=num_resamples, seed=derive_seed(seed, group.label)
        )
        band, note = resamples.band(np.linspace(*fit.domain["x"], BAND_POINTS)), resamples.note
        fit = with_run_intervals(fit, resamples, INTERVAL_LEVEL) if has_checkpoints(fit) else fit
    run_ids = () if runs is None else tuple(sorted(set(runs.tolist())))
    line = LineFit(group.label, group.factor, group.level, group.values, unit, fit, band, run_ids, note)
    return FittedGroup(group, line, x, y, runs, resamples)


def _with_table_notes(fit: FitResult, x: np.ndarray, y: np.ndarray, clusters: np.ndarray | None) -> FitResult:
    if num_repeated := _num_repeated(x, y, clusters):
        fit = fit.with_note(f"{num_repeated} points {COUNT_EACH_TIME}")
    if fit.num_dropped:
        why = "dropped: a loss is missing, or at or below a given E" if fit.fixed else "with a missing loss dropped"
        fit = fit.with_note(f"{fit.num_dropped} points {why}")
    return fit


def _num_repeated(x: np.ndarray, y: np.ndarray, runs: np.ndarray | None) -> int:
    seen = pd.DataFrame({"x": x, "y": y, "run": runs}).dropna(subset=["x", "y"])
    return int(seen.duplicated().sum())


def _clusters(points: pd.DataFrame) -> np.ndarray | None:
    return None if points[RUN].isna().all() else points[RUN].to_numpy()
