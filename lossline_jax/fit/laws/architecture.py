"""Laws of the parts of a model: routed experts, the vocabulary, and the precision of numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from lossline_jax.fit.law import LOG_HUBER, Law, Objective, Parameter, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, in_float64, irreducible
from lossline_jax.fit.laws.size_and_tokens import SIZE_AND_TOKENS


def saturated_experts(num_experts: Any, start: Any, most: Any) -> Any:
    """Return the saturated number of experts E^, which is E_start at one expert and at most E_max.

    1/E^ = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max. Clark et al. 2022 (arXiv 2202.01169).

    Args:
        num_experts: E, a number or an array.
        start: E_start, in experts.
        most: E_max, in experts.
    """
    return 1 / (1 / (num_experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most)


def _routing(p: Values, v: Values) -> jax.Array:
    size = jnp.log10(v["N"])
    experts = jnp.log10(saturated_experts(v["E"], p["E_start"], p["E_max"]))
    return p["a"] * size + p["b"] * experts + p["c"] * size * experts + p["d"]


ROUTING = Law(
    name="routing",
    formula="log10 L = a log10 N + b log10 E^ + c log10 N log10 E^ + d; "
    "1/E^ = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max",
    inputs={"N": "parameters of the dense model, which one token uses", "E": "experts"},
    output="log10 L",
    parameters=(
        *(Parameter(name, "1", -10.0, 10.0, start=(-1.0, 1.0), linear=True) for name in ("a", "b", "c", "d")),
        exponent("E_start", 1.0, 100.0, (1.05, 10.0), unit="experts"),
        exponent("E_max", 2.0, 1e6, (50.0, 5e3), unit="experts"),
    ),
    function=_routing,
    source="Clark et al. 2022 (arXiv 2202.01169), table 3",
    note="The output is the decimal logarithm of the loss; published values are for decimal logarithms.",
    defined=lambda p, v: p["E_max"] > p["E_start"],
    ranges={"N": "(0, inf)", "E": "[1, inf)"},
)

VOCABULARY = Law(
    name="vocabulary",
    formula="L_u = -E + A1/N_nv^alpha1 + A2/N_v^alpha2 + B/H^beta",
    inputs={
        "N_nv": "parameters outside the vocabulary",
        "N_v": "parameters of the vocabulary",
        "H": "training characters",
    },
    output="L_u",
    parameters=(
        Parameter("E", "unit of L_u", -100.0, 100.0, start=(0.0, 10.0), linear=True),
        amount("A1", "unit of L_u x N_nv^alpha1", lambda p, s: s["N_nv"] ** p["alpha1"]),
        amount("A2", "unit of L_u x N_v^alpha2", lambda p, s: s["N_v"] ** p["alpha2"]),
        amount("B", "unit of L_u x H^beta", lambda p, s: s["H"] ** p["beta"]),
        exponent("alpha1"),
        exponent("alpha2"),
        exponent("beta"),
    ),
    function=lambda p, v: (
        -p["E"]
        + p["A1"] * power(v["N_nv"], -p["alpha1"])
        + p["A2"] * power(v["N_v"], -p["alpha2"])
        + p["B"] * power(v["H"], -p["beta"])
    ),
    source="Tao et al. 2024 (arXiv 2407.13623) and the authors' code",
    note="L_u is the loss minus the loss of a unigram model. It is mostly negative, so the objective has no logarithm. "
    "The authors hold alpha1 = beta and minimise summed Huber with delta 1e-3. Their constants are for millions of "
    "parameters and billions of characters.",
    objective=Objective("Huber", delta=1e-3),
    normalise=("N_nv", "N_v", "H"),
    falls=("N_nv", "N_v", "H"),
)

# (input in bits, parameter in bits, the numbers that are stored with this precision)
PRECISIONS = (("P_w", "gamma_w", "weights"), ("P_a", "gamma_a", "activations"), ("P_kv", "gamma_kv", "key-value cache"))


def _effective_size(p: Values, v: Values) -> jax.Array:
    size = v["N"]
    for bits, gamma, _ in PRECISIONS:
        size = size * -jnp.expm1(-v[bits] / p[gamma])
    return size


@in_float64
def effective_size(parameters: Values, inputs: Values) -> jax.Array:
    """Return N_eff = N prod_x (1 - exp(-P_x/gamma_x)) over weights, activations and key-value cache.

    Args:
        parameters: gamma_w, gamma_a and gamma_kv by name, in bits.
        inputs: N in parameters, and P_w, P_a and P_kv in bits, by name.
    """
    return _effective_size(parameters, inputs)


def _precision(p: Values, v: Values) -> jax.Array:
    by_size = p["A"] * power(_effective_size(p, v), -p["alpha"])
    return p["E"] + by_size + p["B"] * power(v["D"], -p["beta"])


PRECISION = Law(
    name="precision",
    formula="L = E + A/N_eff^alpha + B/D^beta; N_eff = N (1 - e^(-P_w/gamma_w)) (1 - e^(-P_a/gamma_a)) "
    "(1 - e^(-P_kv/gamma_kv))",
    inputs=SIZE_AND_TOKENS | {bits: f"training bits of {what}" for bits, _, what in PRECISIONS},
    output="L",
    parameters=(
        irreducible("E", "L"),
        amount("A", "unit of L x N^alpha", lambda p, s: s["N"] ** p["alpha"]),
        amount("B", "unit of L x D^beta", lambda p, s: s["D"] ** p["beta"]),
        exponent("alpha"),
        exponent("beta"),
        *(exponent(gamma, 0.05, 50.0, (0.3, 8.0), unit="bits") for _, gamma, _ in PRECISIONS),
    ),
    function=_precision,
    source="Kumar et al. 2024 (arXiv 2411.04330), quoted by a secondary source",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
    ranges={bits: "(0, inf)" for bits, _, _ in PRECISIONS},
)

QUANTISATION = Law(
    name="post-training quantisation",
    formula="delta = C_T (D^gamma_D / N^gamma_N) exp(-P_post/gamma_post)",
    inputs=SIZE_AND_TOKENS | {"P_post": "bits of the weights after training"},
    output="delta",
    parameters=(
        amount(
            "C_T",
            "unit of delta x N^gamma_N / D^gamma_D",
            lambda p, s: s["N"] ** p["gamma_N"] * s["D"] ** -p["gamma_D"],
            upper=1e9,
            start=(1e-2, 1e2),
        ),
        exponent("gamma_D"),
        exponent("gamma_N"),
        exponent("gamma_post", 0.05, 50.0, (0.2, 5.0), unit="bits"),
    ),
    function=lambda p, v: (
        p["C_T"] * power(v["D"], p["gamma_D"]) * power(v["N"], -p["gamma_N"]) * jnp.exp(-v["P_post"] / p["gamma_post"])
    ),
    source="Kumar et al. 2024 (arXiv 2411.04330), quoted by a secondary source",
    note="The output is the rise of the loss when a trained model is quantised. The sources that were read do not give "
    "the objective.",
    objective=LOG_HUBER,
    normalise=("N", "D"),
)
