"""The two main laws of the loss L(N, D) from model size and training tokens: Chinchilla's form and Kaplan's form."""

import jax

from lossline_jax.fit.law import LOG_HUBER, Law, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible

SIZE_AND_TOKENS = {"N": "parameters", "D": "training tokens"}

CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    inputs=SIZE_AND_TOKENS,
    output="L",
    parameters=(
        irreducible("E", "L"),
        amount("A", "unit of L x N^alpha", lambda p, s: s["N"] ** p["alpha"]),
        amount("B", "unit of L x D^beta", lambda p, s: s["D"] ** p["beta"]),
        exponent("alpha"),
        exponent("beta"),
    ),
    function=lambda p, v: p["E"] + p["A"] * power(v["N"], -p["alpha"]) + p["B"] * power(v["D"], -p["beta"]),
    source="Hoffmann et al. 2022 (arXiv 2203.15556), approach 3; Besiroglu et al. 2024 (arXiv 2404.10102)",
    note="The surface is flat along (A, B): judge a fit by E, alpha, beta and its objective.",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
)


def _kaplan(p: Values, v: Values) -> jax.Array:
    by_size = power(p["A"] / v["N"], p["alpha"] / p["beta"])
    return p["E"] + power(by_size + p["B"] / v["D"], p["beta"])


KAPLAN = Law(
    name="kaplan",
    formula="L = E + ((A/N)^(alpha/beta) + B/D)^beta",
    inputs=SIZE_AND_TOKENS,
    output="L",
    parameters=(
        irreducible("E", "L"),
        amount("A", "unit of N", lambda p, s: s["N"], linear=False, lower=1e-12, upper=1e12),
        amount("B", "unit of D", lambda p, s: s["D"], linear=False, lower=1e-12, upper=1e12),
        exponent("alpha"),
        exponent("beta"),
    ),
    function=_kaplan,
    source="Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5, with an entropy E; arXiv 2411.12925",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
)
