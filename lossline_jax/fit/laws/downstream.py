"""Laws from the amount of data to the quality after training or finetuning: translation, transfer, vision."""

import jax
import jax.numpy as jnp

from lossline_jax.fit.law import LOG_HUBER, LOG_LEAST_SQUARES, Law, Objective, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible

TRANSLATION = Law(
    name="translation data",
    formula="L = alpha (1/D + C)^p",
    inputs={"D": "parallel sentence pairs"},
    output="L",
    parameters=(
        amount("alpha", "unit of L x D^p", lambda p, s: s["D"] ** p["p"]),
        amount("C", "1 / unit of D", lambda p, s: 1 / s["D"], linear=False, lower=1e-9, upper=1e3, start=(1e-3, 1.0)),
        exponent("p", 0.01, 3.0, (0.1, 0.8)),
    ),
    function=lambda p, v: p["alpha"] * power(1 / v["D"] + p["C"], p["p"]),
    source="Bansal et al. 2022 (arXiv 2202.01994); M3 of Alabdulmohsin et al. 2022 (arXiv 2209.06640)",
    note="The authors' method of fitting is not known; log space here. The loss flattens at alpha C^p: more data alone "
    "do not help a model at its capacity. Published values of C are for D in millions.",
    objective=LOG_LEAST_SQUARES,
    normalise=("D",),
    falls=("D",),
)

TRANSLATION_SCORE = Law(
    name="downstream score",
    formula="f = ln(A D_p^alpha)^beta",
    inputs={"D_p": "pretraining tokens"},
    output="f",
    parameters=(
        amount("A", "1 / D_p^alpha", lambda p, s: s["D_p"] ** -p["alpha"], linear=False, upper=1e60, start=(3.0, 1e15)),
        exponent("alpha", 0.005, 20.0, (0.1, 3.0)),
        exponent("beta", 0.02, 20.0, (0.3, 3.0)),
    ),
    function=lambda p, v: power(jnp.log(p["A"]) + p["alpha"] * jnp.log(v["D_p"]), p["beta"]),
    source="Isik et al. 2024 (arXiv 2402.04177)",
    note="For BLEU and COMET. Each task, corpus and amount of finetuning data has one fit. Misaligned pretraining "
    "gives scores that fall again; the law cannot follow them, so look at the residuals. Huber's delta is unverified.",
    objective=Objective("log Huber, delta 0.1", logarithmic=True, delta=0.1),
    normalise=("D_p",),
    defined=lambda p, v: jnp.log(p["A"]) + p["alpha"] * jnp.log(v["D_p"]) > 0,
)

TRANSFER_LOSS = Law(
    name="downstream cross-entropy",
    formula="L = E + A/D_p^alpha",
    inputs={"D_p": "pretraining tokens"},
    output="L",
    parameters=(
        irreducible("E", "L"),
        amount("A", "unit of L x D_p^alpha", lambda p, s: s["D_p"] ** p["alpha"]),
        exponent("alpha"),
    ),
    function=lambda p, v: p["E"] + p["A"] * power(v["D_p"], -p["alpha"]),
    source="Isik et al. 2024 (arXiv 2402.04177)",
    note="Huber's delta is unverified.",
    objective=LOG_HUBER,
    normalise=("D_p",),
    falls=("D_p",),
)

RECTIFIED = Law(
    name="rectified finetuning",
    formula="L = B/(D_t + D^beta) + E",
    inputs={"D": "finetuning examples"},
    output="L",
    parameters=(
        amount("B", "unit of L x D^beta", lambda p, s: s["D"] ** p["beta"]),
        amount("D_t", "D^beta", lambda p, s: s["D"] ** p["beta"], linear=False, lower=1e-6, start=(1e-2, 1e2)),
        exponent("beta"),
        irreducible("E", "L"),
    ),
    function=lambda p, v: p["B"] / (p["D_t"] + power(v["D"], p["beta"])) + p["E"],
    source="Lin et al. 2024 (arXiv 2402.02314)",
    note="D_t is the pre-learned data size: the worth of pretraining, in units of D^beta. The sources that were read "
    "give neither fitted parameters nor the objective.",
    objective=LOG_LEAST_SQUARES,
    normalise=("D",),
    falls=("D",),
)

VISUAL_TRANSFER = Law(
    name="visual transfer",
    formula="err = E + A N^-alpha D_p^-beta D_f^-gamma",
    inputs={"N": "parameters", "D_p": "pretraining samples", "D_f": "finetuning samples"},
    output="err",
    parameters=(
        irreducible("E", "err"),
        amount(
            "A",
            "unit of err x N^alpha D_p^beta D_f^gamma",
            lambda p, s: s["N"] ** p["alpha"] * s["D_p"] ** p["beta"] * s["D_f"] ** p["gamma"],
        ),
        exponent("alpha"),
        exponent("beta"),
        exponent("gamma"),
    ),
    function=lambda p, v: (
        p["E"] + p["A"] * power(v["N"], -p["alpha"]) * power(v["D_p"], -p["beta"]) * power(v["D_f"], -p["gamma"])
    ),
    source="lossline, after the abstract of arXiv 2504.13219 (data-efficient visual transfer)",
    note="The paper describes a joint power law of pretraining data, model size and finetuning data; its equations "
    "could not be read. This product with an irreducible error is lossline's own form. Distillation stops paying "
    "at the crossing of two such curves: `fit.find_crossings`.",
    objective=LOG_HUBER,
    normalise=("N", "D_p", "D_f"),
    falls=("N", "D_p", "D_f"),
)

_DISTILLATION_RATIO = "((L_T / L_supervised) / d1)^(1/f1)"


def _distillation(p: Values, v: Values) -> jax.Array:
    ratio = v["L_T"] / (v["L_supervised"] * p["d1"])
    # logaddexp computes ln(1 + ratio^(1/f1)) without overflow at a small f1.
    log_break = jnp.logaddexp(0.0, jnp.log(ratio) / p["f1"])
    capacity = p["A"] * power(v["N_S"], -p["alpha"]) + p["B"] * power(v["D_S"], -p["beta"])
    teacher = power(v["L_T"], -p["c0"]) * jnp.exp(-p["c1"] * p["f1"] * log_break)
    return v["L_T"] + teacher * power(capacity, p["gamma"])


DISTILLATION = Law(
    name="distillation",
    formula=f"L_S = L_T + L_T^-c0 (1 + {_DISTILLATION_RATIO})^(-c1 f1) (A/N_S^alpha + B/D_S^beta)^gamma",
    inputs={
        "L_T": "loss of the teacher",
        "L_supervised": "loss of the same student trained without a teacher",
        "N_S": "parameters of the student",
        "D_S": "distillation tokens",
    },
    output="L_S",
    parameters=(
        exponent("c0", 0.01, 20.0, (0.3, 5.0)),
        exponent("c1", 0.01, 1e4, (0.3, 1e3)),
        exponent("d1", 0.1, 10.0, (0.5, 2.0)),
        exponent("f1", 0.01, 10.0, (0.03, 1.0)),
        amount("A", "N_S^alpha", lambda p, s: s["N_S"] ** p["alpha"], linear=False, upper=1e12, start=(1e-2, 1e2)),
        amount("B", "D_S^beta", lambda p, s: s["D_S"] ** p["beta"], linear=False, upper=1e12, start=(1e-2, 1e2)),
        exponent("alpha"),
        exponent("beta"),
        exponent("gamma", 0.05, 5.0, (0.3, 1.5)),
    ),
    function=_distillation,
    source="Busbridge et al. 2025 (arXiv 2502.08606), quoted by a secondary source",
    note="The supervised loss comes from a separate law.",
    objective=LOG_HUBER,
    normalise=("N_S", "D_S"),
    falls=("N_S", "D_S"),
)
