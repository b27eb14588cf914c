"""Profile-likelihood intervals of a fit whose data sets share parameters. Read `joint_intervals` first."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.budgets import MIN_GROUPS
from lossline_jax.fit.group_intervals import RowGroups, note_on_noise
from lossline_jax.fit.solver.grouped_noise import GroupedNoise, allowed_rises, estimate_noise, independent_noise
from lossline_jax.fit.solver.joint import JointProblem
from lossline_jax.fit.solver.joint_profile import JointProfile, Stacked, joint_profile, stack
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.search import SAME_OBJECTIVE


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
    noise, kind, note = _noise(stacked, groups, relative=problems[0].objective.logarithmic)
    is_raw = any(law.names[k] in law.scaled for k in joint.shared)
    direct = [k for k, name in enumerate(law.names) if is_raw or name not in law.scaled]
    profiles = [_profile(joint, minimum, level=level, noise=noise, wanted=direct)]
    if scaled := [k for k in range(len(law.names)) if k not in direct]:
        raw = tuple(problem.unscaled(u_P) for problem, u_P in zip(problems, minimum.u_GP, strict=True))
        at_minimum = dataclasses.replace(minimum, u_GP=on_raw_inputs(problems, raw, minimum.u_GP))
        raw_joint = dataclasses.replace(joint, problems=raw)
        profiles.append(_profile(raw_joint, at_minimum, level=level, noise=noise, wanted=scaled))
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
    joint: JointProblem, minimum: JointMinimum, *, level: float, noise: GroupedNoise, wanted: list[int]
) -> JointProfile:
    stacked = stack(joint, minimum.u_GP)
    delta = joint.problems[0].objective.delta
    limits = allowed_rises(noise, stacked.jacobian_nK, stacked.weights_n, delta=delta, level=level)
    return joint_profile(joint, minimum.u_GP, minimum.objective, stacked=stacked, limits=limits, wanted=wanted)


def _noise(stacked: Stacked, groups: Sequence[RowGroups | None], *, relative: bool) -> tuple[GroupedNoise, str, str]:
    """Return the noise of all rows, the kind of the intervals and a note."""
    residual_n, jacobian_nK, block_n = stacked.residual_n, stacked.jacobian_nK, stacked.data_set_n
    independent = independent_noise(residual_n, jacobian_nK, block_n), "of independent rows", ""
    known = [group for group in groups if group is not None]
    if len(known) < len(groups) or len({group.kind for group in known}) != 1:
        return independent
    names = [f"{number} {label}" for number, group in enumerate(known) for label in group.labels]
    group_n = np.unique(names, return_inverse=True)[1]
    num_groups = int(group_n.max()) + 1
    if num_groups < MIN_GROUPS:
        return independent
    logs = [group.log_budget for group in known if group.log_budget is not None]
    log_budget_n = np.concatenate(logs) if len(logs) == len(known) else None
    noise = estimate_noise(
        residual_n, jacobian_nK, group_n, log_budget_n, block_n=block_n, always=all(group.named for group in known)
    )
    if noise is None or noise.is_independent:
        return independent
    kind = known[0].kind
    return noise, f"by {num_groups} {kind}", note_on_noise(noise, kind, relative=relative)
