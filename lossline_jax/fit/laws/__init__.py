"""All declared laws, by name. Read `size_and_tokens.py` first.

Functions build the laws that depend on a list of domains or a number of breaks: `mixtures.data_mixing_law`,
`mixtures.additive_mixture_law` and `bounded.broken_power_law`. The skill law has a matrix of parameters and is in
`fit/skills/fit.py`. `published_values.py` has the parameter values that papers give.
"""

from lossline_jax import errors
from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import (
    architecture,
    bounded,
    diloco,
    downstream,
    kaplan,
    mixtures,
    overtraining,
    performance,
    privacy,
    pruning,
    repetition,
    sparsity,
    tuning,
)
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN

SUBJECTS = (
    (SHIFTED_POWER, CHINCHILLA, KAPLAN),
    (kaplan.SIZE, kaplan.TOKENS, kaplan.COMPUTE, kaplan.MINIMAL_COMPUTE),
    (kaplan.JOINT, kaplan.STEPS, kaplan.CRITICAL_BATCH),
    (overtraining.OVERTRAINING, overtraining.ERROR_FROM_LOSS),
    (diloco.SIZE, diloco.JOINT, diloco.JOINT_WITH_FLOOR, diloco.REPLICAS_IN_EXPONENT, diloco.ADDITIVE),
    (repetition.REPETITION, repetition.EQUAL_EXPONENTS, repetition.UNIQUE_TOKENS_ADDITIVE),
    (downstream.TRANSLATION, downstream.TRANSLATION_SCORE, downstream.TRANSFER_LOSS, downstream.RECTIFIED),
    (downstream.VISUAL_TRANSFER, downstream.DISTILLATION),
    (sparsity.SPARSITY, pruning.P2, pruning.COMPRESSION),
    (performance.PERFORMANCE, mixtures.DOMAIN_CURVE),
    (privacy.PRIVATE, privacy.PRIVATE_SATURATED),
    (bounded.M1, bounded.M2, bounded.M4, bounded.SIGMOID_ACCURACY),
    (architecture.ROUTING, architecture.VOCABULARY, architecture.PRECISION, architecture.QUANTISATION),
    (tuning.FARSEER, tuning.LEARNING_RATE, tuning.BATCH),
)

LAWS: dict[str, Law] = {law.name: law for subject in SUBJECTS for law in subject}


def find_law(name: str, law: Law | None = None) -> Law:
    """Return `law` if it is given, or else the declared law called `name`.

    Args:
        name: the name of a declared law.
        law: a law that is used instead. None: the declared law.

    Raises:
        LosslineError: no declared law has this name.
    """
    if law is not None:
        return law
    if name not in LAWS:
        hint = errors.suggestion(name, LAWS)
        raise LosslineError(f"law {name!r} is not declared{hint}; `lossline-jax laws` lists them, `law` takes your own")
    return LAWS[name]
