"""The law of Frantar et al. 2023 for sparsely connected models, and the dense parameters that a sparse one is worth."""

from typing import Any

import jax
import numpy as np

from lossline_jax.fit.law import LOG_HUBER, Law, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible


def _capacity(p: Values, sparsity: Any) -> jax.Array:
    return p["a_S"] * power(1 - sparsity, p["b_S"]) + p["c_S"]


SPARSITY = Law(
    name="sparsity",
    formula="L = (a_S (1 - S)^b_S + c_S) / N^b_N + (a_D/D)^b_D + c",
    inputs={
        "S": "share of zero weights, 0 to below 1",
        "N": "non-zero parameters without embeddings",
        "D": "training tokens or images",
    },
    output="L",
    parameters=(
        amount("a_S", "unit of L x N^b_N", lambda p, s: s["N"] ** p["b_N"]),
        exponent("b_S", 0.05, 5.0, (0.3, 2.0)),
        amount("c_S", "unit of L x N^b_N", lambda p, s: s["N"] ** p["b_N"]),
        exponent("b_N", 0.01, 3.0, (0.1, 1.0)),
        amount("a_D", "unit of D", lambda p, s: s["D"], linear=False, lower=1e-30, upper=1e12, start=(1e-4, 10.0)),
        exponent("b_D", 0.01, 3.0, (0.1, 1.2)),
        irreducible("c", "L"),
    ),
    function=lambda p, v: _capacity(p, v["S"]) * power(v["N"], -p["b_N"]) + power(p["a_D"] / v["D"], p["b_D"]) + p["c"],
    source="Frantar et al. 2023 (arXiv 2309.08520)",
    note="The authors fit T5 as here, and ViT by Huber of L - f with delta 0.01 (`law.HUBER`). Their T5 row is not the "
    "optimum of their own table: the optimum has a third less of the sum of Huber. The last steps of one model's runs "
    "cannot separate (a_D/D)^b_D from c.",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
    ranges={"S": "[0, 1)"},
)


def dense_multiplier(parameters: Values, sparsity: Any) -> Any:
    """Return the number m of dense parameters that one non-zero parameter is worth, at equal loss and data.

    m(S) = [(a_S (1-S)^b_S + c_S) / (a_S + c_S)]^(-1/b_N), from L(S, N, D) = L(0, m N, D).

    Args:
        parameters: the parameters of the sparsity law by name.
        sparsity: S, the share of zero weights, a number or an array.
    """
    p = parameters
    kept = 1 - np.asarray(sparsity, float)
    return ((p["a_S"] * kept ** p["b_S"] + p["c_S"]) / (p["a_S"] + p["c_S"])) ** (-1 / p["b_N"])


def optimal_sparsity(parameters: Values, num_nonzero: Any, compute: Any) -> np.ndarray:
    """Return the sparsity of least loss for N non-zero parameters and a training budget of C FLOPs.

    Sparse training is assumed to cost as much as training the dense model before pruning: C = 6 D N / (1 - S). Zeros
    give no credit and there is no overhead. So D = C (1 - S) / (6 N). With x = 1 - S, the loss is
    a_S x^b_S N^-b_N + (6 a_D N / (C x))^b_D + const. Setting dL/dx = 0 gives:

        S_opt = max{0, 1 - [b_D a_D^b_D N^b_N / (a_S b_S)]^(1/(b_S+b_D)) (C / 6N)^(-b_D/(b_S+b_D))}.

    This formula is derived here from the law, because secondary copies of the paper give an ambiguous constant. The
    schedule of the paper prunes gradually, which costs less by a factor.

    Args:
        parameters: the parameters of the sparsity law by name.
        num_nonzero: N, a number or an array.
        compute: C in FLOPs, a number or an array.
    """
    p = parameters
    nonzero = np.asarray(num_nonzero, float)
    tokens_if_dense = np.asarray(compute, float) / (6 * nonzero)
    gain = p["a_S"] * p["b_S"] * nonzero ** -p["b_N"]
    cost = p["b_D"] * (p["a_D"] / tokens_if_dense) ** p["b_D"]
    return np.maximum(0.0, 1 - (cost / gain) ** (1 / (p["b_S"] + p["b_D"])))
