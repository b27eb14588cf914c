"""The performance law: MMLU from layers, widths, tokens and size."""

import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, Parameter
from lossline_jax.fit.laws.parameters import exponent


def log_stability(gamma, num_layers, hidden, ffn):
    """ln u = -(gamma N_l (10/d + 20/h))^2: deep and narrow models lose to low precision."""
    return -((gamma * num_layers * (10 / ffn + 20 / hidden)) ** 2)


def _performance(p, v):
    log_u = log_stability(p["gamma"], v["N_l"], v["h"], v["d"])
    tokens = jnp.minimum(v["T"], v["S"])  # trillions against billions: saturation past 1000 tokens a parameter
    terms = (("w1", v["N_l"]), ("w2", v["h"]), ("w3", v["d"]), ("w4", tokens))
    return p["b"] + sum(p[name] * (log_u + jnp.log(value)) for name, value in terms)


def _weight(name: str) -> Parameter:
    return Parameter(name, "points of MMLU", -1e3, 1e3, start=(-20.0, 20.0), linear=True)


PERFORMANCE = Law(
    name="performance",
    formula="MMLU = w1 ln(u N_l) + w2 ln(u h) + w3 ln(u d) + w4 ln(u T') + b; u = exp(-(gamma N_l (10/d + 20/h))^2), "
    "T' = min(T, S)",
    inputs={
        "N_l": "layers",
        "h": "hidden width",
        "d": "feed-forward width",
        "T": "training tokens, trillions",
        "S": "parameters, billions",
    },
    output="MMLU",
    parameters=(
        *(_weight(name) for name in ("w1", "w2", "w3", "w4", "b")),
        exponent("gamma", 1.0, 10.0, (1.0, 3.0)),
    ),
    function=_performance,
    source="Wu & Tang 2024 (arXiv 2408.09895) and the authors' planner code",
    note="gamma is 1 without loss of precision and is best held there. The 55 models that it was fitted on are not in "
    "a table. Scores are clipped after the fact: `clip_mmlu`. Mixtures of experts use formulas not found.",
    ranges={"T": "(0, 100)", "S": "(0, 10000)"},  # min(T, S) makes sense in these units alone
)


def clip_mmlu(score) -> np.ndarray:
    """Below 25 (chance) -> 25; above 90 -> 90 + 10 tanh(0.1 score - 9), which ends at 100."""
    score = np.asarray(score, float)
    return np.where(score > 90, 90 + 10 * np.tanh(0.1 * score - 9), np.maximum(score, 25.0))
