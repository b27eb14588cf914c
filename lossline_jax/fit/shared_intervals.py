"""Profile-likelihood intervals of a fit whose data sets share parameters. Read `joint_intervals` first."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.budgets import MIN_GROUPS, budgets_of
from lossline_jax.fit.group_intervals import BUDGETS, RowGroups, note_on_noise
from lossline_jax.fit.solver.common_noise import NUM_DRAWS, CommonError, common_error
from lossline_jax.fit.solver.grouped_noise import (
    GroupedNoise,
    estimate_noise,
    independent_noise,
    with_groups,
)
from lossline_jax.fit.solver.joint import JointProblem
from lossline_jax.fit.solver.joint_profile import JointProfile, Stacked, joint_profile, stack
from lossline_jax.fit.solver.noise_limits import allowed_rises
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.search import SAME_OBJECTIVE

TOLD_BELOW = 0.05  # p below which a common error is told, by convention


@dataclass(frozen=True, eq=False)
class JointMinimum:
    """The minimum of a joint problem."""

    u_GP: np.ndarray
    objective: float
    converged: bool


@dataclass(frozen=True, eq=False)
class JointIntervals:
    """The intervals of all data sets, by (data set or -1, index of the parameter), in natural units."""

    ends: dict[tuple[int, int], tuple[float, float]]
    reached: tuple[tuple[int, int], ...]
    kind: str
    note: str


def on_raw_inputs(problems: Sequence[Problem], raw: Sequence[Problem], u_GP: np.ndarray) -> np.ndarray:
    """Return the search coordinates (G, P) of `raw` for those of `problems`.

    Args:
        problems: the problem of each data set.
        raw: the same problems on inputs that are not normalised (`Problem.unscaled`).
        u_GP: search coordinates of `problems`.
    """
    return np.stack([r.search(p.natural(u_P)) for p, r, u_P in zip(problems, raw, u_GP, strict=True)])


def joint_intervals(
    joint: JointProblem, minimum: JointMinimum, level: float, groups: list[RowGroups | None]
) -> tuple[JointIntervals, np.ndarray | None]:
    """Return the intervals, and a point below the minimum if the profile met one.

    Args:
        joint: the joint problem.
        minimum: its minimum.
        level: the level of the intervals, between 0 and 1.
        groups: the groups of the rows of each data set.
    """
    law, problems = joint.problems[0].law, joint.problems
    stacked = stack(joint, minimum.u_GP)
    noises, kind, note = _noises(stacked, groups, relative=problems[0].objective.logarithmic)
    is_raw = any(law.names[k] in law.scaled for k in joint.shared)
    direct = [k for k, name in enumerate(law.names) if is_raw or name not in law.scaled]
    profiles = [_profile(joint, minimum, level=level, noises=noises, wanted=direct)]
    if scaled := [k for k in range(len(law.names)) if k not in direct]:
        raw = tuple(problem.unscaled(u_P) for problem, u_P in zip(problems, minimum.u_GP, strict=True))
        at_minimum = dataclasses.replace(minimum, u_GP=on_raw_inputs(problems, raw, minimum.u_GP))
        raw_joint = dataclasses.replace(joint, problems=raw)
        profiles.append(_profile(raw_joint, at_minimum, level=level, noises=noises, wanted=scaled))
    ends: dict[tuple[int, int], tuple[float, float]] = {}
    for profile in profiles:
        for name, pair in profile.ends.items():
            low, high = np.exp(pair) if law.parameters[name[1]].log else pair
            ends[name] = float(low), float(high)
    first = profiles[0]
    is_lower = minimum.objective - first.met_objective > SAME_OBJECTIVE * minimum.objective
    kind = f"{level:.0%}, profile likelihood of {len(problems)} data sets together, {kind}"
    return JointIntervals(ends, first.reached, kind, note), first.met_GP if is_lower else None


def _profile(
    joint: JointProblem, minimum: JointMinimum, *, level: float, noises: list[GroupedNoise], wanted: list[int]
) -> JointProfile:
    """Profile some parameters. Of several kinds of noise, the one that allows most counts for each parameter."""
    stacked = stack(joint, minimum.u_GP)
    delta = joint.problems[0].objective.delta
    allowed = [
        allowed_rises(noise, stacked.jacobian_nK, stacked.weights_n, delta=delta, level=level) for noise in noises
    ]
    limits = np.max([limit_K for limit_K, _ in allowed], axis=0), allowed[0][1]
    return joint_profile(joint, minimum.u_GP, minimum.objective, stacked=stacked, limits=limits, wanted=wanted)


def _noises(
    stacked: Stacked, groups: Sequence[RowGroups | None], *, relative: bool
) -> tuple[list[GroupedNoise], str, str]:
    """Return the noise of all rows, the kind of the intervals and a note.

    The first noise has errors that the rows of a group share within one data set. If data sets have the same budgets,
    a second one has errors that the rows of a budget share in all data sets, such as a misfit of the law. It has no
    error within a data set, so its share holds both. The note has the share of the common error alone.
    """
    residual_n, jacobian_nK, block_n = stacked.residual_n, stacked.jacobian_nK, stacked.data_set_n
    independent = [independent_noise(residual_n, jacobian_nK, block_n)], "of independent rows", ""
    known = [group for group in groups if group is not None]
    if len(known) < len(groups) or len({group.kind for group in known}) != 1:
        return independent
    kind, always = known[0].kind, all(group.named for group in known)
    names = [f"{number} {label}" for number, group in enumerate(known) for label in group.labels]
    group_n = np.unique(names, return_inverse=True)[1]
    num_groups = int(group_n.max()) + 1
    if num_groups < MIN_GROUPS:
        return independent
    logs = [group.log_budget for group in known if group.log_budget is not None]
    log_budget_n = np.concatenate(logs) if len(logs) == len(known) else None
    noise = estimate_noise(residual_n, jacobian_nK, group_n, log_budget_n, block_n=block_n, always=always)
    if noise is None:
        return independent
    noises = [noise]
    common_n = _common_budgets(known, log_budget_n)
    if common_n is not None and MIN_GROUPS <= common_n.max() + 1 < num_groups:
        noises.append(with_groups(noise, residual_n, jacobian_nK, common_n, always=always))
    if all(each.is_independent for each in noises):
        return independent
    notes = [] if noise.is_independent else [note_on_noise(noise, kind, relative=relative)]
    if common_n is not None and len(noises) > 1 and noises[1].shared > 0:
        notes.append(_note_on_common(common_error(noise, residual_n, jacobian_nK, common_n)))
    return noises, f"by {num_groups} {kind}", "; ".join(notes)


def _note_on_common(common: CommonError | None) -> str:
    """Return what the residuals show of an error that all data sets share at a budget."""
    allowed = "the intervals also allow for an error that all data sets share at a budget"
    if common is None or common.p_value >= TOLD_BELOW:
        return allowed
    at_most = "at most " if common.p_value <= 1 / NUM_DRAWS else ""
    p_value = f"p {at_most}{common.p_value:.2g}"
    return f"{common.share:.0%} of the error variance is common to all data sets at a budget ({p_value}); {allowed}"


def _common_budgets(groups: Sequence[RowGroups], log_budget_n: np.ndarray | None) -> np.ndarray | None:
    """Return the number of the budget of each row, where rows of several data sets have one budget. None: not known."""
    if groups[0].kind != BUDGETS:
        return None
    if groups[0].named or log_budget_n is None:
        labels = np.concatenate([np.asarray(group.labels).astype(str) for group in groups])
        return np.unique(labels, return_inverse=True)[1]
    labels = budgets_of(np.exp(log_budget_n - log_budget_n.mean()), np.ones(log_budget_n.size))
    return None if labels is None else np.unique(labels, return_inverse=True)[1]
