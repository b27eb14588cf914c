"""Laws of one input with a bounded output: M1, M2, M4, broken power laws, and accuracy from loss.

M3, beta (1/x + gamma)^c, is the translation law of `downstream.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import LOG_LEAST_SQUARES, Law, Parameter, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible, signed_number

ALABDULMOHSIN = "Alabdulmohsin et al. 2022 (arXiv 2209.06640)"
X = {"x": "amount of data or compute"}
SHIFTED = amount("beta", "unit of err / x^c", lambda p, s: s["x"] ** -p["c"], start=(1e-2, 10.0))
NEWTON_STEPS = 30  # a choice; 7 steps are enough for targets up to 700 and alpha from 0.02 to 20 (tried in float64)

M1 = Law(
    name="m1",
    formula="err = beta x^c",
    inputs=X,
    output="err",
    parameters=(SHIFTED, signed_number("c", 5.0, (-1.0, 0.0))),
    function=lambda p, v: p["beta"] * power(v["x"], p["c"]),
    source=ALABDULMOHSIN,
    objective=LOG_LEAST_SQUARES,
    normalise=("x",),
)

M2 = Law(
    name="m2",
    formula="err = beta x^c + err_inf",
    inputs=X,
    output="err",
    parameters=(SHIFTED, signed_number("c", 5.0, (-1.0, -0.01)), irreducible("err_inf", "err")),
    function=lambda p, v: p["beta"] * power(v["x"], p["c"]) + p["err_inf"],
    source=ALABDULMOHSIN,
    objective=LOG_LEAST_SQUARES,
    normalise=("x",),
)


def _log_odds(target: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the z that solves ln sigmoid(z) - alpha ln(1 - sigmoid(z)) = target, elementwise.

    The left side rises with a slope between 1 and alpha, and it bends in one direction only. So Newton's method
    converges from every start. Only the last step carries the derivatives.
    """

    def step(z: jax.Array, target: jax.Array, alpha: jax.Array) -> jax.Array:
        left = -jax.nn.softplus(-z) + alpha * jax.nn.softplus(z)
        return z - (left - target) / (jax.nn.sigmoid(-z) + alpha * jax.nn.sigmoid(z))

    constant_target, constant_alpha = jax.lax.stop_gradient((target, alpha))
    z = jnp.where(constant_target < 0, constant_target, constant_target / constant_alpha)
    z = jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, z: step(z, constant_target, constant_alpha), z)
    return step(jax.lax.stop_gradient(z), target, alpha)


def _m4(p: Values, v: Values) -> jax.Array:
    height = p["err_0"] - p["err_inf"]
    # err = err_inf + height sigmoid(z): ln sigmoid(z) - alpha ln(1 - sigmoid(z)) + (1 - alpha) ln height = ln(beta x^c)
    target = jnp.log(p["beta"]) + p["c"] * jnp.log(v["x"]) - (1 - p["alpha"]) * jnp.log(height)
    target, alpha = jnp.broadcast_arrays(target, p["alpha"])
    return p["err_inf"] + height * jax.nn.sigmoid(_log_odds(target, alpha))


M4 = Law(
    name="m4",
    formula="(err - err_inf) / (err_0 - err)^alpha = beta x^c",
    inputs=X,
    output="err",
    parameters=(
        amount(
            "beta", "err^(1-alpha) / x^c", lambda p, s: s["x"] ** -p["c"], linear=False, upper=1e9, start=(1e-2, 10.0)
        ),
        signed_number("c", 5.0, (-1.5, -0.05)),
        Parameter("err_inf", "unit of err", 0.0, np.inf, below="err"),
        exponent("err_0", 1e-6, 1e6, (0.3, 3.0), unit="unit of err"),
        exponent("alpha", 0.02, 20.0, (0.1, 3.0)),
    ),
    function=_m4,
    source=ALABDULMOHSIN,
    note="The equation is solved for the error, point by point. err_0 is the error of a model that only guesses: hold "
    "err_0 fixed at chance level if chance level is known.",
    objective=LOG_LEAST_SQUARES,
    normalise=("x",),
    defined=lambda p, v: (p["err_0"] > p["err_inf"]) & (v["x"] > 0),
)

SIGMOID_ACCURACY = Law(
    name="accuracy from loss",
    formula="acc = b + a / (1 + exp(k (L - L_0)))",
    inputs={"L": "loss of the task's right answers"},
    output="acc",
    parameters=(
        Parameter("b", "1", 0.0, 1.0, start=(0.0, 0.5), linear=True),
        amount("a", "1", lower=1e-6, upper=10.0, start=(0.1, 1.0)),
        exponent("k", 1e-2, 1e3, (0.5, 20.0), unit="1 / unit of L"),
        signed_number("L_0", 100.0, (0.0, 5.0), unit="unit of L"),
    ),
    function=lambda p, v: p["b"] + p["a"] * jax.nn.sigmoid(-p["k"] * (v["L"] - p["L_0"])),
    source="Bhagia et al. 2024, OLMo model ladders (arXiv 2412.04403)",
    note="b is the accuracy of guessing, and a + b is the accuracy at a loss of 0. `fit.compose` chains it after "
    "L(N, D).",
)


def broken_power_law(num_breaks: int) -> Law:
    """Declare y = a + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i), with `num_breaks` smooth breaks at d_i.

    Past break i, the slope in ln x is -(c0 + c_1 + ... + c_i); before the first break it is -c0. The smaller f_i, the
    sharper is break i.

    Args:
        num_breaks: the number of breaks, 0 or more.

    Raises:
        LosslineError: the number of breaks is negative.
    """
    if num_breaks < 0:
        raise LosslineError(f"a broken power law has 0 or more breaks, not {num_breaks}")
    order = range(1, num_breaks + 1)

    def function(p: Values, v: Values) -> jax.Array:
        log_y = -p["c0"] * jnp.log(v["x"])
        for i in order:
            # logaddexp computes ln(1 + (x/d)^(1/f)) without overflow at a small f.
            bend = jnp.logaddexp(0.0, (jnp.log(v["x"]) - jnp.log(p[f"d{i}"])) / p[f"f{i}"])
            log_y = log_y - p[f"c{i}"] * p[f"f{i}"] * bend
        return p["a"] + p["b"] * jnp.exp(log_y)

    breaks = [
        (
            signed_number(f"c{i}", 5.0, (-0.5, 1.5)),
            amount(f"d{i}", "unit of x", lambda p, s: s["x"], linear=False, upper=1e9, start=(1e-2, 1e2)),
            exponent(f"f{i}", 1e-2, 20.0, (0.1, 1.5)),
        )
        for i in order
    ]
    return Law(
        name=f"broken power law, {num_breaks} break{'s' * (num_breaks != 1)}",
        formula="y = a + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i)",
        inputs=X,
        output="y",
        parameters=(
            irreducible("a", "y"),
            amount("b", "unit of y x x^c0", lambda p, s: s["x"] ** p["c0"]),
            signed_number("c0", 5.0, (-0.2, 1.0)),
            *(parameter for triple in breaks for parameter in triple),
        ),
        function=function,
        source="Caballero et al. 2022 (arXiv 2210.14891)",
        note="Nothing fixes the order of the breaks, so they can change places. The authors fit in log space.",
        objective=LOG_LEAST_SQUARES,
        normalise=("x",),
    )
