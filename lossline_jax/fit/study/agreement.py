"""Say where a group does not agree with values that it shares, or at which parameters are held."""

import dataclasses
from collections.abc import Mapping, Sequence

import scipy.special

from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import Law, Objective
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law_many

# Both numbers are choices. The F test takes rows for independent, so a small rise of the rmse is not told.
LARGEST_RATIO = 1.2  # of the rmse to that of the group with all parameters free
DISAGREE_BELOW = 0.01  # p of the F test of the values that the group does not choose


def with_disagreement(
    fits: Sequence[FitResult],
    law: Law,
    data: Sequence[DataSet],
    *,
    objective: Objective,
    shared: Sequence[str],
    fixed: Mapping[str, float],
) -> list[FitResult]:
    """Return the fits with a note on each group that fits clearly worse than with all parameters free.

    Args:
        fits: the fit of each group, with shared or held parameters.
        law: the law of the fits.
        data: the points of each group.
        objective: the objective of the fits.
        shared: the parameters with one value in all groups.
        fixed: the parameters that are held.
    """
    if not (shared or fixed):
        return list(fits)
    free = [dataclasses.replace(points, fixed={}) for points in data]
    alone = fit_law_many(law, free, objective=objective, level=None)
    reasons = [f"the groups do not agree in {', '.join(shared)}"] if shared else []
    if fixed:
        held = ", ".join(f"{name} = {value:g}" for name, value in fixed.items())
        reasons.append(f"the rows do not agree with {held}")
    num_given, num_free = len(shared) + len(fixed), len(law.parameters)
    noted = []
    for fit, own in zip(fits, alone, strict=True):
        if _is_worse(fit, own, num_given, num_free):
            fit = fit.with_note(
                f"rmse {fit.rmse:.3g}, with all parameters free {own.rmse:.3g}: {', or '.join(reasons)}"
            )
        noted.append(fit)
    return noted


def _is_worse(fit: FitResult, own: FitResult, num_given: int, num_free: int) -> bool:
    """Tell whether given values raise the rmse by more than the ratio and by more than chance."""
    freedom = own.num_points - num_free
    if not (fit.has_curve and own.has_curve) or fit.rmse is None or own.rmse is None or freedom < 1:
        return False
    if fit.rmse <= LARGEST_RATIO * own.rmse:
        return False
    if own.rmse == 0:
        return True
    statistic = ((fit.rmse / own.rmse) ** 2 - 1) * freedom / num_given
    return bool(scipy.special.fdtrc(num_given, freedom, statistic) < DISAGREE_BELOW)
