"""The laws of Gadre et al. 2024: the loss of models trained past the compute optimum, and the error from the loss."""

from typing import Any

import jax.numpy as jnp

from lossline_jax.fit.law import Law, Parameter, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible

SOURCE = "Gadre et al. 2024 (arXiv 2403.08540)"

OVERTRAINING = Law(
    name="overtraining",
    formula="L = E + (a M^eta + b M^-eta) C^-eta",
    inputs={"C": "training FLOPs, 6 N D", "M": "tokens per parameter, D / N"},
    output="L",
    parameters=(
        irreducible("E", "L"),
        amount("a", "unit of L x C^eta", lambda p, s: (s["C"] / s["M"]) ** p["eta"]),
        amount("b", "unit of L x C^eta", lambda p, s: (s["C"] * s["M"]) ** p["eta"]),
        exponent("eta", 0.005, 2.0, (0.03, 0.5)),
    ),
    function=lambda p, v: (
        p["E"] + (p["a"] * power(v["M"], p["eta"]) + p["b"] * power(v["M"], -p["eta"])) * power(v["C"], -p["eta"])
    ),
    source=SOURCE,
    note="This is Chinchilla's law with alpha = beta = 2 eta. The authors' code fits "
    "coefN N^b + coefMN (6^(1/2) M N)^b + E with b = -2 eta, a = coefN 6^eta, b' = coefMN.",
    normalise=("C", "M"),
    falls=("C",),
)

ERROR_FROM_LOSS = Law(
    name="downstream error",
    formula="err = eps - k exp(-gamma L)",
    inputs={"L": "loss, nats per token"},
    output="err",
    parameters=(
        Parameter("eps", "1", 0.0, 10.0, start=(0.3, 1.0), linear=True),
        amount("k", "1"),
        exponent("gamma", 1e-3, 20.0, (0.1, 3.0), unit="1 / unit of L"),
    ),
    function=lambda p, v: p["eps"] - p["k"] * jnp.exp(-p["gamma"] * v["L"]),
    source=SOURCE,
    note="err is the average top-1 error over tasks.",
)


def compute_and_multiplier(num_params: Any, num_tokens: Any) -> dict[str, Any]:
    """Return the inputs of the overtraining law, {"C": 6 N D, "M": D / N}.

    Args:
        num_params: N, a number or an array.
        num_tokens: D, a number or an array.
    """
    return {"C": 6 * num_params * num_tokens, "M": num_tokens / num_params}
