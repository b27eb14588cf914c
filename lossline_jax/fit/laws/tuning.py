"""Farseer's law of the loss, and StepLaw's laws of the learning rate and the batch."""

import jax
import jax.numpy as jnp

from lossline_jax.fit.law import LOG_HUBER, LOG_LEAST_SQUARES, Law, Parameter, Values, power
from lossline_jax.fit.laws.parameters import amount, signed_number
from lossline_jax.fit.laws.size_and_tokens import SIZE_AND_TOKENS


def _slope(name: str, exponent: str, start: tuple[float, float]) -> Parameter:
    return Parameter(name, f"1 / N^{exponent}", -50.0, 50.0, start, scale=lambda p, s: s["N"] ** -p[exponent])


def _farseer(p: Values, v: Values) -> jax.Array:
    decay = jnp.exp(p["a1"] * power(v["N"], p["alpha"]) + p["b1"])
    by_tokens = jnp.exp(p["a2"] * power(v["N"], p["beta"]) + p["b2"] - decay * jnp.log(v["D"]))
    return jnp.exp(p["a3"] * power(v["N"], p["gamma"]) + p["b3"]) + by_tokens


FARSEER = Law(
    name="farseer",
    formula="L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^(-exp(a1 N^alpha + b1))",
    inputs=SIZE_AND_TOKENS,
    output="L",
    # D is not normalised: dividing it by s would add a power of s that depends on N.
    parameters=(
        _slope("a1", "alpha", (-4.0, -0.05)),
        signed_number("b1", 20.0, (-1.0, 3.0)),
        signed_number("alpha", 1.0, (0.02, 0.3)),
        _slope("a2", "beta", (1.0, 20.0)),
        signed_number("b2", 50.0, (-10.0, 3.0)),
        signed_number("beta", 1.0, (-0.3, -0.02)),
        _slope("a3", "gamma", (-3.0, -0.05)),
        signed_number("b3", 20.0, (-1.0, 2.0)),
        signed_number("gamma", 1.0, (0.02, 0.4)),
    ),
    function=_farseer,
    source="Farseer (arXiv 2506.10972), quoted by a secondary source",
    note="The nine parameters can compensate each other: judge a fit by its curve. The published procedure fits the "
    "three functions of N one after the other.",
    objective=LOG_HUBER,
    normalise=("N",),
)

LEARNING_RATE = Law(
    name="steplaw learning rate",
    formula="lr = c N^a D^b",
    inputs=SIZE_AND_TOKENS,
    output="lr",
    parameters=(
        amount(
            "c",
            "learning rate / (N^a D^b)",
            lambda p, s: s["N"] ** -p["a"] * s["D"] ** -p["b"],
            lower=1e-12,
            start=(1e-5, 1.0),
        ),
        signed_number("a", 5.0, (-1.0, 0.0)),
        signed_number("b"),
    ),
    function=lambda p, v: p["c"] * power(v["N"], p["a"]) * power(v["D"], p["b"]),
    source="StepLaw (arXiv 2503.04715)",
    objective=LOG_LEAST_SQUARES,
    normalise=("N", "D"),
)

BATCH = Law(
    name="steplaw batch",
    formula="B = d D^e",
    inputs={"D": "training tokens"},
    output="B",
    parameters=(
        amount("d", "tokens / D^e", lambda p, s: s["D"] ** -p["e"], lower=1e-3, upper=1e15, start=(1e3, 1e8)),
        signed_number("e", 5.0, (0.0, 1.0)),
    ),
    function=lambda p, v: p["d"] * power(v["D"], p["e"]),
    source="StepLaw (arXiv 2503.04715)",
    objective=LOG_LEAST_SQUARES,
    normalise=("D",),
)
