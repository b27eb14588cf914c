"""Find runs that lie far from the line of the other runs of their own setting.

One such run can hide what a study would otherwise find, so it is set aside. Two distances of a run from the common
line of its setting are compared with those of the other runs, by the rule of `far_run`. One is the mean over its
points. The other is half the difference between its lower and its upper half.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lossline_jax.fit.compare.far_run import DistanceKind, FarRun, RunDistances, farthest_runs, num_far_at_most
from lossline_jax.fit.compare.setting_line import SettingLine

MIN_HALVES = 4  # points that a run must have for its halves to be compared. A convention


def far_runs(cells: Sequence[SettingLine]) -> tuple[FarRun, ...]:
    """Return the runs that are far from their setting's line, the farthest first (`far_run.farthest_runs`).

    A bad run bends the line of its setting, so a good run may seem to turn off that line. If several runs of one
    setting are far, its line is fitted again without the farthest of them, and the others must be far from that line.

    Args:
        cells: every setting with its points and fitted line.
    """
    most = num_far_at_most(sum(cell.num_runs for cell in cells if cell.num_runs > 1))
    setting_of = {str(run): k for k, cell in enumerate(cells) for run in cell.run_ids}
    current, confirmed = list(cells), ()
    while True:
        far = _far_from_fitted_lines(current)
        places = [setting_of[run.run] for run in far]
        crowded = next((k for k, place in enumerate(places) if place in places[k + 1 :] and far[k].sure), None)
        if crowded is None or len(confirmed) + 1 >= most:
            return (*confirmed, *far)[:most]
        confirmed, place = (*confirmed, far[crowded]), places[crowded]
        current[place] = current[place].without({far[crowded].run})


def _far_from_fitted_lines(cells: Sequence[SettingLine]) -> tuple[FarRun, ...]:
    """Return the runs that are far from their setting's line as it is fitted."""
    means = [_distances(cell, lambda x, y: y.mean(), 1, kind="mean") for cell in cells]
    halves = [_distances(cell, _half_difference, MIN_HALVES, kind="turn") for cell in cells]
    return farthest_runs([means, halves], sum(distances.values_R.size for distances in means))


def _half_difference(x: np.ndarray, y: np.ndarray) -> float:
    """Return half the difference between the means of the points at low and at high x."""
    ordered = y[np.argsort(x, kind="stable")]
    middle = y.size // 2
    return float(ordered[:middle].mean() - ordered[-middle:].mean()) / 2


def _distances(
    cell: SettingLine, measure: Callable[[np.ndarray, np.ndarray], float], min_points: int, *, kind: DistanceKind
) -> RunDistances:
    """Apply `measure` to x and the residuals of each run that has enough points."""
    values: Mapping[str, float] = {}
    if cell.fit.has_curve and cell.num_runs > 1:
        masks = {run: cell.runs == run for run in cell.run_ids}
        values = {
            str(run): measure(cell.x[mask], cell.residuals[mask])
            for run, mask in masks.items()
            if mask.sum() >= min_points
        }
    return RunDistances(tuple(values), np.array(list(values.values())), kind)
