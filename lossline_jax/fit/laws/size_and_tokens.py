"""Compute to loss: L(N, D)."""

import numpy as np

from lossline_jax.fit.law import LOG_HUBER, Law, Parameter, power

SIZE_AND_TOKENS = {"N": "parameters", "D": "training tokens"}

CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    inputs=SIZE_AND_TOKENS,
    output="L",
    parameters=(
        Parameter("E", "unit of L", 0.0, np.inf, linear=True, below="L"),
        Parameter(
            "A",
            "unit of L x N^alpha",
            1e-9,
            1e6,
            start=(1e-3, 10.0),
            linear=True,
            log=True,
            scale=lambda p, s: s["N"] ** p["alpha"],
        ),
        Parameter(
            "B",
            "unit of L x D^beta",
            1e-9,
            1e6,
            start=(1e-3, 10.0),
            linear=True,
            log=True,
            scale=lambda p, s: s["D"] ** p["beta"],
        ),
        Parameter("alpha", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
        Parameter("beta", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
    ),
    function=lambda p, v: p["E"] + p["A"] * power(v["N"], -p["alpha"]) + p["B"] * power(v["D"], -p["beta"]),
    source="Hoffmann et al. 2022 (arXiv 2203.15556), approach 3; Besiroglu et al. 2024 (arXiv 2404.10102)",
    note="The surface is flat along (A, B): judge a fit by E, alpha, beta and its objective.",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
)


def _kaplan(p, v):
    by_size = power(p["A"] / v["N"], p["alpha"] / p["beta"])
    return p["E"] + power(by_size + p["B"] / v["D"], p["beta"])


KAPLAN = Law(
    name="kaplan",
    formula="L = E + ((A/N)^(alpha/beta) + B/D)^beta",
    inputs=SIZE_AND_TOKENS,
    output="L",
    parameters=(
        Parameter("E", "unit of L", 0.0, np.inf, linear=True, below="L"),
        Parameter("A", "unit of N", 1e-12, 1e12, start=(1e-3, 10.0), log=True, scale=lambda p, s: s["N"]),
        Parameter("B", "unit of D", 1e-12, 1e12, start=(1e-3, 10.0), log=True, scale=lambda p, s: s["D"]),
        Parameter("alpha", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
        Parameter("beta", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
    ),
    function=_kaplan,
    source="Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5, with an entropy E; arXiv 2411.12925",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
)
