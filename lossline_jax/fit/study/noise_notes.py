"""Tell where noise in x makes the line of a setting too flat by more than its band says."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lossline_jax.fit.curves.noise_in_x import corrected_fit
from lossline_jax.fit.study.results import LineFit
from lossline_jax.fit.study.table_lines import FittedGroup
from lossline_jax.fit.tables.columns import RUN, X
from lossline_jax.losses.cells import as_numbers

MIN_STEPS = 3  # steps that all runs of a setting share. A convention
SMALL_SHARE = 1e-3  # of the variance of x; noise that makes up less is not looked at. A convention
MOST_POINTS = 2000  # points that the corrected line is fitted to, evenly by x. A choice


def noise_between_seeds(points: pd.DataFrame) -> float | None:
    """Estimate the noise of a checkpoint in x from the runs of one setting at equal steps.

    The runs differ from their mean by the noise, by a shift of each run, and by slow changes. Differences of
    neighbouring steps leave the noise alone (von Neumann 1941): their variance is 2 s^2 (1 - 1/R) for R runs.

    Args:
        points: rows of one setting with `_x` and `_run`, and `step` if the table has it.

    Returns:
        The standard deviation s. None: the steps are not known, or the runs share fewer than three of them.
    """
    if "step" not in points.columns or points.loc[:, RUN].isna().any():
        return None
    run_names, runs = np.unique(points[RUN].to_numpy(str), return_inverse=True)
    steps, positions = np.unique(as_numbers(points.loc[:, "step"])[0], return_inverse=True)
    losses_SR = np.full((steps.size, run_names.size), np.nan)
    losses_SR[positions, runs] = as_numbers(points.loc[:, X])[0]  # the last of repeated rows
    losses_SR = losses_SR[np.isfinite(steps) & np.all(np.isfinite(losses_SR), axis=1)]
    num_steps, num_runs = losses_SR.shape
    if num_runs < 2 or num_steps < MIN_STEPS:
        return None
    deviations = losses_SR - losses_SR.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.mean(np.diff(deviations, axis=0) ** 2) / (2 * (1 - 1 / num_runs))))


def with_noise_note(item: FittedGroup) -> LineFit:
    """Return the line of a setting, with a note if the line that is corrected for the noise in x leaves its band.

    Args:
        item: the setting with its fitted line.
    """
    note = _noise_note(item)
    return replace(item.line, fit=item.line.fit.with_note(note)) if note else item.line


def _noise_note(item: FittedGroup) -> str:
    """Return the note. Empty: the corrected line stays within the band."""
    band, noise = item.line.band, noise_between_seeds(item.group.points)
    known = np.isfinite(item.x) & np.isfinite(item.y)
    if band is None or noise is None or noise**2 < SMALL_SHARE * np.var(item.x[known]):
        return ""
    order = np.argsort(item.x[known], kind="stable")
    chosen = order[:: -(-order.size // MOST_POINTS)]
    corrected = corrected_fit(item.line.fit, item.x[known][chosen], item.y[known][chosen], noise)
    if corrected.noise_x is None:
        return f"x differs by {noise:.3g} between seeds at equal steps, which is much of its range"
    x = np.array(band.x)[corrected.defined(x=np.array(band.x))]
    inside = np.isin(band.x, x)
    curve = corrected.predict(x=x)
    beyond = np.maximum(curve - np.array(band.upper)[inside], np.array(band.lower)[inside] - curve)
    if not beyond.size or beyond.max() <= 0:
        return ""
    off = np.abs(curve - np.array(band.estimate)[inside])[np.argmax(beyond)]
    return (
        f"x has noise of {noise:.2g} (seeds at equal steps), which moves the line by up to {off:.2g}, beyond its band; "
        f"table fit --noise-x {noise:.2g} corrects it"
    )
