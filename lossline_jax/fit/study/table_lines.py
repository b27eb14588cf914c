"""Fit a line to every group of any table of losses. Read `fit_lines` first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.arguments import require_count, require_seed
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import LineData, fit_each_line
from lossline_jax.fit.option_types import require_field_types, require_options
from lossline_jax.fit.resampling import (
    Bootstrap,
    FitToResample,
    bootstrap_each,
    derive_seed,
    has_checkpoints,
    with_run_intervals,
)
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
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.other_unit import require_one_unit, require_one_unit_of_repetitions
from lossline_jax.fit.tables.pairing import pair_runs
from lossline_jax.fit.tables.rows import WHERE, as_names, as_pandas, open_rows, require_column
from lossline_jax.fit.tables.settings import Setting
from lossline_jax.fit.tables.wide import wide_table
from lossline_jax.losses.cells import as_numbers

BAND_POINTS = 60  # points of a band, by convention


@dataclass(frozen=True)
class Across:
    """A pairing of models: of different levels of `column`, and equal in every column of `on`."""

    column: str
    on: tuple[str, ...]

    def __post_init__(self) -> None:
        require_field_types(self)


@dataclass(frozen=True)
class LineOptions:
    """The choices of a fit of lines to a table.

    Args:
        irreducible: the source of E_x and E_y. None: both are free.
        noise_x: as for `fit_line`.
        num_resamples: resamples of each bootstrap.
        seed: seed of the bootstraps.
        merge_copies: True: count a run of one group that has two names once.

    Raises:
        ArgumentError: a field has a value of a wrong type or out of its range.
    """

    irreducible: IrreducibleModes | None = None
    noise_x: float | None = None
    num_resamples: int = 200
    seed: int = 0
    merge_copies: bool = False

    def __post_init__(self) -> None:
        require_field_types(self)
        require_count("num_resamples", self.num_resamples)
        require_seed(self.seed)


DEFAULT_LINE_OPTIONS = LineOptions()


@dataclass(frozen=True)
class LinePoints:
    """The points of one line, with the names and values of their group."""

    label: str  # "all": the whole table is one group
    factor: str  # columns that distinguish the group; "": the whole table, or the base
    level: str
    values: dict[str, str | int | float]  # values of the columns that define the group
    points: pd.DataFrame


@dataclass(frozen=True, eq=False)
class FittedGroup:
    """A group with its fitted line."""

    group: LinePoints
    line: LineFit
    x: np.ndarray  # (n,) losses on the horizontal axis, NaN where one is missing
    y: np.ndarray  # (n,) losses on the vertical axis, NaN where one is missing
    runs: np.ndarray | None  # (n,) the run of each point; None: the table does not tell runs apart
    resamples: Bootstrap | None  # None: the fit has no curve

    @property
    def num_repeated(self) -> int:
        """The number of points that repeat another point of the same run. They count each time."""
        return _num_repeated(self.x, self.y, self.runs)

    def cell(self, setting: Setting) -> SettingLine:
        """Return the group as the line of a setting, which can be compared with other lines.

        Args:
            setting: the setting of the group.
        """
        keep = np.isfinite(self.x) & np.isfinite(self.y)
        runs = None if self.runs is None else self.runs[keep]
        steps = _steps(self.group.points)
        steps = None if steps is None else steps[keep]
        return SettingLine(setting, self.x[keep], self.y[keep], runs, self.line.fit, self.resamples, steps)


def fit_lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = (),
    *,
    unit: str | None = None,
    cluster: str | None = None,
    across: Across | None = None,
    options: LineOptions = DEFAULT_LINE_OPTIONS,
) -> StudyFits:
    """Fit a shifted power law to each group of a table. A group that cannot be fitted is reported and stops nothing.

    Args:
        frame: a wide table (x and y are columns), or a long table that lossline wrote (x and y are evaluation sets).
        x: the losses on the horizontal axis.
        y: the losses on the vertical axis.
        by: columns whose values divide the rows into groups. Empty: the whole table has one line.
        unit: loss column of a long table. None: nats_per_token. It must be None for a wide table, which has a unit.
        cluster: column of the run of each point. None: `run_id`, if the table has it.
        across: the pairing of models of different levels of a column. x is then the loss of the first model and y that
            of the second, and both may be the same loss. Each ordered pair of levels has a line. None: x and y are
            losses of the same model.
        options: the source of E_x and E_y, the noise in x, the bootstraps, and what to do with copies of a run.

    Raises:
        LosslineError: unknown columns or sets, one run has two names, or every group has bad values.
    """
    require_options("options", options, LineOptions)
    by = as_names(by)
    frame = as_pandas(frame)
    for argument in ("params", "tokens"):
        if (column := getattr(options.irreducible, argument, None)) is not None:
            require_column(frame, column, argument)
    unit = loss_column(frame, (x, y), unit)
    own_unit = "" if {x, y} <= set(frame.columns) else unit
    merged: list[str] = []
    if across is not None:
        groups = _across_groups(frame, x, y, by, across=across, unit=unit, cluster=cluster)
    else:
        points = paired_points(open_rows(frame, cluster), x, y, by, unit=unit, cluster=cluster)
        points, merged = one_run_each(points, RUN, (X, Y), by, merge=options.merge_copies)
        groups = _groups(points, by)
    for group in groups:
        _require_one_unit(group.points, x, y)
    fitted, failures = fit_groups(groups, x, y, own_unit, options=options)
    _require_a_line(fitted, list(failures.values()), across)
    return StudyFits(
        x=x,
        y=y,
        by=by,
        units=(own_unit,),
        base_label=None,
        lines=tuple(item.line for item in fitted),
        failures=(*merged, *failures.values()),
        conventions=line_conventions(x, y),
    )


def _require_a_line(fitted: Sequence[FittedGroup], failures: Sequence[str], across: Across | None) -> None:
    """Raise LosslineError where no group can be fitted. Pairs of models are shown without a curve too."""
    if not fitted and not failures and across is not None:
        raise LosslineError(f"{across.column} has one level only: nothing to pair; name a column with several levels")
    if not fitted or (across is None and not any(item.line.fit.has_curve for item in fitted)):
        raise LosslineError(failures[0].removeprefix("all: "))  # the whole table is one group: no name is needed


def _across_groups(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str],
    *,
    across: Across,
    unit: str,
    cluster: str | None = None,
) -> list[LinePoints]:
    """Return one group for each ordered pair of levels, with paired points. Their run is that of the second model."""
    wide = wide_table(frame, list(dict.fromkeys((x, y))), unit, by=by, run=cluster, arguments={y: "y", x: "x"})
    runs = run_column(wide, cluster)
    require_column(wide, across.column, "across")
    for name in as_names(across.on):
        require_column(wide, name, "on")
    for name in (*by, *([runs] if runs else [])):
        require_column(wide, name)
    return [
        _across_group(values, across, level_pair, axes=(x, y), runs=runs)
        for values, rows in row_groups(wide, by)
        for level_pair in _level_pairs(rows, across.column)
    ]


_LevelRows = tuple[Any, pd.DataFrame]  # a level of a column, and its rows


def _level_pairs(rows: pd.DataFrame, column: str) -> Iterator[tuple[_LevelRows, _LevelRows]]:
    """Yield each ordered pair of two different levels of a column."""
    levels = list(rows.groupby(column, sort=True))
    for first in levels:
        for second in levels:
            if first[0] != second[0]:
                yield first, second


def _across_group(
    values: dict[str, Any],
    across: Across,
    levels: tuple[_LevelRows, _LevelRows],
    *,
    axes: tuple[str, str],
    runs: str | None,
) -> LinePoints:
    """Pair the models of two levels. `runs` is the column of runs, if there is one."""
    (first, x_rows), (second, y_rows) = levels
    x, y = axes
    pairs = pair_runs(x_rows, y_rows, as_names(across.on))
    run = pairs.second.loc[:, runs].astype(str) if runs else None
    points = pairs.second.assign(**{X: pairs.first[x], Y: pairs.second[y], RUN: run})
    points[WHERE] = [f"{a} with {b}" for a, b in zip(pairs.first[WHERE], pairs.second[WHERE], strict=True)]
    level = f"{first} -> {second}"
    group_values = {name: plain(value) for name, value in values.items()} | {across.column: level}
    return LinePoints(group_label(group_values), across.column, level, group_values, points)


def _require_one_unit(points: pd.DataFrame, x: str, y: str) -> None:
    """Raise LosslineError for a run of the group whose losses are in another unit than those of all other runs."""
    x_loss, y_loss = (as_numbers(points.loc[:, column])[0] for column in (X, Y))
    runs_are_named = bool(points.loc[:, RUN].notna().all())
    runs = names_of_runs(points, RUN if runs_are_named else None)
    if runs_are_named:
        require_one_unit_of_repetitions({x: x_loss, y: y_loss}, runs)
    require_one_unit(y_loss, [x_loss], runs, y)


def line_conventions(x: str, y: str) -> dict[str, str]:
    """Return the conventions that every line of a table shares, for the report.

    Args:
        x: the losses on the horizontal axis.
        y: the losses on the vertical axis.
    """
    return {
        "line": "y = K (x - E_x)^kappa + E_y, least squares on y",
        "x": x,
        "y": y,
        "intervals": "bands and gaps: 90% bootstrap of whole runs; parameters: the same where a run has several "
        "points, none of one run alone, else 90% profile likelihood",
        "gap": "mean of y - base(x) over the points on the common support of x",
    }


def _groups(points: pd.DataFrame, by: tuple[str, ...]) -> list[LinePoints]:
    """Return the points of each group."""
    if not by:
        return [LinePoints("all", "", "", {}, points)]
    groups = []
    for keys, rows in row_groups(points, by):
        values = {name: plain(value) for name, value in keys.items()}
        level = ", ".join(str(value) for value in values.values())
        groups.append(LinePoints(group_label(values), "+".join(by), level, values, rows))
    return groups


def fit_groups(
    groups: Sequence[LinePoints],
    x: str,
    y: str,
    unit: str,
    *,
    options: LineOptions,
) -> tuple[list[FittedGroup], dict[int, str]]:
    """Fit the lines of all groups that have usable losses.

    Args:
        groups: the points of each group.
        x: name of the losses on the horizontal axis, for messages.
        y: name of the losses on the vertical axis, for messages.
        unit: unit of the losses; "": the table's own.
        options: the source of E_x and E_y, the noise in x, and the bootstraps.

    Returns:
        The lines, and a line of text for each failure, by the number of its group and in this order. A group with bad
        losses has no line. A group that cannot be fitted has one, and a failure too.
    """
    irreducible, noise_x = options.irreducible, options.noise_x
    usable: dict[int, LineData] = {}
    failures: dict[int, str] = {}
    for k, group in enumerate(groups):
        try:
            x_loss, y_loss = numeric_losses(group.points, X, x), numeric_losses(group.points, Y, y)
            require_several_values(x_loss, y_loss, x)
            modes: dict[str, Any] = irreducible.of_points(group.points, x_loss, y_loss) if irreducible else {}
            modes |= {} if noise_x is None else {"noise_x": noise_x}
        except LosslineError as error:
            failures[k] = f"{group.label}: {error}"
            continue
        usable[k] = LineData(x_loss, y_loss, _clusters(group.points), **modes)
    fits = fit_each_line(list(usable.values()), unit=UNITS.get(unit, "the table's own"))
    curves = {k: fit for k, fit in zip(usable, fits, strict=True) if fit.has_curve}
    drawn = []
    for k, fit in curves.items():
        data, seed = usable[k], derive_seed(options.seed, groups[k].label)
        drawn.append(FitToResample(fit, {"x": data.x}, data.y, data.clusters, seed=seed))
    resamples = dict(zip(curves, bootstrap_each(drawn, num_resamples=options.num_resamples), strict=True))
    fitted = [
        _fitted_group(groups[k], data, fit, unit=unit, resamples=resamples.get(k))
        for (k, data), fit in zip(usable.items(), fits, strict=True)
    ]
    for k, item in zip(usable, fitted, strict=True):
        fit = item.line.fit
        if not fit.has_curve:
            failures[k] = f"{item.group.label}: {fit.status}: {fit.note}"
    return fitted, dict(sorted(failures.items()))


def _fitted_group(
    group: LinePoints, data: LineData, fit: FitResult, *, unit: str, resamples: Bootstrap | None
) -> FittedGroup:
    """Return a group with its line, its band and the notes on its points. `resamples` is None without a curve."""
    x, y, runs = data.x, data.y, _clusters(group.points)
    fit = _with_table_notes(fit, x, y, runs)
    band, note, middle = None, "", None
    if resamples is not None:
        resamples = replace(resamples, fit=fit)
        low, high = fit.domain["x"]
        band, note = resamples.band(np.linspace(low, high, BAND_POINTS)), resamples.note
        middle = resamples.middle() if low < high else None
        fit = with_run_intervals(fit, resamples, INTERVAL_LEVEL) if has_checkpoints(fit) else fit
    run_ids = () if runs is None else tuple(sorted(set(runs.tolist())))
    line = LineFit(group.label, group.factor, group.level, group.values, unit, fit, band, run_ids, note, middle)
    return FittedGroup(group, line, x, y, runs, resamples)


def _with_table_notes(fit: FitResult, x: np.ndarray, y: np.ndarray, clusters: np.ndarray | None) -> FitResult:
    if num_repeated := _num_repeated(x, y, clusters):
        fit = fit.with_note(f"{num_repeated} points {COUNT_EACH_TIME}")
    if fit.num_dropped:
        why = "dropped: a loss is missing, or at or below a given E" if fit.fixed else "with a missing loss dropped"
        fit = fit.with_note(f"{fit.num_dropped} points {why}")
    return fit


def _num_repeated(x: np.ndarray, y: np.ndarray, runs: np.ndarray | None) -> int:
    points = pd.DataFrame({"x": x, "y": y, "run": runs}).dropna(subset=["x", "y"])
    return int(points.duplicated().sum())


def _steps(points: pd.DataFrame) -> np.ndarray | None:
    """Return the step of each point. None: the table does not tell the steps of all points."""
    if "step" not in points.columns:
        return None
    steps, faulty = as_numbers(points.loc[:, "step"])
    return steps if np.isfinite(steps).all() and not faulty.any() else None


def _clusters(points: pd.DataFrame) -> np.ndarray | None:
    """Return the run of each point. None: the table does not tell runs apart."""
    runs = points.loc[:, RUN]
    return None if runs.isna().all() else runs.to_numpy()
