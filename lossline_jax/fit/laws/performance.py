"""The performance law: the MMLU score from layers, widths, tokens and size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, Parameter, Values
from lossline_jax.fit.laws.parameters import exponent


def log_stability(gamma: Any, num_layers: Any, hidden: Any, ffn: Any) -> Any:
    """Return ln u = -(gamma N_l (10/d + 20/h))^2: low precision costs deep and narrow models most.

    Args:
        gamma: the loss of precision; 1 means none.
        num_layers: N_l, a number or an array.
        hidden: h, the hidden width.
        ffn: d, the feed-forward width.
    """
    return -((gamma * num_layers * (10 / ffn + 20 / hidden)) ** 2)


def _performance(p: Values, v: Values) -> jax.Array:
    log_u = log_stability(p["gamma"], v["N_l"], v["h"], v["d"])
    # T in trillions is compared with S in billions: the score saturates at 1000 tokens per parameter.
    tokens = jnp.minimum(v["T"], v["S"])
    terms = (("w1", v["N_l"]), ("w2", v["h"]), ("w3", v["d"]), ("w4", tokens))
    return p["b"] + sum(p[name] * (log_u + jnp.log(value)) for name, value in terms)


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
        *(
            Parameter(name, "points of MMLU", -1e3, 1e3, start=(-20.0, 20.0), linear=True)
            for name in ("w1", "w2", "w3", "w4", "b")
        ),
        exponent("gamma", 1.0, 10.0, (1.0, 3.0)),
    ),
    function=_performance,
    source="Wu & Tang 2024 (arXiv 2408.09895) and the authors' planner code",
    note="gamma is 1 without loss of precision; it is best to hold gamma at 1. No table gives the 55 models of the "
    "authors' fit. `clip_mmlu` clips scores after prediction. The formulas for mixtures of experts were not found.",
    ranges={"T": "(0, 100)", "S": "(0, 10000)"},  # trillions and billions: min(T, S) is right only in these units
)


def clip_mmlu(score: Any) -> np.ndarray:
    """Clip predicted scores: below 25 (chance) to 25, above 90 to 90 + 10 tanh(0.1 score - 9), which stays below 100.

    Args:
        score: points of MMLU, a number or an array.
    """
    points = np.asarray(score, float)
    return np.where(points > 90, 90 + 10 * np.tanh(0.1 * points - 9), np.maximum(points, 25.0))
