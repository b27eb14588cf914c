"""Are two runs with equal points certainly one run under two names, or may they be two seeds equal by chance?

Losses printed with three decimals make a copy certain. A run that has only a part of the points of the other run needs
five decimals, because more points of the other run can be equal by chance.

With fewer decimals, the other runs of the setting tell how likely equal seeds are. The distance between two seeds
changes from point to point. If this change is normal, the chance that a point falls into one cell of the rounding is at
most the volume of the cell times the density in its middle. A constant distance between seeds only lowers the chance.
The chance for all points is this chance to the power of the number of points. It is multiplied by the number of pairs
of runs of which one is printed as coarsely. Copies are certain if the product is below one in a thousand.
"""

from collections.abc import Collection, Sequence
from itertools import combinations
from math import comb

import numpy as np

from lossline_jax.fit.tables.printed_runs import MIN_DECIMALS, MIN_POINTS, SAME, PrintedRun, nearly_equal

SURE_DECIMALS, SURE_DECIMALS_OF_A_PART = 3, 5  # decimals that make a copy certain; choices
CHANCE = 1e-3  # largest chance that a table of different runs has one that is taken for a copy; a choice
MOST_COMPARED = 8  # runs of a setting whose pairs measure the distance of seeds; a choice that bounds the time


def is_certain_copy(
    whole: PrintedRun, part: PrintedRun, runs: Sequence[PrintedRun], groups: Collection[Sequence[PrintedRun]]
) -> bool:
    """Tell whether `part` is certainly a copy of `whole`: by its digits, or because other runs are never so near.

    Args:
        whole: the longer run, which has all points of the part.
        part: the run that may be a copy.
        runs: the group of runs that both belong to.
        groups: all groups of the table.
    """
    decimals = int(np.minimum(whole.decimals_c, part.decimals_c)[whole.num_sizes :].max())
    is_part = len(part) < len(whole) and not whole.num_sizes
    if decimals >= (SURE_DECIMALS_OF_A_PART if is_part else SURE_DECIMALS):
        return True
    chances = _chances(whole, part, runs, groups)
    if not chances:  # no other runs measure the distance of seeds
        return len(part) == len(whole) and bool(nearly_equal(whole.values_nc, part.values_nc, np.zeros(1)).all())
    if decimals < MIN_DECIMALS:
        return False
    unit = max(whole.units_c.max(), part.units_c.max())
    num_finer = [sum(printed.units_c.max() < unit for printed in group) for group in groups]
    pairs = sum(comb(len(group), 2) - comb(finer, 2) for group, finer in zip(groups, num_finer, strict=True))
    return bool(pairs * np.median(chances) ** len(part) < CHANCE)


def _chances(
    whole: PrintedRun, part: PrintedRun, runs: Sequence[PrintedRun], groups: Collection[Sequence[PrintedRun]]
) -> list[float]:
    """Return the chance of one equal point for each pair of seeds of this group.

    If the group has no third run, the pairs are of all other groups.
    """
    if whole.num_sizes:
        return []
    seeds = [[whole, *(printed for printed in runs if printed not in (whole, part))]]
    if len(seeds[0]) == 1:
        seeds = [group for group in groups if group is not runs]
    return [
        _chance(other, one, whole, part)
        for group in seeds
        for one, other in combinations(group[:MOST_COMPARED], 2)
        if len(other) >= MIN_POINTS
    ]


def _chance(other: PrintedRun, one: PrintedRun, whole: PrintedRun, part: PrintedRun) -> float:
    """Bound the chance that a point of another seed falls into the rounding cell of a point of the whole."""
    near = np.abs(other.values_nc[:, :1] - one.values_nc[None, :, 0]).argmin(axis=1)
    change_nc = np.diff(other.values_nc - one.values_nc[near], axis=0)
    printed_c = (other.units_c**2 + one.units_c**2) / 12
    # The diagonal of R holds the change of each column that the columns before it do not explain.
    free_c = np.zeros(change_nc.shape[1])
    triangle = np.linalg.qr(change_nc, mode="r")
    free_c[: len(triangle)] = np.diag(triangle) ** 2 / (2 * len(change_nc))
    deviation_c = np.sqrt(np.maximum(free_c - printed_c, 0.0))
    cell_c = np.maximum(np.maximum(whole.units_c, part.units_c), 2 * SAME * np.abs(whole.values_nc).mean(axis=0))
    with np.errstate(divide="ignore"):
        return float(np.prod(np.minimum(cell_c / (np.sqrt(2 * np.pi) * deviation_c), 1.0)))
