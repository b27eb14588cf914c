"""Are two runs with equal points surely one run under two names, or may they be two seeds that are equal by chance?

Losses printed with three decimals make it certain; a run that is short of points needs five, as more points are there
to meet by chance.

With fewer decimals the other runs of the setting tell how likely equal seeds are. Their distance from the run changes
from point to point. Where that change is normal, a point falls into one cell of the rounding with at most the volume of
the cell times the density in its middle. A constant distance between seeds only lowers it. Copies are certain where
that chance, to the power of the points and times the pairs of runs of which one is printed as coarsely, is below one in
a thousand.
"""

from collections.abc import Collection, Sequence
from itertools import combinations
from math import comb

import numpy as np

from lossline_jax.fit.tables.printed_runs import MIN_DECIMALS, MIN_POINTS, SAME, PrintedRun, nearly_equal

SURE_DECIMALS, SURE_DECIMALS_OF_A_PART = 3, 5
CHANCE = 1e-3  # that a table of honest runs has one that is taken for a copy: at most
MOST_COMPARED = 8  # runs of a setting whose pairs tell how far seeds are apart


def is_certain_copy(
    whole: PrintedRun, part: PrintedRun, runs: Sequence[PrintedRun], groups: Collection[Sequence[PrintedRun]]
) -> bool:
    """Tell whether a part of the whole is a copy of it: by its digits, or as other runs are never so near.

    Args:
        runs: the group of runs that both belong to.
        groups: all groups of the table.
    """
    decimals = int(np.minimum(whole.decimals_c, part.decimals_c)[whole.num_sizes :].max())
    is_part = len(part) < len(whole) and not whole.num_sizes
    if decimals >= (SURE_DECIMALS_OF_A_PART if is_part else SURE_DECIMALS):
        return True
    chances = _chances(whole, part, runs, groups)
    if not chances:  # nothing tells how far other seeds are
        return len(part) == len(whole) and bool(nearly_equal(whole.values_nc, part.values_nc, np.zeros(1)).all())
    if decimals < MIN_DECIMALS:
        return False
    unit = max(whole.units_c.max(), part.units_c.max())
    finer = [sum(each.units_c.max() < unit for each in group) for group in groups]
    pairs = sum(comb(len(group), 2) - comb(fine, 2) for group, fine in zip(groups, finer, strict=True))
    return bool(pairs * np.median(chances) ** len(part) < CHANCE)


def _chances(
    whole: PrintedRun, part: PrintedRun, runs: Sequence[PrintedRun], groups: Collection[Sequence[PrintedRun]]
) -> list[float]:
    """The chance of one equal point, by pairs of seeds of this group, or of the others where this has no third run."""
    if whole.num_sizes:
        return []
    seeds = [[whole, *(each for each in runs if each not in (whole, part))]]
    if len(seeds[0]) == 1:
        seeds = [group for group in groups if group is not runs]
    return [
        _chance(other, one, whole, part)
        for group in seeds
        for one, other in combinations(group[:MOST_COMPARED], 2)
        if len(other) >= MIN_POINTS
    ]


def _chance(other: PrintedRun, one: PrintedRun, whole: PrintedRun, part: PrintedRun) -> float:
    """Bound the chance that a point of another seed falls into the cell of rounding about one of the whole's."""
    near = np.abs(other.values_nc[:, :1] - one.values_nc[None, :, 0]).argmin(axis=1)
    change_nc = np.diff(other.values_nc - one.values_nc[near], axis=0)
    printed_c = (other.units_c**2 + one.units_c**2) / 12
    # The diagonal of R holds what a column changes beyond what the columns before it say.
    free_c = np.zeros(change_nc.shape[1])
    triangle = np.linalg.qr(change_nc, mode="r")
    free_c[: len(triangle)] = np.diag(triangle) ** 2 / (2 * len(change_nc))
    deviation_c = np.sqrt(np.maximum(free_c - printed_c, 0.0))
    cell_c = np.maximum(np.maximum(whole.units_c, part.units_c), 2 * SAME * np.abs(whole.values_nc).mean(axis=0))
    with np.errstate(divide="ignore"):
        return float(np.prod(np.minimum(cell_c / (np.sqrt(2 * np.pi) * deviation_c), 1.0)))
