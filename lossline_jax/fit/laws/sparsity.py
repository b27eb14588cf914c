"""Frantar et al. 2023: sparsely connected models; how many dense parameters a sparse one is worth."""

import numpy as np

from lossline_jax.fit.law import LOG_HUBER, Law, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible


def _capacity(p, sparsity):
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
    note="The authors fit T5 as here, and ViT by Huber of L - f with delta 0.01 (objective.HUBER). Their T5 row is "
    "not the optimum of their own table, which has a third less of the sum of Huber. One model's runs at the last "
    "step alone do not tell (a_D/D)^b_D from c.",
    objective=LOG_HUBER,
    normalise=("N", "D"),
    falls=("N", "D"),
    ranges={"S": "[0, 1)"},
)


def dense_multiplier(parameters, sparsity):
    """How many dense parameters one non-zero parameter is worth at `sparsity`, at equal loss and data.

    m(S) = [(a_S (1-S)^b_S + c_S) / (a_S + c_S)]^(-1/b_N), from L(S, N, D) = L(0, m N, D).
    """
    p = parameters
    kept = 1 - np.asarray(sparsity, float)
    return ((p["a_S"] * kept ** p["b_S"] + p["c_S"]) / (p["a_S"] + p["c_S"])) ** (-1 / p["b_N"])


def optimal_sparsity(parameters, num_nonzero, compute):
    """The sparsity of least loss for N non-zero parameters and a training budget of C FLOPs.

    Cost model: sparse training costs as much as training the dense model that it is pruned from,
    C = 6 D N / (1 - S) (no credit for zeros, no overhead), so D = C (1 - S) / (6 N). With x = 1 - S the loss is
    a_S x^b_S N^-b_N + (6 a_D N / (C x))^b_D + const, and dL/dx = 0 gives

        S_opt = max{0, 1 - [b_D a_D^b_D N^b_N / (a_S b_S)]^(1/(b_S+b_D)) (C / 6N)^(-b_D/(b_S+b_D))}.

    Derived here from the form: the constant in secondary copies of the paper is ambiguous. The paper's own
    schedule prunes gradually, which costs a factor less.
    """
    p = parameters
    num_nonzero, compute = np.asarray(num_nonzero, float), np.asarray(compute, float)
    tokens_if_dense = compute / (6 * num_nonzero)
    gain = p["a_S"] * p["b_S"] * num_nonzero ** -p["b_N"]
    cost = p["b_D"] * (p["a_D"] / tokens_if_dense) ** p["b_D"]
    return np.maximum(0.0, 1 - (cost / gain) ** (1 / (p["b_S"] + p["b_D"])))
