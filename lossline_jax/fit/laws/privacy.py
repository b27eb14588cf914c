"""The loss of differentially private language models from size, examples and the noise-batch ratio."""

from typing import Any

import jax
import jax.numpy as jnp

from lossline_jax.fit.law import LOG_HUBER, Law, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, in_float64, irreducible, signed_number

SOURCE = "McKenna et al. 2025 (arXiv 2501.18914), appendix E"
INPUTS = {
    "M": "parameters",
    "n": "training examples seen",
    "sigma": "noise-batch ratio: noise multiplier / expected batch size",
}
BASE = (
    irreducible("E", "L"),
    amount("A", "unit of L x M^alpha", lambda p, s: s["M"] ** p["alpha"]),
    amount("B", "unit of L x n^beta", lambda p, s: s["n"] ** p["beta"]),
)


def _saturated_noise(sigma: Any) -> jax.Array:
    return jax.nn.sigmoid((jnp.log(sigma) + 8) / 1.6)


@in_float64
def saturated_noise(sigma: Any) -> jax.Array:
    """Return sigmoid((ln sigma + 8) / 1.6): the noise-batch ratio on a scale from 0 to 1, 1/2 at e^-8 (eq. 4)."""
    return _saturated_noise(sigma)


def _without_noise(p: Values, v: Values) -> jax.Array:
    return p["E"] + p["A"] * power(v["M"], -p["alpha"]) + p["B"] * power(v["n"], -p["beta"])


PRIVATE = Law(
    name="private",
    formula="L = E + A/M^alpha + B/n^beta + C sigma^gamma",
    inputs=INPUTS,
    output="L",
    parameters=(
        *BASE,
        amount("C", "unit of L / sigma^gamma", lambda p, s: s["sigma"] ** -p["gamma"]),
        exponent("alpha"),
        exponent("beta", 0.01, 20.0, (0.1, 5.0)),
        exponent("gamma", 0.01, 5.0, (0.1, 2.0)),
    ),
    function=lambda p, v: _without_noise(p, v) + p["C"] * power(v["sigma"], p["gamma"]),
    source=f"{SOURCE}, eq. 3",
    note="The authors find that this law fits poorly, and interpolate instead; they publish no coefficients. They keep "
    "runs of more than 1e5 steps, sigma above 5e-7 and losses up to 8.",
    objective=LOG_HUBER,
    normalise=("M", "n", "sigma"),
    falls=("M", "n"),
)

PRIVATE_SATURATED = Law(
    name="private, saturated noise",
    formula="L = E + A/M^alpha + B/n^beta + C s^gamma/M^gamma2, s = sigmoid((ln sigma + 8)/1.6)",
    inputs=INPUTS,
    output="L",
    parameters=(
        *BASE,
        amount("C", "unit of L x M^gamma2", lambda p, s: s["M"] ** p["gamma2"]),
        exponent("alpha"),
        exponent("beta", 0.01, 20.0, (0.1, 5.0)),
        exponent("gamma", 0.01, 10.0, (0.2, 3.0)),
        signed_number("gamma2", 3.0, (-0.3, 0.3)),
    ),
    function=lambda p, v: (
        _without_noise(p, v) + p["C"] * power(_saturated_noise(v["sigma"]), p["gamma"]) * power(v["M"], -p["gamma2"])
    ),
    source=f"{SOURCE}, eqs. 4, 5",
    note="The roles of the published exponents were inferred from a damaged text. The authors publish no coefficients.",
    objective=LOG_HUBER,
    normalise=("M", "n"),
    falls=("n",),
)
