"""Profile-likelihood intervals of a joint problem: one parameter is held, and all data sets are fitted again together.

The search follows the straight line on which the linearised problem compensates for the held parameter. The root of the
rise of the objective is nearly linear along it, so its crossing with the allowed rise is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.solver.derivatives import curves_and_jacobians
from lossline_jax.fit.solver.joint import JointProblem, minimise_jointly

# Multiples of the step at which the linearised problem expects the crossing: a first pass, and one that goes farther.
# A choice.
NEAR = (0.4, 0.7, 0.9, 1.1, 1.4, 2.0, 3.0)
FAR = (5.0, 8.0, 15.0, 40.0, np.inf)


@dataclass(frozen=True, eq=False)
class Stacked:
    """All free parameters of a joint problem in one row: the shared ones first, then those of each data set."""

    data_set_K: np.ndarray  # number of the data set of each parameter; -1: shared
    index_K: np.ndarray  # index of the parameter in the law
    residual_n: np.ndarray  # of all data sets
    jacobian_nK: np.ndarray
    weights_n: np.ndarray
    data_set_n: np.ndarray  # number of the data set of each point


def stack(joint: JointProblem, u_GP: np.ndarray) -> Stacked:
    """Return the residuals and derivatives of all data sets at one row of search coordinates each.

    Args:
        joint: the joint problem.
        u_GP: search coordinates of each data set, with equal shared parameters.
    """
    pairs = [(-1, k) for k in joint.shared] + [(g, k) for g, own in enumerate(joint.own) for k in own]
    data_set_K, index_K = np.array(pairs).T
    blocks, residuals = [], []
    derivatives = curves_and_jacobians(joint.problems, list(u_GP))
    for g, (problem, (_, jacobian_nP)) in enumerate(zip(joint.problems, derivatives, strict=True)):
        columns = jacobian_nP[:, index_K]
        blocks.append(np.where((data_set_K == g) | (data_set_K == -1), columns, 0.0))
        residuals.append(problem.residuals(u_GP[g][None])[0])
    return Stacked(
        data_set_K=data_set_K,
        index_K=index_K,
        residual_n=np.concatenate(residuals),
        jacobian_nK=np.concatenate(blocks),
        weights_n=np.concatenate([problem.weights_n for problem in joint.problems]),
        data_set_n=np.repeat(np.arange(len(joint.problems)), [problem.num_points for problem in joint.problems]),
    )


@dataclass(frozen=True)
class JointProfile:
    """The ends of the intervals in search coordinates, and the best point that the profile met."""

    ends: dict[tuple[int, int], tuple[float, float]]  # by (data set or -1, index of the parameter)
    reached: tuple[tuple[int, int], ...]  # parameters whose interval reaches a bound
    met_objective: float
    met_GP: np.ndarray


@dataclass(frozen=True)
class _Side:
    """One end of the interval of one parameter."""

    parameter: int  # position in the stacked row
    direction_GP: np.ndarray  # change of all coordinates for a step of 1 towards the expected crossing
    farthest: float  # multiple of this step at which a bound is reached


def joint_profile(
    joint: JointProblem,
    u_GP: np.ndarray,
    objective: float,
    *,
    stacked: Stacked,
    limits: tuple[np.ndarray, np.ndarray],
    wanted: Sequence[int],
) -> JointProfile:
    """Profile some parameters in both directions from the minimum.

    Args:
        joint: the joint problem.
        u_GP: its minimum.
        objective: the objective at the minimum.
        stacked: the residuals and derivatives at the minimum.
        limits: (K,) the allowed rise of the objective for each parameter, and (K, K) the curvature's inverse.
        wanted: indices in the law of the parameters to profile.
    """
    limit_K, inverse_KK = limits
    sides = []
    for position in np.flatnonzero(np.isin(stacked.index_K, list(wanted))).tolist():
        for sign in (-1.0, 1.0):
            step_K = sign * np.sqrt(2 * limit_K[position] / inverse_KK[position, position]) * inverse_KK[:, position]
            sides.append(_side(joint, u_GP, stacked, step_K=step_K, position=position))
    met_objective, met_GP = objective, u_GP
    crossings: dict[int, float] = {}
    roots = {number: ([0.0], [0.0]) for number in range(len(sides))}
    for multiples in (NEAR, FAR):
        lanes = [(number, side) for number, side in enumerate(sides) if number not in crossings and side.farthest > 0]
        if not lanes:
            break
        at_SM = np.array([[min(multiple, side.farthest) for multiple in multiples] for _, side in lanes])
        rise_SM, lowest = _rises(
            joint, u_GP, objective, stacked=stacked, lanes=[side for _, side in lanes], at_SM=at_SM
        )
        if lowest[0] < met_objective:
            met_objective, met_GP = lowest
        for (number, side), at, rise in zip(lanes, at_SM, rise_SM, strict=True):
            roots[number] = ([*roots[number][0], *at], [*roots[number][1], *np.sqrt(np.maximum(rise, 0.0))])
            met_at, met_roots = map(np.array, roots[number])
            crossing = _crossing(met_at, met_roots, float(np.sqrt(limit_K[side.parameter])))
            if crossing is not None:
                crossings[number] = crossing
    ends: dict[tuple[int, int], list[float]] = {}
    reached = []
    for number, side in enumerate(sides):
        name = int(stacked.data_set_K[side.parameter]), int(stacked.index_K[side.parameter])
        if number not in crossings:
            reached.append(name)
        multiple = crossings.get(number, side.farthest)
        row = max(name[0], 0)
        ends.setdefault(name, []).append(float(u_GP[row, name[1]] + multiple * side.direction_GP[row, name[1]]))
    intervals = {name: (min(pair), max(pair)) for name, pair in ends.items()}
    return JointProfile(intervals, tuple(dict.fromkeys(reached)), met_objective, met_GP)


def _side(joint: JointProblem, u_GP: np.ndarray, stacked: Stacked, *, step_K: np.ndarray, position: int) -> _Side:
    direction_GP = np.zeros_like(u_GP)
    for change, g, k in zip(step_K, stacked.data_set_K, stacked.index_K, strict=True):
        direction_GP[slice(None) if g < 0 else g, k] = change
    g, k = int(stacked.data_set_K[position]), int(stacked.index_K[position])
    if g < 0:
        lower, upper = (bound[joint.shared.index(k)] for bound in joint.bounds())
    else:
        lower, upper = joint.problems[g].lower_P[k], joint.problems[g].upper_P[k]
    change = direction_GP[max(g, 0), k]
    room = (upper if change > 0 else lower) - u_GP[max(g, 0), k]
    return _Side(position, direction_GP, max(float(room / change), 0.0) if change != 0 else 0.0)


def _rises(
    joint: JointProblem,
    u_GP: np.ndarray,
    objective: float,
    *,
    stacked: Stacked,
    lanes: Sequence[_Side],
    at_SM: np.ndarray,
) -> tuple[np.ndarray, tuple[float, np.ndarray]]:
    """Return (S, M) the rise of the objective for each side and multiple, and the lowest point that was met."""
    num_multiples = at_SM.shape[1]
    directions = np.repeat(np.stack([side.direction_GP for side in lanes], axis=1), num_multiples, axis=1)
    start_GLP = u_GP[:, None, :] + directions * at_SM.ravel()[None, :, None]
    held_GLP, held_Lq = np.zeros(start_GLP.shape, bool), np.zeros((start_GLP.shape[1], len(joint.shared)), bool)
    for number, side in enumerate(lanes):
        rows = slice(number * num_multiples, (number + 1) * num_multiples)
        g, k = stacked.data_set_K[side.parameter], int(stacked.index_K[side.parameter])
        if g < 0:
            held_Lq[rows, joint.shared.index(k)] = True
        else:
            held_GLP[g, rows, k] = True
    lower, upper = joint.bounds()
    shared = list(joint.shared)
    start_GLP[:, :, shared] = np.clip(start_GLP[:, :, shared], lower, upper)
    points, _ = minimise_jointly(joint, start_GLP, held_GLP=held_GLP, held_Lq=held_Lq)
    lowest = int(points.objective_L.argmin())
    met = float(points.objective_L[lowest]), points.u_GLP[:, lowest]
    return points.objective_L.reshape(at_SM.shape) - objective, met


def _crossing(at: np.ndarray, roots: np.ndarray, limit: float) -> float | None:
    """Return the multiple at which the root of the rise first passes `limit`. None: it does not."""
    order = np.argsort(at, kind="stable")
    at, roots = at[order], roots[order]
    above = roots > limit
    if not above.any():
        return None
    k = int(np.argmax(above))
    if k == 0 or not np.isfinite(roots[k]):
        return float(at[max(k - 1, 0)])
    share = (limit - roots[k - 1]) / (roots[k] - roots[k - 1])
    return float(at[k - 1] + share * (at[k] - at[k - 1]))
