"""Collect the gaps of all matched pairs of one factor, with the covariance of their errors, and fit them.

Whole runs are the units. Pairs that share a reference setting share its error, so their gaps are correlated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.compare.gap import LineGap
from lossline_jax.fit.compare.setting_line import SettingLine, matched_pairs


@dataclass(frozen=True, eq=False)
class GapDesign:
    """The gaps of P matched pairs of one factor."""

    levels: tuple[str, ...]  # (P,) level of the factor
    reference_levels: tuple[Mapping[str, str], ...]  # (P,) levels of all factors of the pair's reference setting
    gaps_P: np.ndarray
    covariance_PP: np.ndarray  # in units of the squared noise floor


@dataclass(frozen=True, eq=False)
class GapFit:
    """A linear model of the gaps, fitted by generalised least squares (Aitken 1935)."""

    coefficients_K: np.ndarray
    covariance_KK: np.ndarray  # of the coefficients, in units of the squared noise floor
    squares: float  # weighted sum of squared residuals; in units of the squared noise floor its mean is P - K


def gap_design(
    cells: Sequence[SettingLine], factor: str, reference: str, gaps: Mapping[str, LineGap | str]
) -> GapDesign:
    """Return the gaps of a factor with the covariance of their errors.

    A gap of n runs to a reference of m runs has the variance 1/n + 1/m. Two gaps to the same reference setting share
    the error of the runs that both use. The covariance is therefore one over the larger number of reference runs.

    Args:
        cells: every setting with its points and fitted line.
        factor: the factor.
        reference: its reference level.
        gaps: the measured gap of each level; a text where a level has none.
    """
    levels: list[str] = []
    references: list[SettingLine] = []
    values: list[float] = []
    num_runs: list[tuple[int, int]] = []
    for level, gap in gaps.items():
        if not isinstance(gap, LineGap):
            continue
        reference_of = {id(pair.other): pair.reference for pair in matched_pairs(cells, factor, level, reference)}
        for cell, pair in zip(gap.cells, gap.pairs, strict=True):
            levels.append(level)
            references.append(reference_of[id(cell)])
            values.append(pair.gap)
            num_runs.append((pair.num_runs, pair.num_reference_runs))
    covariance = np.zeros((len(values), len(values)))
    for k, (own_runs, own_reference_runs) in enumerate(num_runs):
        for n, (_, reference_runs) in enumerate(num_runs):
            if references[k] is references[n]:
                covariance[k, n] = 1 / max(own_reference_runs, reference_runs) + (1 / own_runs if k == n else 0.0)
    return GapDesign(tuple(levels), tuple(cell.levels for cell in references), np.array(values), covariance)


def fit_gaps(design_PK: np.ndarray, gaps_P: np.ndarray, covariance_PP: np.ndarray) -> GapFit:
    """Fit a linear model to gaps with correlated errors.

    Args:
        design_PK: the values of the K regressors of each gap, linearly independent.
        gaps_P: the gaps.
        covariance_PP: the covariance of their errors.
    """
    weighted_PK = np.linalg.solve(covariance_PP, design_PK)
    covariance_KK = np.linalg.inv(design_PK.T @ weighted_PK)
    coefficients_K = covariance_KK @ (weighted_PK.T @ gaps_P)
    residuals = gaps_P - design_PK @ coefficients_K
    return GapFit(coefficients_K, covariance_KK, float(residuals @ np.linalg.solve(covariance_PP, residuals)))
