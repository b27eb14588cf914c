"""Does a loss rise with what a law can only fall in? Accuracies do, and no law of size and tokens can follow them.

The rule: a loss rises where Kendall's tau between it and the training budget is at least 0.5 and such a tau has a
probability below 1% without any trend. For values that all lie in [0, 1], as accuracies do, 5% is enough. A noisy loss
that falls, one that rises over a part of the budgets, and a U-shaped one stay below.
"""

import re

import numpy as np
import scipy.stats

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law, Values

STEADY = 0.5  # Kendall's tau from which a trend is one of the whole range
CHANCE, CHANCE_OF_SHARES = 0.01, 0.05  # largest probability of that tau without a trend
ACCURACY = re.compile(r"(^|[^a-z])(acc|accuracy)([^a-z]|$)", re.IGNORECASE)
ADVICE = "use a loss, or an error such as 1 - accuracy"


def rise(amount: np.ndarray, y: np.ndarray) -> float | None:
    """Kendall's tau where `y` rises with `amount` by the rule of this module, else None."""
    finite = np.isfinite(amount) & np.isfinite(y)
    amount, y = amount[finite], y[finite]
    if y.size < 3 or np.ptp(y) == 0 or np.ptp(amount) == 0:
        return None
    tau, probability = scipy.stats.kendalltau(amount, y, alternative="greater")
    chance = CHANCE_OF_SHARES if np.all((y >= 0) & (y <= 1)) else CHANCE
    return float(tau) if tau >= STEADY and probability < chance else None


def rises_with_budget(name: str, budget: np.ndarray, y: np.ndarray) -> str:
    """The reason why the losses `y` called `name` cannot be predicted from their budgets; empty where they can."""
    tau = rise(budget, y)
    if tau is not None:
        return f"{name} rises with the training budget (Kendall's tau {tau:+.2f}) and the laws can only fall; {ADVICE}"
    if _is_accuracy(name, y) and rise(budget, -y) is None:
        return f"{name} is called an accuracy and the laws can only fall; {ADVICE}"
    return ""


def falls_with_x(name: str, x: np.ndarray, y: np.ndarray) -> str:
    """The reason why the losses `y` cannot be predicted by a line over the losses `x`; empty where they can."""
    tau = rise(x, -y)
    return "" if tau is None else f"{name} falls as x rises (tau {-tau:+.2f}) and a line can only rise; {ADVICE}"


def wrong_way(law: Law, inputs: Values, y: np.ndarray, name: str = "") -> str:
    """The reason why `law` cannot follow the outputs `y` called `name`; empty where it can.

    The output moves against all inputs that the law falls (or rises) in, or is called an accuracy.
    """
    name = name or law.output
    for inputs_of, sign, verb, allowed in ((law.falls, 1, "rises", "fall"), (law.rises, -1, "falls", "rise")):
        if not inputs_of:
            continue
        with np.errstate(all="ignore"):
            amount = np.sum([np.log(np.asarray(inputs[each], float)) for each in inputs_of], axis=0)
        tau = rise(amount, sign * y)
        counted = " and ".join(inputs_of)
        if tau is not None:
            return f"{name} {verb} with {counted} (Kendall's tau {sign * tau:+.2f}) and {law.name} can only {allowed}"
        if law.falls and _is_accuracy(name, y) and rise(amount, -y) is None:
            return f"{name} is called an accuracy and {law.name} can only fall"
    return ""


def refuse_accuracy_unit(unit: str) -> None:
    """Raise LosslineError where `unit`, the loss column of a long table, holds accuracies."""
    if ACCURACY.search(unit.replace("_", " ")):
        raise LosslineError(f"column {unit}: accuracies rise and the laws can only fall; {ADVICE}")


def _is_accuracy(name: str, y: np.ndarray) -> bool:
    values = y[np.isfinite(y)]
    return bool(ACCURACY.search(name.replace("_", " "))) and bool(np.all((values >= 0) & (values <= 1)))
