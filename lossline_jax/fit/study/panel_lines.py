"""Fit the lines of the study's figures. They are many small fits, batched in one compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.resampling import Band, Bootstrap, FitToResample, bootstrap_each
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.study.panels import MATCHED, POOL, PanelLineSpec, panel_line_specs
from lossline_jax.fit.study.results import PanelLine
from lossline_jax.fit.tables.columns import (
    LONG_KEYS,
    PER_BYTE,
    RUN,
    X,
    Y,
    losses_and_faults,
    paired_points,
    rows_of_set,
)
from lossline_jax.fit.tables.rows import WHERE, level_text
from lossline_jax.fit.tables.wide import losses_as_rows

_BAD = "_bad"  # the column of the points with a value that is no loss
MIN_POINTS = 5  # points of a line: one more than its four parameters
BAND_POINTS = 30  # points of a band, by convention
DIGITS = 6  # significant digits of the numbers of a band, which is drawn and not computed with
NUM_STARTS = 16  # starts of each search; the default of `fit_law` is 32
# Figures whose names begin so are drawn in every unit: the unit decides whether a tokenizer moves the line.
IN_BOTH_UNITS = "matched"


def fit_panel_lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    units: Sequence[str],
    *,
    base: Mapping[str, Any],
    num_resamples: int = 200,
    seed: int = 0,
) -> tuple[PanelLine, ...]:
    """Fit every line that a table with runs and factor columns has for the figures. Another table has no such lines.

    Lines with fewer than five points are left out. So is a line with a value that is not a loss: the fits of the
    table's own lines report it.

    Args:
        frame: rows of `losses.LossRow`, or any table with `run_id`, `step`, `eval_set` and factor columns.
        x: evaluation set on the horizontal axis of the study.
        y: evaluation set on the vertical axis of the study.
        units: loss columns. Matched grids are fitted in all of them, other figures in `comparing_unit`.
        base: the reference level of each factor.
        num_resamples: resamples of each bootstrap.
        seed: seed of the bootstraps.
    """
    is_wide = {x, y} <= set(frame.columns)
    if is_wide:
        frame = losses_as_rows(frame, x, y, "")  # the unit of a wide table has the key ""
    if not {"run_id", "step", "eval_set"} <= set(frame.columns):
        return ()
    common_unit = comparing_unit(frame, units)
    lines = [
        (group, unit)
        for group in panel_line_specs(frame, x, y, _base_run(frame, base))
        if not is_wide or group.figure.startswith((MATCHED, POOL))  # columns are not known as sets of some kind
        for unit in (units if group.figure.startswith(IN_BOTH_UNITS) else (common_unit,))
    ]
    losses = _Losses(frame)
    points: dict[tuple[str, str, str, tuple[str, ...]], pd.DataFrame] = {}
    for group, unit in lines:
        if (rows := losses.points(group, unit)) is not None:
            points[group.x, group.y, unit, group.run_ids] = rows
    fitted = dict(zip(points, _fit_all(list(points.values()), num_resamples, seed), strict=True))
    return tuple(
        PanelLine(g.figure, g.panel, g.factor, g.level, g.x, g.y, unit, g.run_ids, *fitted[key])
        for g, unit in lines
        if (key := (g.x, g.y, unit, g.run_ids)) in fitted
    )


def comparing_unit(frame: pd.DataFrame, units: Sequence[str]) -> str:
    """Return the unit to compare lines in: bits/byte where tokenizers differ and the table has it, else the first unit.

    Args:
        frame: a table of losses.
        units: loss columns of the table.
    """
    differ = "tokenizer" in frame.columns and frame.loc[:, "tokenizer"].nunique() > 1
    return PER_BYTE if differ and PER_BYTE in units and frame.loc[:, PER_BYTE].notna().any() else units[0]


def _base_run(frame: pd.DataFrame, base: Mapping[str, Any]) -> str:
    """Return the first run with the levels of the base. Empty: no run has them."""
    runs = frame.drop_duplicates("run_id")
    names = [name for name in base if name in runs]
    matches = np.all([runs.loc[:, name].map(level_text) == base[name] for name in names], axis=0)
    return str(runs["run_id"].iloc[int(np.argmax(matches))]) if np.any(matches) else ""


class _Losses:
    """The paired points of a table. Each evaluation set is checked once, and each pair of sets is paired once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._sets = {str(name): rows for name, rows in frame.groupby("eval_set", sort=False)}
        self._rows: dict[tuple[str, str], pd.DataFrame] = {}
        self._pairs: dict[tuple[str, str, str], pd.DataFrame | None] = {}

    def points(self, group: PanelLineSpec, unit: str) -> pd.DataFrame | None:
        """Return columns `_x`, `_y` and `_run` of the group's checkpoints. None: there are too few, or one is bad."""
        key = group.x, group.y, unit
        if key not in self._pairs:
            self._pairs[key] = self._paired(*key)
        pairs = self._pairs[key]
        if pairs is None:
            return None
        pairs_of_group = pairs.loc[pairs[RUN].isin(group.run_ids)]
        if len(pairs_of_group) < MIN_POINTS or pairs_of_group[_BAD].any():
            return None
        return pairs_of_group

    def _paired(self, x: str, y: str, unit: str) -> pd.DataFrame | None:
        try:
            points = self._points_of_both(x, y, unit)
        except LosslineError:
            return None
        (x_loss, x_bad), (y_loss, y_bad) = (losses_and_faults(points.loc[:, axis]) for axis in (X, Y))
        known = (np.isfinite(x_loss) & np.isfinite(y_loss)) | x_bad | y_bad
        # Names as Python objects, because rows are chosen by them many times.
        runs = points[RUN].astype(object)
        return pd.DataFrame({X: x_loss, Y: y_loss, _BAD: x_bad | y_bad, RUN: runs}).loc[known]

    def _points_of_both(self, x: str, y: str, unit: str) -> pd.DataFrame:
        """Return the points as `paired_points` does, with the columns that are needed."""
        if {x, y} <= set(self._frame.columns) or "" in self._sets or not {x, y} <= self._sets.keys():
            return paired_points(self._frame, x, y, (), unit=unit, cluster="run_id")
        keys = list(LONG_KEYS)
        left, right = self._losses(x, unit), self._losses(y, unit)
        y_losses = right.loc[:, [*keys, unit]].rename(columns={unit: Y})
        points = left.rename(columns={unit: X}).merge(y_losses, on=keys)
        return points.assign(**{RUN: points["run_id"].astype(str)})

    def _losses(self, name: str, unit: str) -> pd.DataFrame:
        """Return the rows of one evaluation set: the checkpoint, its name in messages, and the loss."""
        if (name, unit) not in self._rows:
            self._rows[name, unit] = rows_of_set(self._sets[name], name, unit).loc[:, [*LONG_KEYS, WHERE, unit]]
        return self._rows[name, unit]


def _fit_all(data: list[pd.DataFrame], num_resamples: int, seed: int) -> list[tuple[FitResult, Band | None]]:
    fits = fit_law_many(
        SHIFTED_POWER,
        [DataSet({"x": rows[X]}, rows[Y], clusters=rows.loc[:, RUN]) for rows in data],
        num_starts=NUM_STARTS,
    )
    drawn = {
        k: FitToResample(fit, {"x": rows[X]}, rows[Y], rows.loc[:, RUN], seed=seed)
        for k, (fit, rows) in enumerate(zip(fits, data, strict=True))
        if fit.has_curve
    }
    resamples = bootstrap_each(list(drawn.values()), num_resamples=num_resamples)
    bands = {k: _band(of_line) for k, of_line in zip(drawn, resamples, strict=True)}
    return [(fit, bands.get(k)) for k, fit in enumerate(fits)]


def _band(resamples: Bootstrap) -> Band:
    band = resamples.band(np.linspace(*resamples.fit.domain["x"], BAND_POINTS))
    return Band(
        x=_rounded(band.x),
        estimate=_rounded(band.estimate),
        lower=_rounded(band.lower),
        upper=_rounded(band.upper),
        level=band.level,
        method=band.method,
    )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
