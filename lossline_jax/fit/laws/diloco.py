"""DiLoCo's laws of the model size N and the number of replicas M, for loss, inner learning rate and global batch."""

from collections.abc import Callable
from typing import Any

from lossline_jax.fit.law import LOG_HUBER, LOG_LEAST_SQUARES, Law, Parameter, Values, power
from lossline_jax.fit.laws.parameters import amount, irreducible, signed_number

SOURCE = "Charles et al. 2025 (arXiv 2503.09799)"
N = {"N": "parameters; D = 20 N"}
N_AND_M = N | {"M": "replicas"}
HUBER_NOTE = (
    "The authors sum Huber of ln f - ln L over points and do not give delta; it is 1e-3 here, as for Hoffmann et al."
)


def _wide(name: str, unit: str, scale: Callable[[Values, Values], Any] | None = None) -> Parameter:
    """Declare an amount with a wide range, for raw inputs: L = A N^-0.1 has A near 20, lr = A N^-0.9 has A near 1e5."""
    return amount(name, unit, scale, lower=1e-20, upper=1e20, start=(1e-3, 1e5))


SIZE = Law(
    name="diloco size",
    formula="y = A N^alpha",
    inputs=N,
    output="y",
    parameters=(_wide("A", "unit of y / N^alpha", lambda p, s: s["N"] ** -p["alpha"]), signed_number("alpha")),
    function=lambda p, v: p["A"] * power(v["N"], p["alpha"]),
    source=f"{SOURCE}, tables 7-9",
    note="Each number of replicas has one fit. y is the loss, the inner learning rate or the global batch in tokens. "
    "Data-parallel training has a separate fit; it is not M = 1.",
    objective=LOG_LEAST_SQUARES,
    normalise=("N",),
)

JOINT = Law(
    name="diloco",
    formula="y = A N^alpha M^beta",
    inputs=N_AND_M,
    output="y",
    parameters=(
        _wide("A", "unit of y / N^alpha", lambda p, s: s["N"] ** -p["alpha"]),
        signed_number("alpha"),
        signed_number("beta"),
    ),
    function=lambda p, v: p["A"] * power(v["N"], p["alpha"]) * power(v["M"], p["beta"]),
    source=f"{SOURCE}, table 10",
    objective=LOG_LEAST_SQUARES,
    normalise=("N",),
)

JOINT_WITH_FLOOR = Law(
    name="diloco with floor",
    formula="L = A N^alpha M^beta + C",
    inputs=N_AND_M,
    output="L",
    parameters=(
        _wide("A", "unit of L / N^alpha", lambda p, s: s["N"] ** -p["alpha"]),
        signed_number("alpha"),
        signed_number("beta"),
        irreducible("C", "L"),
    ),
    function=lambda p, v: p["A"] * power(v["N"], p["alpha"]) * power(v["M"], p["beta"]) + p["C"],
    source=f"{SOURCE}, section 6.5",
    note=HUBER_NOTE,
    objective=LOG_HUBER,
    normalise=("N",),
)

REPLICAS_IN_EXPONENT = Law(
    name="diloco replicas in exponent",
    formula="L = A N^(alpha + beta M) + C",
    inputs=N_AND_M,
    output="L",
    # N is not normalised: dividing it by s would add a factor s^(beta M), which no parameter can absorb.
    parameters=(
        _wide("A", "unit of L / N^alpha"),
        signed_number("alpha", 5.0, (-0.6, 0.0)),
        signed_number("beta", 1.0, (-0.01, 0.01)),
        irreducible("C", "L"),
    ),
    function=lambda p, v: p["A"] * power(v["N"], p["alpha"] + p["beta"] * v["M"]) + p["C"],
    source=f"{SOURCE}, section 6.5",
    note=HUBER_NOTE,
    objective=LOG_HUBER,
)

ADDITIVE = Law(
    name="diloco additive",
    formula="L = A N^alpha + B M^beta + C",
    inputs=N_AND_M,
    output="L",
    parameters=(
        _wide("A", "unit of L / N^alpha", lambda p, s: s["N"] ** -p["alpha"]),
        signed_number("alpha"),
        _wide("B", "unit of L / M^beta", lambda p, s: s["M"] ** -p["beta"]),
        signed_number("beta"),
        irreducible("C", "L"),
    ),
    function=lambda p, v: p["A"] * power(v["N"], p["alpha"]) + p["B"] * power(v["M"], p["beta"]) + p["C"],
    source=f"{SOURCE}, section 6.5",
    note=HUBER_NOTE + " B and C cannot be separated as beta goes to 0.",
    objective=LOG_HUBER,
    normalise=("N", "M"),
)
