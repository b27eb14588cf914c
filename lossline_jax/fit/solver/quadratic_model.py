"""The residuals of a law, their slopes, and the bounded step that they propose; traced, problems last."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lossline_jax.fit.law import Law, Objective


def bounded_step(u, gradient, hessian, lower, upper, free, damping):
    """(P, B) damped steps within the bounds.

    Coordinates pressed against a bound stay; where the step would cross a bound it ends there, and the other
    coordinates are solved for again given that.
    """
    moving = free & ~(((u <= lower) & (gradient > 0)) | ((u >= upper) & (gradient < 0)))
    step = solve_damped(hessian, gradient, moving, damping)
    to_bound = jnp.clip(u + step, lower, upper) - u
    crossing = (u + step < lower) | (u + step > upper)
    held = jnp.where(crossing & moving, to_bound, 0.0)
    shifted = gradient + jnp.sum(hessian * held[None], axis=1)
    return held + solve_damped(hessian, shifted, moving & ~crossing, damping)


def solve_damped(hessian, gradient, moving, damping):
    """(P, B) solutions of (H + damping diag H) step = -gradient; 0 in coordinates that do not move.

    Gauss-Jordan elimination without pivots: scaled to a diagonal of 1 + damping, H is positive definite.
    """
    size = gradient.shape[0]
    identity = jnp.eye(size)[:, :, None]
    diagonal = jnp.sum(hessian * identity, axis=1)
    usable = moving & (diagonal > 0)
    scale = jnp.where(usable, 1.0 / jnp.sqrt(jnp.where(usable, diagonal, 1.0)), 0.0)
    scaled = hessian * scale[:, None] * scale[None]
    table = jnp.where(identity > 0, 1.0 + damping, scaled)
    table = jnp.concatenate([table, (gradient * scale)[:, None]], axis=1)

    def eliminate(k, table):
        row = table[k] / table[k, k]
        return (table - table[:, k, None] * row).at[k].set(row)

    return -jax.lax.fori_loop(0, size, eliminate, table)[:, size] * scale


TINY_DAMPING = 1e-9  # of columns that are nearly alike


class Kind(NamedTuple):
    """Which residual: y - f, (y - f) / y ("relative") or ln(y - offset) - ln(f - offset) ("log")."""

    form: str
    offset: str | None = None
    squares: bool = False  # their squares are summed: what is linear in the curve can be solved for exactly


def kind_of(objective: Objective) -> Kind:
    return Kind("log", objective.offset) if objective.logarithmic else Kind("plain", squares=objective.delta is None)


def search_values(law: Law, u) -> dict:
    """Parameters by name, (B,) each, of search coordinates."""
    return {p.name: jnp.exp(u[k]) if p.log else u[k] for k, p in enumerate(law.parameters)}


def residuals(law: Law, kind: Kind, data: dict, values: dict):
    """(n, B)."""
    curve = jnp.broadcast_to(law.function(values, data["inputs"]), data["y"].shape)
    if kind.form == "log":
        shift = values[kind.offset] if kind.offset else 0.0
        return jnp.log(data["y"] - shift) - jnp.log(curve - shift)
    return (data["y"] - curve) / (data["y"] if kind.form == "relative" else 1.0)


def with_slopes(function, at: list):
    """`function(*at)` and, for each of its arguments, the derivative by it; every lane is on its own."""
    value, along = jax.linearize(function, *at)
    one, zero = jnp.ones_like(at[0]), jnp.zeros_like(at[0])
    return value, [along(*(one if j == k else zero for j in range(len(at)))) for k in range(len(at))]


def quadratic(residual, slopes: list, delta, share, weights):
    """Objective (B,), gradient (P, B) and curvature (P, P, B) of the weighted loss.

    The curvature of a point is 1 within delta; beyond, that of iterated reweighting times `share`.
    """
    size = jnp.abs(residual)
    inside = size <= delta
    value = jnp.where(inside, 0.5 * residual * residual, delta * (size - 0.5 * delta))
    psi = weights * jnp.clip(residual, -delta, delta)
    bend = weights * jnp.where(inside, 1.0, share * delta / size)
    count = len(slopes)
    bent = [bend * slope for slope in slopes]
    entries = {(i, j): jnp.sum(bent[i] * slopes[j], axis=0) for i in range(count) for j in range(i, count)}
    hessian = jnp.stack([entries[min(i, j), max(i, j)] for i in range(count) for j in range(count)])
    gradient = jnp.stack([jnp.sum(psi * slope, axis=0) for slope in slopes])
    return jnp.sum(weights * value, axis=0), gradient, hessian.reshape(count, count, -1)


def project_linear(law: Law, kind: Kind, data: dict, u: list, bounds: tuple[str, str]) -> list:
    """The linear parameters moved to where, the others as they are, the squares are least.

    Exact for residuals that are affine in the curve: "plain" and "relative". Rows of the other parameters are handed
    back as they are, so that the compiler finds what their powers cost once and not twice.

    Args:
        u: (B,) search coordinates, one each parameter.
        bounds: keys of `data` with the bounds to stay in.
    """
    linear = [k for k, p in enumerate(law.parameters) if p.linear]
    if not linear:
        return u
    names = [law.parameters[k].name for k in linear]
    logs = [law.parameters[k].log for k in linear]
    values = search_values(law, u)
    at = [values[name] for name in names]

    def of_linear(*given):
        return residuals(law, kind, data, values | dict(zip(names, given, strict=True)))

    residual, slopes = with_slopes(of_linear, at)
    _, gradient, hessian = quadratic(residual, slopes, jnp.inf, 1.0, data["weights"])
    lower, upper = (
        jnp.stack([jnp.exp(data[key][k]) if log else data[key][k] for k, log in zip(linear, logs, strict=True)])
        for key in bounds
    )
    free = jnp.stack([data["free"][k] for k in linear])
    start = jnp.stack(at)
    step = bounded_step(start, gradient, hessian, lower, upper, free, TINY_DAMPING)
    optimum = jnp.clip(start + step, lower, upper)
    moved = list(u)
    for row, (k, log) in enumerate(zip(linear, logs, strict=True)):
        value = jnp.log(optimum[row]) if log else optimum[row]
        moved[k] = jnp.where(free[row] & jnp.isfinite(value), value, u[k])
    return moved
