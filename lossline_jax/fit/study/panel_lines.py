"""The lines of the study's figures, fitted: many small fits as lanes of one compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.resampling import Band, bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import DataSet, fit_law_many
from lossline_jax.fit.study.panels import PanelLineSpec, panel_line_specs
from lossline_jax.fit.study.results import PanelLine
from lossline_jax.fit.tables.columns import PER_BYTE, RUN, X, Y, numeric_losses, paired_points
from lossline_jax.fit.tables.rows import level_text

MIN_POINTS = 5  # one more than a line has parameters
BAND_POINTS = 30
DIGITS = 6  # of the numbers of a band: it is drawn, not computed with
NUM_STARTS = 16
IN_BOTH_UNITS = "matched"  # figures that are drawn in every unit: whether a tokenizer moves the line turns on it


def fit_panel_lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    units: Sequence[str],
    base: Mapping[str, Any],
    *,
    num_resamples: int = 200,
    seed: int = 0,
) -> tuple[PanelLine, ...]:
    """Fit every line that a long table with factor columns has for the figures; none of another table.

    Lines with fewer than five points are left out. Losses that are no losses leave out the line that has them: the
    table's own lines say so.

    Args:
        frame: rows of `table.LossRow`, or any table with `run_id`, `step`, `eval_set` and factor columns.
        x, y: evaluation sets on the axes of the study.
        units: loss columns; matched grids are fitted in all of them, others in `comparing_unit`.
        base: levels of the factors of the base.
    """
    if not {"run_id", "step", "eval_set"} <= set(frame.columns) or {x, y} <= set(frame.columns):
        return ()
    common = comparing_unit(frame, units)
    wanted = [
        (group, unit)
        for group in panel_line_specs(frame, x, y, _base_run(frame, base))
        for unit in (units if group.figure.startswith(IN_BOTH_UNITS) else (common,))
    ]
    losses = _Losses(frame)
    points = {(g.x, g.y, unit, g.run_ids): losses.points(g, unit) for g, unit in wanted}
    points = {key: rows for key, rows in points.items() if rows is not None}
    fitted = dict(zip(points, _fit_all(list(points.values()), num_resamples, seed), strict=True))
    return tuple(
        PanelLine(g.figure, g.panel, g.factor, g.level, g.x, g.y, unit, g.run_ids, *fitted[key])
        for g, unit in wanted
        if (key := (g.x, g.y, unit, g.run_ids)) in fitted
    )


def comparing_unit(frame: pd.DataFrame, units: Sequence[str]) -> str:
    """The unit to compare lines in: bits/byte where tokens differ and the table has it, else the first."""
    several = "tokenizer" in frame.columns and frame["tokenizer"].nunique() > 1
    return PER_BYTE if several and PER_BYTE in units and frame[PER_BYTE].notna().any() else units[0]


def _base_run(frame: pd.DataFrame, base: Mapping[str, Any]) -> str:
    """The first run with the levels of the base; "" where none has them."""
    runs = frame.drop_duplicates("run_id")
    names = [name for name in base if name in runs]
    matches = np.all([runs[name].map(level_text) == base[name] for name in names], axis=0)
    return str(runs["run_id"].iloc[int(np.argmax(matches))]) if np.any(matches) else ""


class _Losses:
    """Paired points of a table by evaluation sets and unit, paired once each."""

    def __init__(self, frame: pd.DataFrame):
        self._frame = frame
        self._pairs: dict[tuple[str, str, str], pd.DataFrame | None] = {}

    def points(self, group: PanelLineSpec, unit: str) -> pd.DataFrame | None:
        """Columns `_x`, `_y`, `_run` of the group's checkpoints; None where they are too few or bad."""
        key = group.x, group.y, unit
        if key not in self._pairs:
            self._pairs[key] = self._paired(*key)
        pairs = self._pairs[key]
        if pairs is None:
            return None
        pairs_of_group = pairs[pairs[RUN].isin(group.run_ids)]
        return pairs_of_group if len(pairs_of_group) >= MIN_POINTS else None

    def _paired(self, x: str, y: str, unit: str) -> pd.DataFrame | None:
        try:
            points = paired_points(self._frame, x, y, (), unit=unit, cluster="run_id")
            numbers = {X: numeric_losses(points, X, x), Y: numeric_losses(points, Y, y)}
        except LosslineError:
            return None
        return pd.DataFrame(numbers | {RUN: points[RUN]}).dropna(subset=[X, Y])


def _fit_all(data: list[pd.DataFrame], num_resamples: int, seed: int) -> list[tuple[FitResult, Band | None]]:
    fits = fit_law_many(
        SHIFTED_POWER,
        [DataSet({"x": rows[X]}, rows[Y], clusters=rows[RUN]) for rows in data],
        num_starts=NUM_STARTS,
    )
    return [(fit, _band(fit, rows, num_resamples, seed)) for fit, rows in zip(fits, data, strict=True)]


def _band(fit: FitResult, rows: pd.DataFrame, num_resamples: int, seed: int) -> Band | None:
    if not fit.has_curve:
        return None
    resamples = bootstrap(fit, {"x": rows[X]}, rows[Y], clusters=rows[RUN], num_resamples=num_resamples, seed=seed)
    band = resamples.band(np.linspace(*fit.domain["x"], BAND_POINTS))
    return Band(*(_rounded(v) for v in (band.x, band.estimate, band.lower, band.upper)), band.level, band.method)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
