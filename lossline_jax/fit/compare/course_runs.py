"""Take the course of single runs: a polynomial through the values of a run, at both ends of a support.

`course.py` has the course of a gap. The noise of a course is that of the residuals of repeated runs.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lossline_jax.fit.compare.noise import Noise, noise_between_runs
from lossline_jax.fit.compare.setting_line import SettingLine

# All of these are conventions of this package. `benchmarks/gap_course.py` measures the words that follow.
MIN_SPAN = 1 / 2  # share of the common support that a run must span to count
MIN_POINTS = 3  # points that a run must have on the support for a straight course
CURVED_POINTS = 5  # points of every run from which the course is a parabola
# Each part of a course is a sum of the gaps at the start, in the middle and at the far end, with these weights.
PARTS: Mapping[str, tuple[float, float, float]] = {
    "start": (1.0, 0.0, 0.0),
    "far": (0.0, 0.0, 1.0),
    "change": (-1.0, 0.0, 1.0),
    "mean of ends": (0.5, 0.0, 0.5),
    "middle": (0.0, 1.0, 0.0),
    "bend": (-0.5, 1.0, -0.5),  # the middle, minus the mean of both ends
}


def runs_on(cell: SettingLine, support: tuple[float, float], min_points: int = MIN_POINTS) -> list[np.ndarray]:
    """Return the mask of the points on the support, for each run that spans the support.

    Args:
        cell: the setting of the runs.
        support: the lowest and the highest x.
        min_points: number of different x that a run must have on the support.
    """
    low, high = support
    masks = [mask & (cell.x >= low) & (cell.x <= high) for mask in _masks_of_runs(cell)]
    return [
        mask
        for mask in masks
        if np.unique(cell.x[mask]).size >= min_points and np.ptp(cell.x[mask]) >= MIN_SPAN * (high - low) > 0
    ]


def ranges_on(cell: SettingLine, support: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the part of the support that each run covers, for each run that spans the support.

    Args:
        cell: the setting of the runs.
        support: the lowest and the highest x.
    """
    low, high = support
    ranges = [(max(cell.x[mask].min(), low), min(cell.x[mask].max(), high)) for mask in _masks_of_runs(cell)]
    return [(first, last) for first, last in ranges if last - first >= MIN_SPAN * (high - low) > 0]


def _masks_of_runs(cell: SettingLine) -> list[np.ndarray]:
    return [np.ones(cell.x.size, bool)] if cell.runs is None else [cell.runs == run for run in cell.run_ids]


def degree_of_course(runs: Sequence[np.ndarray], x: np.ndarray) -> int:
    """Return 2 where every run has points enough for a parabola, and else 1.

    Args:
        runs: the mask of the points of each run.
        x: (n,) the points.
    """
    return 2 if all(np.unique(x[mask]).size >= CURVED_POINTS for mask in runs) else 1


def values_at(x: np.ndarray, values: np.ndarray, ends: tuple[float, float], degree: int) -> np.ndarray:
    """Fit a polynomial to the values by least squares, and return its values at the start, the middle and the far end.

    Args:
        x: (n,) the points of one run.
        values: (n,) the values at these points.
        ends: the x of the start and of the far end. The middle lies between them.
        degree: degree of the polynomial.
    """
    low, high = x.min(), x.max()
    powers = np.arange(degree + 1)
    basis = (((2 * x - low - high) / (high - low))[:, None]) ** powers  # of x between -1 and 1
    places = np.array([ends[0], np.mean(ends), ends[1]])
    at_places = ((2 * places - low - high) / (high - low))[:, None] ** powers
    return at_places @ np.linalg.solve(basis.T @ basis, basis.T @ values)


def noises_of_course(cells: Sequence[SettingLine], support: tuple[float, float], degree: int) -> dict[str, Noise]:
    """Return the noise of each part of a course on this support. Empty: no repeated setting spans it.

    Each run is taken between its own ends, so that nothing is extrapolated.

    Args:
        cells: the settings.
        support: the lowest and the highest x.
        degree: degree of the polynomial of each run.
    """
    min_points = CURVED_POINTS if degree > 1 else MIN_POINTS
    by_setting = []
    for cell in cells:
        if cell.num_runs > 1 and cell.fit.has_curve:
            masks = runs_on(cell, support, min_points)
            if len(masks) > 1:
                by_setting.append(
                    np.array(
                        [
                            values_at(cell.x[m], cell.residuals[m], (cell.x[m].max(), cell.x[m].min()), degree)
                            for m in masks
                        ]
                    )
                )
    noises = {
        name: noise_between_runs([values_R3 @ np.array(weights) for values_R3 in by_setting])
        for name, weights in PARTS.items()
    }
    return {name: noise for name, noise in noises.items() if noise is not None}
