"""Laws of the loss after pruning and post-training."""

import jax

from lossline_jax.fit.law import LOG_HUBER, LOG_LEAST_SQUARES, Law, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, signed_number


def _p2(p: Values, v: Values) -> jax.Array:
    inner = p["N_C"] * power(v["N0"], -p["alpha"]) + p["D_C"] * power(v["D"], -p["beta"]) + p["E"]
    return v["L0"] + power(v["rho"], -p["gamma"]) * power(v["N0"], -p["delta"]) * inner


P2 = Law(
    name="p2",
    formula="L = L0 + (1/rho)^gamma (1/N0)^delta (N_C/N0^alpha + D_C/D^beta + E)",
    inputs={
        "N0": "parameters before pruning",
        "D": "post-training tokens",
        "rho": "pruning rate, above 0",
        "L0": "loss of the model before pruning",
    },
    output="L",
    parameters=(
        amount("N_C", "unit of L x N0^(alpha+delta)", lambda p, s: s["N0"] ** (p["alpha"] + p["delta"])),
        amount("D_C", "unit of L x N0^delta D^beta", lambda p, s: s["N0"] ** p["delta"] * s["D"] ** p["beta"]),
        amount("E", "unit of L x N0^delta", lambda p, s: s["N0"] ** p["delta"]),
        exponent("alpha"),
        exponent("beta"),
        signed_number("gamma", 10.0, (-3.0, 1.0)),
        signed_number("delta", 5.0, (-0.5, 0.5)),
    ),
    function=_p2,
    source="P2 law (arXiv 2411.10272 v3), quoted by two secondary sources",
    note="The loss rises with rho if gamma is negative. No fitted values and no data are public; the objective is "
    "assumed to be the one of Hoffmann et al. A survey omits the factor N0^-delta.",
    objective=LOG_HUBER,
    normalise=("N0", "D"),
    falls=("D",),
    ranges={"rho": "(0, 1)"},
)

COMPRESSION = Law(
    name="compression",
    formula="L = L0 P0 (1 - r)^alpha",
    inputs={"L0": "value of the model before pruning", "r": "share of the parameters removed, below 1"},
    output="L",
    parameters=(amount("P0", "1"), signed_number("alpha", 10.0, (-3.0, 3.0))),
    function=lambda p, v: v["L0"] * p["P0"] * power(1 - v["r"], p["alpha"]),
    source="arXiv 2504.04342 v2, quoted by a secondary source",
    note="alpha is about .22 (reasoning), .73 (language modelling), 2.42 (question answering). With these signs L "
    "falls as r grows, so L is taken as a score; a loss needs a negative alpha. The objective is not known.",
    objective=LOG_LEAST_SQUARES,
    ranges={"L0": "(0, inf)", "r": "[0, 1)"},
)
