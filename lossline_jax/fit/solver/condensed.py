"""Replace many points of a line by few weighted ones that have nearly the same sum of squares, for every curve.

The range of x is cut into bins. In a bin, a smooth curve f is nearly a polynomial of low degree. So the sum of
w (y - f)^2 over the points of the bin is known from few numbers. It is the sum over Gauss's nodes of these points,
with their weights, of the same squares, plus a constant (Golub & Welsch 1969). At a node, y is the best polynomial
through the points of the bin.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lossline_jax.fit.solver.problem import Problem

# All numbers below are choices.
MANY = 1000  # points; a problem with fewer is never condensed
DEGREE = 4  # nodes of a bin; polynomials of a lower degree are exact
NUM_BINS = 64
FINEST = 1e-4  # share of the range of x: the width of the first bin, as near as a curve may begin below the points
ACCURACY = 1e-5  # share of the range of a curve: the largest error of its polynomials
MANY_OF_CLUSTERS = 400  # points; resamples of whole clusters of fewer points are fitted to all of them
BINS_OF_CLUSTER = 5
PART = 256  # points of a part


def can_be_condensed(problem: Problem) -> bool:
    """Tell whether a problem has many points, one input, and plain least squares as its objective."""
    return problem.num_points >= MANY and _is_plain(problem)


def _is_plain(problem: Problem) -> bool:
    objective = problem.objective
    return len(problem.law.inputs) == 1 and not objective.logarithmic and objective.delta is None


def part(problem: Problem) -> Problem:
    """Return the problem with points that are spread evenly in the order of its inputs. The bounds stay.

    Args:
        problem: the problem. One with few points is returned as it is.
    """
    if problem.num_points < MANY:
        return problem
    order = np.lexsort([problem.inputs[name] for name in reversed(list(problem.law.inputs))])
    chosen = order[np.linspace(0, order.size - 1, PART).round().astype(int)]
    return _with_points(
        problem,
        {name: values[chosen] for name, values in problem.inputs.items()},
        problem.y_n[chosen],
        problem.weights_n[chosen],
    )


def condensed(problem: Problem) -> Problem:
    """Return a problem of at most 256 points whose objective differs from the given one by nearly a constant.

    Args:
        problem: a problem that can be condensed.
    """
    return _with_nodes(problem, _bins(problem))


def is_faithful(problem: Problem, small: Problem, u_P: np.ndarray) -> bool:
    """Tell whether a curve is smooth enough for the bins of a condensed problem.

    Args:
        problem: the problem with all points.
        small: the condensed problem.
        u_P: the search coordinates of the curve.
    """
    return _follows(problem, small, _bins(problem), u_P)


def condensed_by_cluster(problem: Problem, codes: np.ndarray, u_P: np.ndarray) -> tuple[Problem, np.ndarray]:
    """Return a problem of fewer points, each of which belongs to one cluster, and the cluster of each of them.

    The problem of whole clusters, each with a weight of its own, then has nearly the same differences of the objective
    as before, whatever the weights. A problem that has few points, or few in a cluster, is returned as it is.

    Args:
        problem: the problem.
        codes: (n,) the number of the cluster of each point.
        u_P: the search coordinates of the curve about which the clusters vary.
    """
    most_nodes = DEGREE * BINS_OF_CLUSTER * (int(codes.max()) + 1)
    if problem.num_points < max(MANY_OF_CLUSTERS, 2 * most_nodes) or not _is_plain(problem):
        return problem, codes
    (name,) = problem.law.inputs
    order = np.lexsort([problem.inputs[name], codes])
    order = order[problem.weights_n[order] > 0]
    ends = np.flatnonzero(np.diff(codes[order])) + 1
    bins = [part for cluster in np.split(order, ends) for part in np.array_split(cluster, BINS_OF_CLUSTER) if part.size]
    # The nodes of the points and of the curve come out of one pass, because the pass takes most of the time.
    curve = problem.curve(u_P[None])[0]
    x = problem.inputs[name]
    parts = [_nodes(x[rows], problem.weights_n[rows], problem.y_n[rows], curve[rows]) for rows in bins]
    nodes, weights, values, of_curve = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    small = _with_points(problem, {name: nodes}, values, weights)
    if not _is_close(of_curve, small, curve, u_P):
        return problem, codes
    return small, np.repeat([codes[rows[0]] for rows in bins], [part[0].size for part in parts])


def _bins(problem: Problem) -> list[np.ndarray]:
    """Return the points of each bin, in the order of x. The first bins are fine, because a line may begin there."""
    (name,) = problem.law.inputs
    order = np.argsort(problem.inputs[name], kind="stable")
    order = order[problem.weights_n[order] > 0]
    x = problem.inputs[name][order]
    edges = x[0] + (x[-1] - x[0]) * np.geomspace(FINEST, 1.0, NUM_BINS)[:-1]
    return [rows for rows in np.split(order, np.searchsorted(x, edges)) if rows.size]


def _follows(problem: Problem, small: Problem, bins: Sequence[np.ndarray], u_P: np.ndarray) -> bool:
    """Tell whether the polynomials through a curve at all points meet the curve at the nodes."""
    curve = problem.curve(u_P[None])[0]
    of_curve = _with_nodes(dataclasses.replace(problem, y_n=curve), bins)
    return _is_close(of_curve.y_n, small, curve, u_P)


def _is_close(of_curve: np.ndarray, small: Problem, curve: np.ndarray, u_P: np.ndarray) -> bool:
    """Tell whether the polynomials through a curve meet it at the nodes.

    Args:
        of_curve: the polynomials at the nodes of `small`.
        small: the condensed problem.
        curve: (n,) the curve at all points.
        u_P: the search coordinates of the curve.
    """
    distances = np.abs(of_curve - small.curve(u_P[None])[0])
    return bool(np.all(distances <= ACCURACY * np.ptp(curve)))


def _with_nodes(problem: Problem, bins: Sequence[np.ndarray]) -> Problem:
    """Return the problem with the nodes of each bin. A bin has the numbers of its points, in the order of x."""
    (name,) = problem.law.inputs
    x = problem.inputs[name]
    parts = [_nodes(x[rows], problem.weights_n[rows], problem.y_n[rows]) for rows in bins]
    nodes, weights, values = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return _with_points(problem, {name: nodes}, values, weights)


def _with_points(problem: Problem, inputs: dict[str, np.ndarray], y: np.ndarray, weights: np.ndarray) -> Problem:
    return dataclasses.replace(problem, inputs=inputs, y_n=y, weights_n=weights)


def _nodes(x: np.ndarray, weights: np.ndarray, *curves: np.ndarray) -> list[np.ndarray]:
    """Return the nodes of one bin, their weights, and the values of each curve there.

    Few points or few values of x are returned as they are.

    The polynomials that are orthogonal over the points come from Lanczos' recurrence. The nodes are the eigenvalues of
    its matrix, and the weights come from the eigenvectors.
    """
    if x.size <= DEGREE:
        return [x, weights, *curves]
    middle, half = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    if not half > 0:
        total = weights.sum()
        return [x[:1], np.array([total]), *(np.array([weights @ y / total]) for y in curves)]
    scaled, roots = (x - middle) / half, np.sqrt(weights)
    basis = np.zeros((DEGREE, x.size))
    matrix = np.zeros((DEGREE, DEGREE))
    basis[0] = roots / np.linalg.norm(roots)
    for k in range(DEGREE):
        residual = scaled * basis[k]
        matrix[k, k] = residual @ basis[k]
        residual -= basis[: k + 1].T @ (basis[: k + 1] @ residual)
        residual -= basis[: k + 1].T @ (basis[: k + 1] @ residual)  # twice is enough for float64
        length = float(np.linalg.norm(residual))
        if k + 1 == DEGREE:
            break
        if length < 1e-10:  # the points have only k + 1 values of x
            basis, matrix = basis[: k + 1], matrix[: k + 1, : k + 1]
            break
        matrix[k, k + 1] = matrix[k + 1, k] = length
        basis[k + 1] = residual / length
    at, vectors = np.linalg.eigh(matrix)
    first = vectors[0]
    total = weights.sum()
    values = [vectors.T @ (basis @ (roots * y)) / (first * np.sqrt(total)) for y in curves]
    return [middle + half * at, total * first**2, *values]
