"""Steps of a bounded quadratic model, lanes last: the P x P systems too are elementwise work on vectors of lanes."""

import jax
import jax.numpy as jnp


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
