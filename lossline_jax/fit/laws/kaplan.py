"""The laws of Kaplan et al. 2020: single power laws, L(N, D) without entropy, L(N, S_min), and their consequences.

N counts parameters without embeddings. C is in PF-days. Losses are in nats per token of WebText2.
"""

from typing import Any

import jax

from lossline_jax.fit.law import LOG_LEAST_SQUARES, Law, Parameter, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent

SOURCE = "Kaplan et al. 2020 (arXiv 2001.08361)"
NOTE = "The authors fit in log space and do not give the objective."


def _constant(name: str, unit: str, of: str) -> Parameter:
    """Declare the value of input `of` at a loss of 1. It is far outside the data, so its range is wide."""
    return amount(name, unit, lambda p, s: s[of], linear=False, lower=1e-40, upper=1e80, start=(1.0, 1e12))


def _single(name: str, inputs: dict[str, str], parameters: tuple[str, str], equation: str) -> Law:
    """Declare a power law of one input, with the names of its constant and exponent."""
    ((of, _),) = inputs.items()
    constant, alpha = parameters
    return Law(
        name=name,
        formula=f"L = ({constant}/{of})^{alpha}",
        inputs=inputs,
        output="L",
        parameters=(_constant(constant, f"unit of {of}", of), exponent(alpha, 0.005, 2.0, (0.03, 0.5))),
        function=lambda p, v: power(p[constant] / v[of], p[alpha]),
        source=f"{SOURCE}, {equation}",
        note=NOTE,
        objective=LOG_LEAST_SQUARES,
        normalise=(of,),
        falls=(of,),
    )


SIZE = _single("kaplan size", {"N": "parameters without embeddings"}, ("N_c", "alpha_N"), "eq. 1.1")
TOKENS = _single("kaplan tokens", {"D": "training tokens, early stopped"}, ("D_c", "alpha_D"), "eq. 1.2")
COMPUTE = _single(
    "kaplan compute", {"C": "training compute at fixed batch, PF-days"}, ("C_c", "alpha_C"), "section 3.3"
)
MINIMAL_COMPUTE = _single(
    "kaplan minimal compute", {"C_min": "least training compute, PF-days"}, ("C_c_min", "alpha_C_min"), "eq. 1.3"
)


def _joint(p: Values, v: Values) -> jax.Array:
    by_size = power(p["N_c"] / v["N"], p["alpha_N"] / p["alpha_D"])
    return power(by_size + p["D_c"] / v["D"], p["alpha_D"])


JOINT = Law(
    name="kaplan without entropy",
    formula="L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    inputs={"N": "parameters without embeddings", "D": "training tokens, early stopped"},
    output="L",
    parameters=(
        _constant("N_c", "parameters", "N"),
        _constant("D_c", "tokens", "D"),
        exponent("alpha_N", 0.005, 2.0, (0.03, 0.5)),
        exponent("alpha_D", 0.005, 2.0, (0.03, 0.5)),
    ),
    function=_joint,
    source=f"{SOURCE}, eq. 1.5, table 2",
    note=NOTE,
    objective=LOG_LEAST_SQUARES,
    normalise=("N", "D"),
    falls=("N", "D"),
)

STEPS = Law(
    name="kaplan steps",
    formula="L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S",
    inputs={"N": "parameters without embeddings", "S_min": "least optimiser steps, after warm-up"},
    output="L",
    parameters=(
        _constant("N_c", "parameters", "N"),
        amount("S_c", "steps", lambda p, s: s["S_min"], linear=False, lower=1e-30, upper=1e30, start=(1e-4, 10.0)),
        exponent("alpha_N", 0.005, 2.0, (0.03, 0.5)),
        exponent("alpha_S", 0.02, 5.0, (0.2, 2.0)),
    ),
    function=lambda p, v: power(p["N_c"] / v["N"], p["alpha_N"]) + power(p["S_c"] / v["S_min"], p["alpha_S"]),
    source=f"{SOURCE}, eq. 1.6, table 3",
    note=NOTE,
    objective=LOG_LEAST_SQUARES,
    normalise=("N", "S_min"),
    falls=("N", "S_min"),
)

CRITICAL_BATCH = Law(
    name="critical batch",
    formula="B_crit = B_star / L^(1/alpha_B)",
    inputs={"L": "training loss, nats per token"},
    output="B_crit",
    parameters=(
        amount("B_star", "tokens at a loss of 1", lower=1e-3, upper=1e15, start=(1e3, 1e10)),
        exponent("alpha_B", 0.01, 5.0, (0.05, 1.0)),
    ),
    function=lambda p, v: p["B_star"] * power(v["L"], -1 / p["alpha_B"]),
    source=f"{SOURCE}, eq. 1.4",
    note=NOTE,
    objective=LOG_LEAST_SQUARES,
    ranges={"L": "(0, inf)"},
)


def minimal_steps(steps: Any, batch: Any, critical_batch: Any) -> Any:
    """Return S_min = S / (1 + B_crit/B): the steps to the same loss at a batch far above the critical one (eq. 5.4).

    Args:
        steps: S, the optimiser steps that were made, a number or an array.
        batch: B, the batch that was used.
        critical_batch: B_crit, in the unit of the batch.
    """
    return steps / (1 + critical_batch / batch)


def minimal_compute(compute: Any, batch: Any, critical_batch: Any) -> Any:
    """Return C_min = C / (1 + B/B_crit): the compute to the same loss at a batch far below the critical one (eq. 5.5).

    Args:
        compute: C, the compute that was used, a number or an array.
        batch: B, the batch that was used.
        critical_batch: B_crit, in the unit of the batch.
    """
    return compute / (1 + batch / critical_batch)


def compute_efficient_exponents(alpha_N: float, alpha_S: float, alpha_B: float) -> dict[str, float]:
    """Return the exponents of L, N, B, S and D = B S in C_min along the compute-efficient frontier (eqs. 1.7, 1.8).

    `L` is alpha_C_min = 1/(1/alpha_S + 1/alpha_B + 1/alpha_N): the loss falls as C_min^-alpha_C_min.

    Args:
        alpha_N: the exponent of size in L(N, S_min).
        alpha_S: the exponent of steps in L(N, S_min).
        alpha_B: the exponent of the critical batch.
    """
    alpha_C_min = 1 / (1 / alpha_S + 1 / alpha_B + 1 / alpha_N)
    size, batch, steps = (alpha_C_min / alpha for alpha in (alpha_N, alpha_B, alpha_S))
    return {"L": alpha_C_min, "N": size, "B": batch, "S": steps, "D": batch + steps}


def tokens_against_overfitting(num_params: Any) -> Any:
    """Return the training tokens above which overfitting stays below about 2%: 5e3 N^0.74 (eq. 4.4)."""
    return 5e3 * num_params**0.74


def early_stopping_step(S_c: Any, alpha_S: Any, loss: Any, loss_of_infinite_data: Any) -> Any:
    """Return a lower bound of the step to stop at: S_c / (L(N, D) - L(N, inf))^(1/alpha_S) (eq. 5.7).

    Args:
        S_c: the constant of steps in L(N, S_min).
        alpha_S: the exponent of steps in L(N, S_min).
        loss: L(N, D), a number or an array, in nats per token.
        loss_of_infinite_data: L(N, inf), in nats per token.
    """
    return S_c / (loss - loss_of_infinite_data) ** (1 / alpha_S)
