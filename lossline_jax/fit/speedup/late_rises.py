"""Find runs that end with a loss above an earlier one. Their measured curves stop at the lowest loss.

The rise of a run is ln(last loss / lowest earlier loss). It is clear where it is larger than `MIN_RISE` of the range of
the run's ln(loss), and larger than `MIN_NOISES` deviations of a checkpoint.
"""

from collections.abc import Sequence

import numpy as np

from lossline_jax.fit.speedup.cell import ComputeCell

MIN_RISE = 0.05  # share of the range of ln(loss) of a run. A convention
MIN_NOISES = 6.0  # deviations of ln(loss) of one checkpoint. A convention
MAD_TO_DEVIATION = 1.4826  # deviation of normal numbers over their median absolute value
MAX_NAMED = 3  # runs that a note names


def late_rises(cell: ComputeCell) -> dict[str, float]:
    """Return the last loss minus the lowest earlier loss of each run that clearly ends above an earlier loss.

    Args:
        cell: a setting with all its points.
    """
    noise = checkpoint_noise(cell)
    rises = {}
    for run in cell.run_ids:
        loss, _ = cell.of_run(run)
        lowest, last = float(loss.min()), float(loss[-1])
        smallest = max(MIN_RISE * np.log(loss.max() / lowest), MIN_NOISES * noise)
        if np.log(last / lowest) > smallest:
            rises[run] = last - lowest
    return rises


def checkpoint_noise(cell: ComputeCell) -> float:
    """Return the deviation of ln(loss) of a checkpoint, as the median over all runs, and 0 where no run tells it.

    Each point up to the lowest loss of its run is compared with the straight line between its two neighbours.

    Args:
        cell: a setting with all its points.
    """
    deviations = [np.zeros(0)]
    for run in cell.run_ids:
        loss, x = cell.of_run(run)
        end = int(np.argmin(loss)) + 1
        y, x = np.log(loss[:end]), x[:end]
        gap = x[2:] - x[:-2]
        known = gap > 0
        weight = (x[1:-1] - x[:-2])[known] / gap[known]
        line = (1 - weight) * y[:-2][known] + weight * y[2:][known]
        deviations.append((y[1:-1][known] - line) / np.sqrt(1 + weight**2 + (1 - weight) ** 2))
    together = np.abs(np.concatenate(deviations))
    return MAD_TO_DEVIATION * float(np.median(together)) if together.size else 0.0


def note_on_rises(cells: Sequence[ComputeCell], side: str) -> tuple[str, bool]:
    """Return a note on the runs of one side that end above an earlier loss, and True where they are half or more.

    Args:
        cells: the settings of the level, or those of the reference, with their `late_rises`.
        side: words for this side; "" for the level.
    """
    rises = {run: rise for cell in cells for run, rise in cell.late_rises.items()}
    if not rises:
        return "", False
    num_runs = sum(len({*cell.run_ids, *cell.late_rises}) for cell in cells)
    is_half = 2 * len(rises) >= num_runs
    amount = f"{np.mean(list(rises.values())):.2g}"
    if is_half or len(rises) > MAX_NAMED:
        who, by = f"{len(rises)} of {num_runs} runs", f"{amount} in the mean"
    else:
        who, by = ", ".join(rises), f"{amount} in the mean" if len(rises) > 1 else amount
    note = f"the last loss of {who}{side} lies above an earlier one, by {by}: a speedup up to the lowest loss does not "
    return note + "tell it", is_half


def notes_on_both(pairs: Sequence[tuple[ComputeCell, ComputeCell]], reference: str) -> tuple[list[str], bool]:
    """Return the notes on both sides of a level, and True where half of the runs of one side end above earlier losses.

    Args:
        pairs: the settings of the reference level and of the level, pair by pair.
        reference: the name of the reference level.
    """
    of_level, is_half = note_on_rises([level for _, level in pairs], "")
    of_reference, is_half_of_reference = note_on_rises([cell for cell, _ in pairs], f" of the reference {reference}")
    return [note for note in (of_level, of_reference) if note], is_half or is_half_of_reference
