"""Does a loss rise although the law can only fall? Accuracies rise, and no law of size and tokens can follow them.

A loss rises if two conditions hold. Kendall's tau between the loss and the training budget is at least 0.5. Without a
trend, such a tau has a probability below 1%. The limit is 5% for values that all lie in [0, 1], as accuracies do.
Three kinds of losses do not count as rising: a noisy loss that falls, a loss that rises over a part of the budgets,
and a U-shaped loss.
"""

import re

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law, Values

STEADY = 0.5  # Kendall's tau (from -1 to 1); from this value on, the trend counts for the whole range. A choice.
CHANCE, CHANCE_OF_SHARES = 0.01, 0.05  # largest probability of such a tau without a trend: of losses, of shares
FEW = 500  # points; with at most so many, tau is counted over all pairs before scipy is imported. A choice.
ACCURACY = re.compile(r"(^|[^a-z])(acc|accuracy)([^a-z]|$)", re.IGNORECASE)
ADVICE = "use a loss, or an error such as 1 - accuracy"


def rise(amount: np.ndarray, y: np.ndarray) -> float | None:
    """Return Kendall's tau if `y` rises with `amount` by the rule of this module. None: it does not rise."""
    finite = np.isfinite(amount) & np.isfinite(y)
    amount, y = amount[finite], y[finite]
    if y.size < 3 or np.ptp(y) == 0 or np.ptp(amount) == 0:
        return None
    if y.size <= FEW and _tau(amount, y) < STEADY - 1e-9:
        return None
    import scipy.stats  # takes a second, and every process that trains imports this module

    tau, probability = np.asarray(scipy.stats.kendalltau(amount, y, alternative="greater"), float)
    chance = CHANCE_OF_SHARES if np.all((y >= 0) & (y <= 1)) else CHANCE
    return float(tau) if tau >= STEADY and probability < chance else None


def _tau(amount: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-b (Kendall 1945) over all pairs of points."""
    first, second = np.triu_indices(y.size, 1)
    signs, y_signs = np.sign(amount[first] - amount[second]), np.sign(y[first] - y[second])
    return float(np.sum(signs * y_signs) / np.sqrt(np.count_nonzero(signs) * np.count_nonzero(y_signs)))


def rises_with_budget(name: str, budget: np.ndarray, y: np.ndarray) -> str:
    """Return the reason why the losses `y` called `name` cannot be predicted from their budgets, or empty text."""
    tau = rise(budget, y)
    if tau is not None:
        return f"{name} rises with the training budget (Kendall's tau {tau:+.2f}) and the laws can only fall; {ADVICE}"
    if _is_accuracy(name, y) and rise(budget, -y) is None:
        return f"{name} is called an accuracy and the laws can only fall; {ADVICE}"
    return ""


def falls_with_x(name: str, x: np.ndarray, y: np.ndarray) -> str:
    """Return the reason why a line over the losses `x` cannot predict the losses `y`, or empty text."""
    tau = rise(x, -y)
    return "" if tau is None else f"{name} falls as x rises (tau {-tau:+.2f}) and a line can only rise; {ADVICE}"


def wrong_way(law: Law, inputs: Values, y: np.ndarray, name: str = "") -> str:
    """Return the reason why `law` cannot follow the outputs `y`, or empty text if the law can.

    There are two reasons. The output rises with all the inputs in which the law can only fall (or the reverse). Or the
    output is called an accuracy, and the law can only fall.

    Args:
        law: the law to be fitted.
        inputs: (n,) arrays by input name.
        y: (n,) outputs.
        name: the name of the outputs in the reason; the law's own name of its output if empty.
    """
    name = name or law.output
    for one_way, sign, verb, allowed in ((law.falls, 1, "rises", "fall"), (law.rises, -1, "falls", "rise")):
        if not one_way:
            continue
        with np.errstate(all="ignore"):
            amount = np.sum([np.log(np.asarray(inputs[input_name], float)) for input_name in one_way], axis=0)
        tau = rise(amount, sign * y)
        listed = " and ".join(one_way)
        if tau is not None:
            return f"{name} {verb} with {listed} (Kendall's tau {sign * tau:+.2f}) and {law.name} can only {allowed}"
        if law.falls and _is_accuracy(name, y) and rise(amount, -y) is None:
            return f"{name} is called an accuracy and {law.name} can only fall"
    return ""


def refuse_accuracy_unit(unit: str) -> None:
    """Raise LosslineError if `unit`, the loss column of a long table, holds accuracies."""
    if ACCURACY.search(unit.replace("_", " ")):
        raise LosslineError(f"column {unit}: accuracies rise and the laws can only fall; {ADVICE}")


def _is_accuracy(name: str, y: np.ndarray) -> bool:
    values = y[np.isfinite(y)]
    return bool(ACCURACY.search(name.replace("_", " "))) and bool(np.all((values >= 0) & (values <= 1)))
