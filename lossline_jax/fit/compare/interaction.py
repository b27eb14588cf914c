"""Tell whether the gap of a level depends on the level of another factor: the interaction of two factors.

A factor that was crossed with another one has several matched pairs. Their mean is no answer if their gaps differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.special

from lossline_jax.fit.compare.gap_design import GapDesign, fit_gaps
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.result import INTERVAL_LEVEL
from lossline_jax.formatting import p_text

SIGNIFICANCE = 0.05  # probability, by convention


@dataclass(frozen=True)
class ConditionalGap:
    """The gap of a level over the pairs with one level of another factor."""

    level: str  # of the other factor
    gap: float
    interval: tuple[float, float]  # 90%, Student's t with the noise floor
    num_pairs: int


@dataclass(frozen=True)
class Interaction:
    """The gap of one level of a factor at each level of another factor, and the test that they are equal."""

    level: str
    other_factor: str
    found: bool  # both tests reject, and the gaps differ by more than the noise floor
    p: float  # of "equal gaps" of this level: F test with runs as units
    p_holm: float  # the same test over all levels of the factor, Holm-corrected over all pairs of factors
    gaps: tuple[ConditionalGap, ...]  # in the order of the settings

    @property
    def changes_sign(self) -> bool:
        """True: the gap surely lies on both sides of zero, so its mean over all pairs is no answer."""
        return any(gap.interval[1] < 0 for gap in self.gaps) and any(gap.interval[0] > 0 for gap in self.gaps)

    def __str__(self) -> str:
        gaps = ", ".join(f"{gap.gap:+.4f} with {gap.level}" for gap in self.gaps)
        return f"gap {gaps} (interaction with {self.other_factor}, p {p_text(self.p)})"


def measure_interactions(factor: str, design: GapDesign, noise: Noise | None) -> list[list[Interaction]]:
    """Test for each other factor whether the gaps of this factor depend on its level.

    The first model has one mean gap for each level of the factor. The second model has one for each level of the
    factor and each level of the other factor. The gaps are fitted with the covariance of their errors.

    Args:
        factor: the factor.
        design: its gaps.
        noise: the variation of a run's distance between seeds. None: no line.

    Returns:
        One list for each other factor that can be tested, with its levels. None is found until they are judged:
        `p_holm` holds the uncorrected p of the joint test.
    """
    if noise is None or not noise.repeated or not noise.floor > 0 or not design.levels:
        return []
    tested = []
    for other in design.reference_levels[0]:
        if other == factor:
            continue
        cells = [(own, levels[other]) for own, levels in zip(design.levels, design.reference_levels, strict=True)]
        crossed = [level for level in dict.fromkeys(design.levels) if len({b for a, b in cells if a == level}) > 1]
        if crossed:
            p_joint = _equal_p(cells, design, noise)
            tested.append([_of_level(level, other, cells, design, noise=noise, p_joint=p_joint) for level in crossed])
    return tested


def judge_interactions(tested: Sequence[Interaction], p_holm: float, noise: Noise) -> tuple[Interaction, ...]:
    """Return the interactions of one factor with another one, each with its answer.

    An interaction is found where three things hold. The joint test rejects at 5% (Holm), the test of the level rejects
    (Bonferroni over the levels), and its gaps differ by more than the noise floor.

    Args:
        tested: the interaction of each level of the factor.
        p_holm: the p-value of the joint test, corrected over all pairs of factors.
        noise: the noise of the factor.
    """
    judged = []
    for item in tested:
        gaps = [gap.gap for gap in item.gaps]
        significant = p_holm < SIGNIFICANCE and item.p < SIGNIFICANCE / len(tested)
        judged.append(replace(item, p_holm=p_holm, found=significant and max(gaps) - min(gaps) > noise.floor))
    return tuple(judged)


def cautious_interactions(
    interactions: Sequence[Interaction], without: Sequence[Sequence[Interaction]]
) -> tuple[Interaction, ...]:
    """Withdraw each interaction that is not found without the runs that lie far off.

    Args:
        interactions: those of all runs.
        without: those without the far runs, one sequence for each set of runs that is left out.
    """
    found: list[Mapping[tuple[str, str], bool]] = [
        {(item.level, item.other_factor): item.found for item in rest} for rest in without
    ]
    return tuple(
        replace(item, found=item.found and all(rest.get((item.level, item.other_factor), False) for rest in found))
        for item in interactions
    )


def _of_level(
    level: str,
    other: str,
    cells: Sequence[tuple[str, str]],
    design: GapDesign,
    *,
    noise: Noise,
    p_joint: float,
) -> Interaction:
    """Return the gaps of one level at each level of the other factor, and their test."""
    own = np.array([k for k, (a, _) in enumerate(cells) if a == level])
    cells_of_level = [cells[k] for k in own]
    part = GapDesign(
        tuple(design.levels[k] for k in own),
        tuple(design.reference_levels[k] for k in own),
        design.gaps_P[own],
        design.covariance_PP[np.ix_(own, own)],
    )
    names = list(dict.fromkeys(b for _, b in cells_of_level))
    dummies_PB = np.array([[float(b == name) for name in names] for _, b in cells_of_level])
    fit = fit_gaps(dummies_PB, part.gaps_P, part.covariance_PP)
    t = float(scipy.special.stdtrit(noise.degrees_of_freedom, (1 + INTERVAL_LEVEL) / 2))
    halves = t * noise.floor * np.sqrt(np.diag(fit.covariance_KK))
    gaps = tuple(
        ConditionalGap(name, float(gap), (float(gap - half), float(gap + half)), int(count))
        for name, gap, half, count in zip(names, fit.coefficients_K, halves, dummies_PB.sum(0), strict=True)
    )
    return Interaction(level, other, False, _equal_p(cells_of_level, part, noise), p_joint, gaps)


def _equal_p(cells: Sequence[tuple[str, str]], design: GapDesign, noise: Noise) -> float:
    """Return the p-value of "the gaps of a level do not depend on the other factor"."""
    levels, both = list(dict.fromkeys(a for a, _ in cells)), list(dict.fromkeys(cells))
    by_level_PL = np.array([[float(a == level) for level in levels] for a, _ in cells])
    by_both_PC = np.array([[float(cell == name) for name in both] for cell in cells])
    squares = fit_gaps(by_level_PL, design.gaps_P, design.covariance_PP).squares
    squares_of_both = fit_gaps(by_both_PC, design.gaps_P, design.covariance_PP).squares
    num_more = len(both) - len(levels)
    ratio = max(squares - squares_of_both, 0.0) / num_more / noise.floor**2
    return float(scipy.special.fdtrc(num_more, noise.degrees_of_freedom, ratio))
