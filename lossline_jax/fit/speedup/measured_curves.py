"""Compare settings by the measured curves of their runs. No law is fitted, and nothing is extrapolated.

The compute of a run at a loss is where its curve first falls to this loss. Between two checkpoints, ln(compute) is
interpolated as a monotone cubic of the loss (Fritsch and Butland 1984).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossline_jax.fit.speedup.cell import ComputeCell, Displacement, why_unusable
from lossline_jax.fit.speedup.grids import budget_losses, loss_grid, with_mean_of_lower_half
from lossline_jax.fit.speedup.late_rises import late_rises

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

MIN_RECORDS = 3  # checkpoints of a run that each have a lower loss than all before. A convention


def usable_runs(cell: ComputeCell) -> tuple[ComputeCell, list[str]]:
    """Return the setting without runs that have too few points of falling loss, and the names of these runs.

    The runs that end above an earlier loss are marked.

    Args:
        cell: the setting.
    """
    short = [run for run in cell.run_ids if falling_points(*cell.of_run(run))[0].size < MIN_RECORDS]
    usable = cell.only(~np.isin(cell.runs, short))
    return replace(usable, num_left_out=len(short), late_rises=late_rises(cell)), short


def measured_displacement(reference: ComputeCell, level: ComputeCell) -> Displacement | str:
    """Return the displacement of a level from its reference. A text: the reason why there is none.

    Args:
        reference: the setting of the reference level, as `usable_runs` returns it.
        level: the setting that is equal in all other factors; the same holds.
    """
    if why := why_unusable(reference, level):
        return why
    empty = [name for name, cell in (("this level", level), ("the reference", reference)) if not cell.num_runs]
    if empty:
        return f"no run of {' or of '.join(empty)} has {MIN_RECORDS} checkpoints{level.chosen} with a falling loss"
    curves = [[curve_of_run(*cell.of_run(run)) for run in cell.run_ids] for cell in (reference, level)]
    ends = [(max(-curve.x[-1] for curve in of_cell), min(-curve.x[0] for curve in of_cell)) for of_cell in curves]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if not low < high:
        return no_common_losses(ends[1], ends[0])

    def log_compute(losses: np.ndarray) -> list[np.ndarray]:
        return [np.array([curve(-losses) for curve in of_cell]) for of_cell in curves]

    def mean_curves(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, second = log_compute(losses)
        return first.mean(axis=0), second.mean(axis=0)

    by_loss = loss_grid(low, high, mean_curves)
    losses = np.concatenate([by_loss, budget_losses(low, high, mean_curves)])
    of_reference, of_level = (with_mean_of_lower_half(rows, by_loss.size) for rows in log_compute(losses))
    centres = [rows.mean(axis=0) for rows in (of_reference, of_level)]
    return Displacement(
        losses=losses,
        num_by_loss=by_loss.size,
        reference_log_compute=centres[0][:-1],
        level_log_compute=centres[1][:-1],
        bounds=(low, high),
        values=centres[0] - centres[1],
        level_squares=np.sum((of_level - centres[1]) ** 2, axis=0),
        level_freedom=level.num_runs - 1,
        reference_squares=np.sum((of_reference - centres[0]) ** 2, axis=0),
        reference_freedom=reference.num_runs - 1,
        num_runs=level.num_runs,
        num_reference_runs=reference.num_runs,
    )


def no_common_losses(level: tuple[float, float], reference: tuple[float, float]) -> str:
    """Return the reason why two settings without a common range of losses are not compared.

    Args:
        level: lowest and highest loss that all runs of the level reach.
        reference: the same of the reference.
    """
    of_level, of_reference = ("{:.4g}-{:.4g}".format(*ends) for ends in (level, reference))
    return f"no losses that all runs reach: {of_level}, reference {of_reference}"


def curve_of_run(loss: np.ndarray, log_compute: np.ndarray) -> "PchipInterpolator":
    """Return ln(compute) as a function of minus the loss, between the first loss of a run and its lowest one.

    Args:
        loss: (n,) losses in the order of the compute, with two falling ones or more.
        log_compute: (n,) natural logarithm of the compute.
    """
    from scipy.interpolate import PchipInterpolator  # takes a seventh of a second, and comparing lines does not need it

    loss, log_compute = falling_points(loss, log_compute)
    return PchipInterpolator(-loss, log_compute, extrapolate=False)


def falling_points(loss: np.ndarray, log_compute: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points with a lower loss than all points before them.

    Args:
        loss: (n,) losses in the order of the compute.
        log_compute: (n,) natural logarithm of the compute.
    """
    before = np.minimum.accumulate(np.concatenate([[np.inf], loss[:-1]]))
    is_record = loss < before
    return loss[is_record], log_compute[is_record]
