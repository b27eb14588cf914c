"""Fit every group of any table of losses, and compare each with a base group."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.irreducible import IrreducibleModes
from lossline_jax.fit.lines import BaseLine, LineComparison, compare_with_base, fit_base_line
from lossline_jax.fit.pairing import pair_by_columns
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.study_fits import LineFit, StudyFits
from lossline_jax.fit.table_input import (
    RUN,
    UNITS,
    WHERE,
    X,
    Y,
    as_pandas,
    group_label,
    numeric_losses,
    paired_points,
    require_column,
)
from lossline_jax.fit.transfer import fit_shifted_power
from lossline_jax.fit.uncertainty import bootstrap
from lossline_jax.fit.wide import wide_table

BAND_POINTS = 60


@dataclass(frozen=True)
class Across:
    """Pair the models of different levels of `column` that are equal in every column of `on`."""

    column: str
    on: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Points of one line, with what makes it one."""

    label: str
    factor: str
    level: str
    values: dict[str, str | int | float]
    points: pd.DataFrame


def fit_table(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
    unit: str = "nats_per_token",
    cluster: str | None = None,
    across: Across | None = None,
    irreducible: IrreducibleModes | None = None,
    num_resamples: int = 200,
    seed: int = 0,
) -> StudyFits:
    """Fit a shifted power law to each group of a table. A group that cannot be fitted is reported, not fatal.

    Args:
        frame: a wide table (x and y are columns) or lossline's own long table (x and y are evaluation sets).
        by: columns whose values make a group; none: one line for the whole table.
        base: values of the `by` columns of the group that all others are compared with; None: no comparison.
        unit: loss column of a long table; a wide table has the unit it has.
        cluster: column naming the run of each point; by default `run_id` where there is one.
        across: pair models of different levels of a column: x is the loss of the one, y that of the other (and the
            two may be the same loss); a line for each ordered pair of levels.
        irreducible: where E_x and E_y come from; None: both free.

    Raises:
        LosslineError: unknown columns, sets or base, or not one group could be fitted because of bad values.
    """
    by = (by,) if isinstance(by, str) else tuple(by)
    frame = as_pandas(frame)
    own_unit = "" if {x, y} <= set(frame.columns) else unit
    if across is not None:
        if base is not None:
            raise LosslineError("pairs of models have no base to be compared with: leave out base or across")
        groups = across_groups(frame, x, y, by, across, unit)
        lines, comparisons, failures = fit_groups(groups, None, x, y, own_unit, num_resamples, seed, irreducible)
        if not lines:
            raise LosslineError(failures[0] if failures else f"{across.column} has one level only: nothing to pair")
        return StudyFits(
            x, y, by, (own_unit,), None, tuple(lines), failures=tuple(failures), conventions=line_conventions(x, y)
        )
    points = paired_points(frame, x, y, by, unit=unit, cluster=cluster)
    if base is not None and set(base) != set(by):
        raise LosslineError(f"base names {sorted(base)}, by names {sorted(by)}; give the base a value of each")
    groups = _groups(points, by, base)
    base_label = next((g.label for g in groups if base is not None and not g.factor), None)
    if base is not None and base_label is None:
        known = "; ".join(g.label for g in groups[:20])
        raise LosslineError(f"no rows where {group_label(base)}; the table has {known}")
    lines, comparisons, failures = fit_groups(groups, base_label, x, y, own_unit, num_resamples, seed, irreducible)
    if not any(line.fit.has_curve for line in lines):
        raise LosslineError(failures[0])
    return StudyFits(
        x=x,
        y=y,
        by=by,
        units=(own_unit,),
        base_label=base_label,
        lines=tuple(lines),
        comparisons=tuple(comparisons),
        failures=tuple(failures),
        conventions=line_conventions(x, y),
    )


def across_groups(frame: pd.DataFrame, x: str, y: str, by: Sequence[str], across: Across, unit: str) -> list[Group]:
    """One group for each ordered pair of levels, its points paired."""
    wide = wide_table(frame, list(dict.fromkeys((x, y))), unit)
    for name in (*by, across.column, *across.on):
        require_column(wide, name)
    groups = []
    for key, rows in wide.groupby(list(by), sort=True, dropna=False) if by else [((), wide)]:
        values = {name: plain(value) for name, value in zip(by, key, strict=True)}
        levels = list(rows.groupby(across.column, sort=True))
        for first, x_rows in levels:
            for second, y_rows in levels:
                if first == second:
                    continue
                pairs = pair_by_columns(x_rows, y_rows, across.on)
                run = pairs.second["run_id"].astype(str) if "run_id" in pairs.second.columns else None
                points = pairs.second.assign(**{X: pairs.first[x], Y: pairs.second[y], RUN: run})
                points[WHERE] = [f"{a} with {b}" for a, b in zip(pairs.first[WHERE], pairs.second[WHERE], strict=True)]
                own = values | {across.column: f"{first} -> {second}"}
                groups.append(Group(group_label(own), across.column, f"{first} -> {second}", own, points))
    return groups


def line_conventions(x: str, y: str) -> dict[str, str]:
    """What every line of a table has in common, for the report."""
    return {
        "line": "y = K (x - E_x)^kappa + E_y, least squares on y",
        "x": x,
        "y": y,
        "intervals": "parameters: 90% profile likelihood; bands and gaps: 90% bootstrap",
        "gap": "mean of y - base(x) over the points on the common support of x",
    }


def _groups(points: pd.DataFrame, by: tuple[str, ...], base: Mapping[str, Any] | None) -> list[Group]:
    if not by:
        return [Group("all", "", "", {}, points)]
    groups = []
    for key, rows in points.groupby(list(by), sort=True, dropna=False):
        values = {name: plain(value) for name, value in zip(by, key, strict=True)}
        differs = by if base is None else [n for n in by if str(values[n]) != str(base[n])]
        level = ", ".join(str(values[name]) for name in differs)
        groups.append(Group(group_label(values), "+".join(differs), level, values, rows))
    return groups


def plain(value: Any) -> str | int | float:
    """A table's cell as JSON has it; a missing one as text."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (int, float, str)) and value == value else str(value)


def fit_groups(
    groups: Sequence[Group],
    base_label: str | None,
    x: str,
    y: str,
    unit: str,
    num_resamples: int,
    seed: int,
    irreducible: IrreducibleModes | None = None,
) -> tuple[list[LineFit], list[LineComparison], list[str]]:
    """Lines of all groups, comparisons of each with the base, and failures, in the order of `groups`."""
    lines, comparisons, failures, clean = [], [], [], {}
    for group in groups:
        try:
            columns = numeric_losses(group.points, X, x), numeric_losses(group.points, Y, y)
        except LosslineError as error:
            failures.append(f"{group.label}: {error}")
            continue
        clean[group.label] = (*columns, _clusters(group.points))
        try:
            modes = irreducible.of_points(group.points, *columns) if irreducible else {}
        except LosslineError as error:
            failures.append(f"{group.label}: {error}")
            continue
        lines.append(_fit_line(group, *clean[group.label], unit, num_resamples, seed, modes))
        if not lines[-1].fit.has_curve:
            failures.append(f"{group.label}: {lines[-1].fit.status}: {lines[-1].fit.note}")
    if base_label is None:
        return lines, comparisons, failures
    base = _base_line(base_label, clean, lines, unit, num_resamples, seed, failures)
    for group in groups if base else ():
        if group.label != base_label and group.label in clean:
            names = {"factor": group.factor, "level": group.level, "unit": unit}
            comparisons.append(compare_with_base(base, *clean[group.label], **names, seed=_seed(seed, group.label)))
    return lines, comparisons, failures


def _base_line(label, clean, lines, unit, num_resamples, seed, failures) -> BaseLine | None:
    """The base with its noise, or None with the reason added to `failures`."""
    fit = next((line.fit for line in lines if line.label == label), None)
    if fit is None or not fit.has_curve:
        failures.append(f"nothing is compared: the base {label!r} has no line")
        return None
    x, y, clusters = clean[label]
    return fit_base_line(x, y, clusters, fit=fit, num_resamples=num_resamples, seed=_seed(seed, label), unit=unit)


def _fit_line(group: Group, x, y, clusters, unit: str, num_resamples: int, seed: int, modes: dict) -> LineFit:
    fit = fit_shifted_power(x, y, clusters, unit=UNITS.get(unit, "the table's own"), **modes)
    fit = _with_table_notes(fit, x, y, clusters)
    band, note = None, ""
    if fit.has_curve:
        resamples = bootstrap(
            fit, {"x": x}, y, clusters=clusters, num_resamples=num_resamples, seed=_seed(seed, group.label)
        )
        band, note = resamples.band(np.linspace(*fit.domain["x"], BAND_POINTS)), resamples.note
    runs = () if clusters is None else tuple(sorted(set(clusters.tolist())))
    return LineFit(group.label, group.factor, group.level, group.values, unit, fit, band, runs, note)


def _with_table_notes(fit: FitResult, x: np.ndarray, y: np.ndarray, clusters: np.ndarray | None) -> FitResult:
    seen = pd.DataFrame({"x": x, "y": y, "run": clusters}).dropna(subset=["x", "y"])
    if num_repeated := int(seen.duplicated().sum()):
        fit = fit.with_note(f"{num_repeated} points occur more than once and count each time")
    if fit.num_dropped:
        why = "dropped: a loss is missing, or at or below a given E" if fit.fixed else "with a missing loss dropped"
        fit = fit.with_note(f"{fit.num_dropped} points {why}")
    return fit


def _clusters(points: pd.DataFrame) -> np.ndarray | None:
    return None if points[RUN].isna().all() else points[RUN].to_numpy()


def _seed(seed: int, label: str) -> int:
    """A generator seed of its own for each group, the same whatever other groups there are."""
    return seed * 2**32 + zlib.crc32(label.encode("utf-8"))
