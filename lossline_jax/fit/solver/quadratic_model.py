"""Compute the residuals of a law, their slopes, and the bounded step of the quadratic model.

All functions are traced by jax. The lane is the last axis. Letters of shapes: B lanes, n points, P parameters.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lossline_jax.fit.law import Law, Objective

TINY_DAMPING = 1e-9  # relative to the diagonal: it only keeps columns that are nearly alike solvable. A choice.


def bounded_step(u: Any, gradient: Any, hessian: Any, *, lower: Any, upper: Any, free: Any, damping: Any) -> jax.Array:
    """Return (P, B) damped steps within the bounds.

    A coordinate on a bound does not move if its gradient presses it against the bound. A step that would cross a bound
    ends on the bound, and the other coordinates are solved for again with this end given.

    Args:
        u: (P, B) search coordinates.
        gradient: (P, B).
        hessian: (P, P, B).
        lower: (P, B) lower bounds.
        upper: (P, B) upper bounds.
        free: (P, B) False for a coordinate that is held.
        damping: (B,), relative to the diagonal of the Hessian.
    """
    moving = free & ~(((u <= lower) & (gradient > 0)) | ((u >= upper) & (gradient < 0)))
    step = solve_damped(hessian, gradient, moving, damping)
    to_bound = jnp.clip(u + step, lower, upper) - u
    crossing = (u + step < lower) | (u + step > upper)
    held = jnp.where(crossing & moving, to_bound, 0.0)
    shifted = gradient + jnp.sum(hessian * held[None], axis=1)
    return held + solve_damped(hessian, shifted, moving & ~crossing, damping)


def solve_damped(hessian: Any, gradient: Any, moving: Any, damping: Any) -> jax.Array:
    """Return the (P, B) solutions of (H + damping diag H) step = -gradient, which are 0 in coordinates that are held.

    The method is Gauss-Jordan elimination without pivots. None are needed: scaled to a diagonal of 1 + damping, H is
    positive definite.

    Args:
        hessian: H, (P, P, B).
        gradient: (P, B).
        moving: (P, B) False for a coordinate that is held.
        damping: (B,), relative to the diagonal of H.
    """
    size = gradient.shape[0]
    identity = jnp.eye(size)[:, :, None]
    diagonal = jnp.sum(hessian * identity, axis=1)
    usable = moving & (diagonal > 0)
    scale = jnp.where(usable, 1.0 / jnp.sqrt(jnp.where(usable, diagonal, 1.0)), 0.0)
    scaled = hessian * scale[:, None] * scale[None]
    table = jnp.where(identity > 0, 1.0 + damping, scaled)
    table = jnp.concatenate([table, (gradient * scale)[:, None]], axis=1)

    def eliminate(k: jax.Array, table: jax.Array) -> jax.Array:
        row = table[k] / table[k, k]
        return (table - table[:, k, None] * row).at[k].set(row)

    return -jax.lax.fori_loop(0, size, eliminate, table)[:, size] * scale


class Kind(NamedTuple):
    """The kind of a residual: a hashable argument that selects the compiled program."""

    form: str  # "plain": y - f; "relative": (y - f) / y; "log": ln(y - offset) - ln(f - offset)
    offset: str | None = None  # the parameter whose value is the offset. None: the offset is 0
    squares: bool = False  # squares are summed, so that parameters in which the curve is linear can be solved for


def kind_of(objective: Objective) -> Kind:
    """Return the kind of the residuals of an objective."""
    return Kind("log", objective.offset) if objective.logarithmic else Kind("plain", squares=objective.delta is None)


def search_values(law: Law, u: Any) -> dict[str, jax.Array]:
    """Return the parameters by name, (B,) each.

    Args:
        law: the law.
        u: search coordinates, an array (P, B) or a sequence of P arrays (B,).
    """
    return {p.name: jnp.exp(u[k]) if p.log else u[k] for k, p in enumerate(law.parameters)}


def residuals(law: Law, kind: Kind, data: dict[str, Any], values: dict[str, jax.Array]) -> jax.Array:
    """Return the (n, B) residuals of parameters by name."""
    curve = jnp.broadcast_to(law.function(values, data["inputs"]), data["y"].shape)
    if kind.form == "log":
        shift = values[kind.offset] if kind.offset else 0.0
        return jnp.log(data["y"] - shift) - jnp.log(curve - shift)
    return (data["y"] - curve) / (data["y"] if kind.form == "relative" else 1.0)


def with_slopes(function: Callable[..., jax.Array], at: Sequence[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    """Return `function(*at)` and its derivatives by each argument. The lanes must not depend on each other.

    Args:
        function: a function of P arrays (B,) with a value (n, B).
        at: the arguments.

    Returns:
        The value (n, B) and P derivatives (n, B).
    """
    value, directional_derivative = jax.linearize(function, *at)
    one, zero = jnp.ones_like(at[0]), jnp.zeros_like(at[0])
    slopes = [directional_derivative(*(one if j == k else zero for j in range(len(at)))) for k in range(len(at))]
    return value, slopes


def quadratic(
    residual: jax.Array, slopes: list[jax.Array], *, delta: Any, share: Any, weights: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the objective (B,), gradient (P, B) and curvature (P, P, B) of the weighted objective.

    The curvature of a point is 1 within delta. Beyond, it is the curvature of iterated reweighting times `share`.

    Args:
        residual: (n, B).
        slopes: P derivatives (n, B) of the residual.
        delta: of Huber's function. None: least squares, whose sums then take two thirds of the time.
        share: (B,) or a number, from 0 to 1.
        weights: (n, B) weights of the points.
    """
    if delta is None:
        value, psi, curvature = 0.5 * residual * residual, weights * residual, weights
    else:
        size = jnp.abs(residual)
        inside = size <= delta
        value = jnp.where(inside, 0.5 * residual * residual, delta * (size - 0.5 * delta))
        psi = weights * jnp.clip(residual, -delta, delta)
        curvature = weights * jnp.where(inside, 1.0, share * delta / size)
    count = len(slopes)
    curved = [curvature * slope for slope in slopes]
    entries = {(i, j): jnp.sum(curved[i] * slopes[j], axis=0) for i in range(count) for j in range(i, count)}
    hessian = jnp.stack([entries[min(i, j), max(i, j)] for i in range(count) for j in range(count)])
    gradient = jnp.stack([jnp.sum(psi * slope, axis=0) for slope in slopes])
    return jnp.sum(weights * value, axis=0), gradient, hessian.reshape(count, count, -1)


def project_linear(
    law: Law, kind: Kind, data: dict[str, Any], u: list[jax.Array], *, bounds: tuple[str, str]
) -> list[jax.Array]:
    """Move the linear parameters to the least sum of squares, with all nonlinear parameters held.

    The result is exact for residuals that are affine in the curve: "plain" and "relative". The coordinates of the
    nonlinear parameters are returned as the same arrays. So the compiler sees that their powers are already computed.

    Args:
        law: the law.
        kind: the kind of the residuals, "plain" or "relative".
        data: the data of the lanes.
        u: P search coordinates (B,).
        bounds: keys of `data` with the lower and the upper bounds of the linear parameters.
    """
    linear = [k for k, p in enumerate(law.parameters) if p.linear]
    if not linear:
        return u
    names = [law.parameters[k].name for k in linear]
    logs = [law.parameters[k].log for k in linear]
    values = search_values(law, u)
    at = [values[name] for name in names]

    def residuals_of_linear(*linear_values: jax.Array) -> jax.Array:
        return residuals(law, kind, data, values | dict(zip(names, linear_values, strict=True)))

    residual, slopes = with_slopes(residuals_of_linear, at)
    _, gradient, hessian = quadratic(residual, slopes, delta=None, share=1.0, weights=data["weights"])
    lower, upper = (
        jnp.stack([jnp.exp(data[key][k]) if log else data[key][k] for k, log in zip(linear, logs, strict=True)])
        for key in bounds
    )
    free = jnp.stack([data["free"][k] for k in linear])
    start = jnp.stack(at)
    step = bounded_step(start, gradient, hessian, lower=lower, upper=upper, free=free, damping=TINY_DAMPING)
    optimum = jnp.clip(start + step, lower, upper)
    moved = list(u)
    for row, (k, log) in enumerate(zip(linear, logs, strict=True)):
        value = jnp.log(optimum[row]) if log else optimum[row]
        moved[k] = jnp.where(free[row] & jnp.isfinite(value), value, u[k])
    return moved
