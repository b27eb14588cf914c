"""Replace many points of a line by few weighted ones that have nearly the same sum of squares, for every curve.

The range of x is cut into bins. In a bin, a smooth curve f is nearly a polynomial of low degree. So the sum of
w (y - f)^2 over the points of the bin is known from few numbers. It is the sum over Gauss's nodes of these points,
with their weights, of the same squares, plus a constant (Golub & Welsch 1969). At a node, y is the best polynomial
through the points of the bin.
"""

import dataclasses

import numpy as np

from lossline_jax.fit.solver.problem import Problem

# All numbers below are choices.
MANY = 1000  # points; a problem with fewer is never condensed
DEGREE = 4  # nodes of a bin; polynomials of a lower degree are exact
NUM_BINS = 64
FINEST = 1e-4  # share of the range of x: the width of the first bin, as near as a curve may begin below the points
ACCURACY = 1e-5  # share of the range of a curve: the largest error of its polynomials
PART = 256  # points of a part


def can_be_condensed(problem: Problem) -> bool:
    """Tell whether a problem has many points, one input, and plain least squares as its objective."""
    objective = problem.objective
    plain = not objective.logarithmic and objective.delta is None
    return problem.num_points >= MANY and len(problem.law.inputs) == 1 and plain


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
    (name,) = problem.law.inputs
    used = problem.weights_n > 0
    order = np.argsort(problem.inputs[name][used], kind="stable")
    x, y, weights = (values[used][order] for values in (problem.inputs[name], problem.y_n, problem.weights_n))
    edges = x[0] + (x[-1] - x[0]) * np.geomspace(FINEST, 1.0, NUM_BINS)[:-1]
    parts = [
        _nodes(x[low:high], y[low:high], weights[low:high])
        for low, high in zip(*_ends(np.searchsorted(x, edges), x.size), strict=True)
        if high > low
    ]
    nodes, values, node_weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return _with_points(problem, {name: nodes}, values, node_weights)


def is_faithful(problem: Problem, small: Problem, u_P: np.ndarray) -> bool:
    """Tell whether a curve is smooth enough for the bins of a condensed problem.

    Args:
        problem: the problem with all points.
        small: the condensed problem.
        u_P: the search coordinates of the curve.
    """
    curve = problem.curve(u_P[None])[0]
    of_curve = condensed(dataclasses.replace(problem, y_n=curve))
    distances = np.abs(of_curve.y_n - small.curve(u_P[None])[0])
    return bool(np.all(distances <= ACCURACY * np.ptp(curve)))


def _ends(cuts: np.ndarray, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first point of each bin, and the first point after it."""
    return np.concatenate([[0], cuts]), np.concatenate([cuts, [num_points]])


def _with_points(problem: Problem, inputs: dict[str, np.ndarray], y: np.ndarray, weights: np.ndarray) -> Problem:
    return dataclasses.replace(problem, inputs=inputs, y_n=y, weights_n=weights)


def _nodes(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nodes, values and weights of one bin. Few points or few values of x are returned as they are.

    The polynomials that are orthogonal over the points come from Lanczos' recurrence. The nodes are the eigenvalues of
    its matrix, and the weights come from the eigenvectors.
    """
    if x.size <= DEGREE:
        return x, y, weights
    middle, half = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    if not half > 0:
        total = weights.sum()
        return x[:1], np.array([weights @ y / total]), np.array([total])
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
    coefficients = basis @ (roots * y)
    total = weights.sum()
    return middle + half * at, vectors.T @ coefficients / (first * np.sqrt(total)), total * first**2
