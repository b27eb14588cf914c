"""Find runs whose compute or loss is far from that of the other runs of their own setting.

A run that diverged, or whose compute has another unit, moves the speedup of its whole level. Two distances of a run
are compared with those of the other runs, by the rule of `compare.far_run`. One is ln(compute) at equal loss, which
finds another unit. The other is ln(loss) at equal compute, which finds a run that diverged.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lossline_jax.fit.compare.far_checkpoint import CheckpointCurves, FarCheckpoint, far_checkpoints
from lossline_jax.fit.compare.far_run import DistanceKind, FarRun, RunDistances, farthest_runs
from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.speedup.measured_curves import curve_of_run, falling_points
from lossline_jax.fit.tables.settings import Setting

MIN_FALLING = 2  # checkpoints of a run, each below all before, that make a curve of compute against loss
NOISE_OF_OTHERS = 2.0  # factor on the noise of other settings: recipes differ in noise. A convention
WRONG_FACTOR = 2.0  # ratio of compute from which the note has it in place of the ratio of losses. A convention
NUM_PLACES = 9  # losses or budgets at which runs are compared. A convention
SAME_BUDGET = 1e-9  # difference of ln(compute) that is rounding


def far_compute_runs(cells: Sequence[ComputeCell]) -> tuple[FarRun, ...]:
    """Return the runs that are far from the other runs of their setting, the farthest first.

    Both distances are means over the later half of what all runs of the setting have in common: the lower half of the
    losses, and the upper half of ln(compute). A setting whose runs have no losses in common is not compared at equal
    loss. The same holds for compute.

    Settings may differ in noise, since one recipe may be less stable than another. So the noise of the other settings
    counts `NOISE_OF_OTHERS` times, and only gross errors are found.

    Args:
        cells: every setting with all its points.
    """
    at_loss = [_distances(cell, _log_compute_at_equal_loss, "compute") for cell in cells]
    at_compute = [_distances(cell, _log_loss_at_equal_compute, "loss") for cell in cells]
    num_runs = sum(cell.num_runs for cell in cells if cell.num_runs > 1)
    far = farthest_runs([at_loss, at_compute], num_runs, NOISE_OF_OTHERS)
    # A run in another unit is far by both distances. Its ratio of compute tells the reader which unit it is.
    far_at_loss = farthest_runs([at_loss], num_runs, NOISE_OF_OTHERS)
    by_compute = {run.run: run for run in far_at_loss if abs(run.distance) > np.log(WRONG_FACTOR)}
    return tuple(by_compute.get(run.run, run) for run in far)


def without_far_budgets(
    cells: Sequence[ComputeCell], base: Setting
) -> tuple[list[ComputeCell], tuple[FarCheckpoint, ...]]:
    """Return the settings without the compute at which all runs of one lie off their curve, and these checkpoints.

    Runs are compared at equal compute, so runs of one setting with different compute are not judged.

    Args:
        cells: every setting with all its points.
        base: the setting with the reference level of each factor, for the names of settings.
    """
    budgets = [np.round(cell.log_compute / SAME_BUDGET) for cell in cells]
    curves = [
        CheckpointCurves(cell.setting.name_from(base), cell.log_compute, np.log(cell.loss), cell.runs, budget)
        for cell, budget in zip(cells, budgets, strict=True)
    ]
    kept, found = [], []
    for cell, budget, far in zip(cells, budgets, far_checkpoints(curves, "ln(loss)"), strict=True):
        kept.append(cell if far is None else cell.only(budget != far.checkpoint))
        if far is not None:
            found.append(replace(far, name=f"compute {np.exp(far.x):.3g}"))
    return kept, tuple(found)


_Curves = list[tuple[np.ndarray, np.ndarray]]  # of each run: loss and ln(compute), in the order of compute


def _distances(
    cell: ComputeCell, measure: Callable[[_Curves], tuple[np.ndarray, np.ndarray]], kind: DistanceKind
) -> RunDistances:
    run_ids = np.array(cell.run_ids, str)
    if run_ids.size < 2:
        return RunDistances((), np.empty(0), kind)
    known, values = measure([cell.of_run(run) for run in run_ids])
    return RunDistances(tuple(run_ids[known].tolist()), values, kind)


def _log_compute_at_equal_loss(points: _Curves) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the runs that have a curve, and the mean ln(compute) of each at the lower common losses."""
    known = np.array([k for k, of_run in enumerate(points) if falling_points(*of_run)[0].size >= MIN_FALLING], int)
    if known.size < 2:
        return known[:0], np.empty(0)
    found = [curve_of_run(*points[k]) for k in known]
    lowest, highest = max(-curve.x[-1] for curve in found), min(-curve.x[0] for curve in found)
    if not lowest < highest:
        return known[:0], np.empty(0)
    losses = np.linspace(lowest, (lowest + highest) / 2, NUM_PLACES)
    return known, np.array([curve(-losses).mean() for curve in found])


def _log_loss_at_equal_compute(points: _Curves) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of all runs, and the mean ln(loss) of each over the upper half of the common ln(compute)."""
    first, last = max(x[0] for _, x in points), min(x[-1] for _, x in points)
    if last < first - SAME_BUDGET:
        return np.empty(0, int), np.empty(0)
    budgets = np.linspace((first + last) / 2, last, NUM_PLACES)
    return np.arange(len(points)), np.array([np.interp(budgets, x, np.log(loss)).mean() for loss, x in points])
