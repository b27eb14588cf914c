"""Other solvers for the problems of `fit_speed.py`: scipy's TRF, and vmapped L-BFGS in JAX.

Both get the search coordinates, starts and normalised inputs of lossline_jax, and TRF its bounds. L-BFGS has no
bounds, so it searches in the logarithm of E. Its 200 iterations are fixed, as in the published JAX code.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import least_squares

from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.search import spread

NUM_ITERATIONS = 200
MARGIN = 1e-9  # share of the range of a bound: TRF needs its starts strictly inside the bounds

# (search coordinates (P,), inputs) -> (values (n,), slopes (n, P))
Curve = Callable[[np.ndarray, dict[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]


def _chinchilla(u: np.ndarray, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    e, a, b, alpha, beta = u[0], u[1], u[2], np.exp(u[3]), np.exp(u[4])
    ln_n, ln_d = np.log(inputs["N"]), np.log(inputs["D"])
    by_size, by_tokens = np.exp(a - alpha * ln_n), np.exp(b - beta * ln_d)
    slopes = (np.ones_like(ln_n), by_size, by_tokens, -by_size * alpha * ln_n, -by_tokens * beta * ln_d)
    return e + by_size + by_tokens, np.stack(slopes, axis=1)


def _kaplan(u: np.ndarray, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    e, a, b, alpha, beta = u[0], u[1], u[2], np.exp(u[3]), np.exp(u[4])
    by_size, by_tokens = alpha / beta * (a - np.log(inputs["N"])), b - np.log(inputs["D"])
    both = np.logaddexp(by_size, by_tokens)
    value = np.exp(beta * both)
    share_n, share_d = np.exp(by_size - both), np.exp(by_tokens - both)
    slopes = (
        np.ones_like(value),
        value * alpha * share_n,
        value * beta * share_d,
        value * beta * share_n * by_size,
        value * beta * (both - share_n * by_size),
    )
    return e + value, np.stack(slopes, axis=1)


def _shifted_power(u: np.ndarray, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    ln_k, kappa, e_x, e_y = u[0], np.exp(u[1]), u[2], u[3]
    distance = inputs["x"] - e_x
    value = np.exp(ln_k + kappa * np.log(distance))
    slopes = (value, value * kappa * np.log(distance), -value * kappa / distance, np.ones_like(value))
    return value + e_y, np.stack(slopes, axis=1)


CURVES: dict[str, Curve] = {"chinchilla": _chinchilla, "kaplan": _kaplan, "shifted power law": _shifted_power}


def scipy_best(problem: Problem, starts_BP: np.ndarray, analytic: bool, weights_n: np.ndarray | None = None) -> float:
    """Return the lowest objective that TRF reaches from any start, within the bounds. inf: no start has a value.

    Args:
        problem: the law and its data.
        starts_BP: starts, in search coordinates.
        analytic: use the Jacobian of `CURVES` instead of scipy's finite differences.
        weights_n: how often each point counts, for a bootstrap. None: once.
    """
    curve, logarithmic = CURVES[problem.law.name], problem.objective.logarithmic
    inputs, y = problem.inputs, problem.y_n
    if weights_n is not None:
        rows = np.repeat(np.arange(y.size), weights_n.astype(int))
        inputs, y = {name: values[rows] for name, values in inputs.items()}, y[rows]
    target = np.log(y) if logarithmic else y

    def residuals(u):
        f, _ = curve(u, inputs)
        return (np.log(f) if logarithmic else f) - target

    def slopes(u):
        f, slopes_of_f = curve(u, inputs)
        return slopes_of_f / f[:, None] if logarithmic else slopes_of_f

    huber = {} if problem.objective.delta is None else {"loss": "huber", "f_scale": problem.objective.delta}
    lower, upper = problem.lower_P, problem.upper_P
    margin = MARGIN * (upper - lower)
    best = np.inf
    for start in np.clip(starts_BP, lower + margin, upper - margin):
        with contextlib.suppress(ValueError), np.errstate(all="ignore"):  # residuals not finite at the start
            end = least_squares(residuals, start, slopes if analytic else "2-point", (lower, upper), **huber)
            best = min(best, float(end.cost))
    return best


def scipy_fit(problem: Problem, num_starts: int, analytic: bool) -> float:
    """Fit by TRF from the starts of our solver, before our solver solves for the linear parameters."""
    return scipy_best(problem, spread(problem, num_starts), analytic)


@contextlib.contextmanager
def precision(bits: int) -> Iterator[None]:
    """Set the bits of jax's floats while the context is open. The default of jax is 32."""
    with jax.enable_x64(bits == 64):
        yield


def lbfgs_fit(problem: Problem, num_starts: int, bits: int) -> float:
    """Return the sum of log-Huber at the best of 200 iterations of optax.lbfgs, from all starts at once.

    The descent itself is on the mean.
    """
    starts_BP = spread(problem, num_starts)
    starts_BP[:, 0] = np.log(np.maximum(starts_BP[:, 0], 1e-3))  # E of both compute laws
    with precision(bits):
        data = [jnp.asarray(values) for values in (*problem.inputs.values(), problem.y_n)]
        ends = np.array(_DESCENTS[problem.law.name](jnp.asarray(starts_BP), *map(jnp.log, data)), float)
    ends[:, 0] = np.exp(ends[:, 0])
    r = np.abs(problem.residuals(ends))
    delta = problem.objective.delta
    sums = np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).sum(axis=1)
    return float(np.min(np.where(np.isfinite(sums), sums, np.inf)))


def _ln_chinchilla(p, ln_n, ln_d):
    e, a, b, ln_alpha, ln_beta = p
    by_size, by_tokens = a - jnp.exp(ln_alpha) * ln_n, b - jnp.exp(ln_beta) * ln_d
    return jax.nn.logsumexp(jnp.stack([jnp.full_like(by_size, e), by_size, by_tokens]), axis=0)


def _ln_kaplan(p, ln_n, ln_d):
    e, a, b, alpha, beta = p[0], p[1], p[2], jnp.exp(p[3]), jnp.exp(p[4])
    return jnp.logaddexp(e, beta * jnp.logaddexp(alpha / beta * (a - ln_n), b - ln_d))


def _descent(curve: Callable) -> Callable:
    """Return a compiled function (starts (B, P), ln N, ln D, ln L) -> ends (B, P)."""

    @jax.jit
    def run(starts_BP, ln_n, ln_d, ln_y):
        solver = optax.lbfgs()

        def objective(p):
            return jnp.mean(optax.losses.huber_loss(curve(p, ln_n, ln_d), ln_y, delta=1e-3))

        value_and_grad = optax.value_and_grad_from_state(objective)

        def descend(start):
            def step(carry, _):
                p, state = carry
                value, gradient = value_and_grad(p, state=state)
                update, state = solver.update(gradient, state, p, value=value, grad=gradient, value_fn=objective)
                return (optax.apply_updates(p, update), state), None

            (end, _), _ = jax.lax.scan(step, (start, solver.init(start)), None, length=NUM_ITERATIONS)
            return end

        return jax.vmap(descend)(starts_BP)

    return run


_DESCENTS = {"chinchilla": _descent(_ln_chinchilla), "kaplan": _descent(_ln_kaplan)}
