"""A new data set with a handful of runs: what would the large model on it score?

A full sweep on another data set is at hand (known), and a few paired runs on the new one (few). The ways to get from
there to a run of the new set as large as one that was trained on the known set, as arXiv 2411.12925 compares them.
"""

from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.line import fit_line, predict_transfer
from lossline_jax.fit.direction import falls_with_x, rises_with_budget
from lossline_jax.fit.law import LOG_HUBER, Law, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible
from lossline_jax.fit.laws.size_and_tokens import KAPLAN
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law

IDENTITY, SCALING_LAW, FLOPS_TO_LOSS = "identity", "scaling law", "FLOPs to loss"
TEST_TO_TEST, TRAIN_TO_TEST = "test to test", "general train to test"

COMPUTE_LAW = Law(
    name="FLOPs to loss",
    formula="L = E + A/C^alpha",
    inputs={"C": "training FLOPs"},
    output="L",
    parameters=(
        irreducible("E", "L"),
        amount("A", "unit of L x C^alpha", lambda p, s: s["C"] ** p["alpha"]),
        exponent("alpha", lower=0.005, start=(0.02, 1.0)),
    ),
    function=lambda p, v: p["E"] + p["A"] * power(v["C"], -p["alpha"]),
    source="arXiv 2411.12925, figure 6: one axis for size and tokens",
    objective=LOG_HUBER,
    normalise=("C",),
    falls=("C",),
)


@dataclass(frozen=True, eq=False)
class PairedRuns:
    """Models of equal size and tokens on two data sets; (n,) arrays, losses in one unit."""

    params: np.ndarray
    tokens: np.ndarray
    budget: np.ndarray  # training FLOPs
    known_validation: np.ndarray  # of the model on the known set, on its own validation set
    known_loss: np.ndarray  # of the model on the known set, on the set that is asked about
    loss: np.ndarray  # of the model on the new set, on that set; NaN where it is to be predicted


@dataclass(frozen=True)
class FewRunPrediction:
    """(n,) predicted losses by one method; None where it has no value, and why."""

    method: str
    loss: tuple[float | None, ...]
    note: str


def predict_from_few_runs(few: PairedRuns, target: PairedRuns) -> list[FewRunPrediction]:
    """The loss of each target run on the new data set, by each method.

    Identity takes the loss of the known model. The scaling law (Kaplan form) and the law of FLOPs alone are fitted to
    the few runs; the two lines to their pairs, with both irreducible losses free. A method that cannot be fitted, or
    that can only fall where the losses rise, says so in its note; none takes the place of another.

    Raises:
        LosslineError: no runs, or none to predict.
    """
    if not few.loss.size or not target.known_loss.size:
        raise LosslineError("give some runs on the new data set, and a known run as large as the target")
    by_size = fit_law(KAPLAN, few.loss, N=few.params, D=few.tokens, level=None)
    by_flops = fit_law(COMPUTE_LAW, few.loss, C=few.budget, level=None)
    tests = fit_line(few.known_loss, few.loss, level=None)
    trains = fit_line(few.known_validation, few.loss, level=None)
    rises = rises_with_budget("the loss", few.budget, few.loss)
    return [
        FewRunPrediction(IDENTITY, tuple(target.known_loss.tolist()), ""),
        _refused(SCALING_LAW, target, rises)
        or _by_law(SCALING_LAW, by_size, {"N": target.params, "D": target.tokens}, KAPLAN),
        _refused(FLOPS_TO_LOSS, target, rises) or _by_law(FLOPS_TO_LOSS, by_flops, {"C": target.budget}, COMPUTE_LAW),
        _refused(TEST_TO_TEST, target, falls_with_x("the loss", few.known_loss, few.loss))
        or _by_line(TEST_TO_TEST, tests, target.known_loss),
        _refused(TRAIN_TO_TEST, target, falls_with_x("the loss", few.known_validation, few.loss))
        or _by_line(TRAIN_TO_TEST, trains, target.known_validation),
    ]


def _refused(method: str, target: PairedRuns, reason: str) -> FewRunPrediction | None:
    """A method without a value because the loss moves against all that it allows; None where it does not."""
    return FewRunPrediction(method, (None,) * target.known_loss.size, reason) if reason else None


def _by_law(method: str, fit: FitResult, inputs: dict[str, np.ndarray], law: Law) -> FewRunPrediction:
    if not fit.has_curve:
        num = next(iter(inputs.values())).size
        return FewRunPrediction(method, (None,) * num, f"{fit.status}: {fit.note}")
    return FewRunPrediction(method, tuple(fit.predict(law=law, **inputs).tolist()), fit.note)


def _by_line(method: str, fit: FitResult, x: np.ndarray) -> FewRunPrediction:
    if not fit.has_curve:
        return FewRunPrediction(method, (None,) * x.size, f"{fit.status}: {fit.note}")
    prediction = predict_transfer(fit, x)
    return FewRunPrediction(method, prediction.y, "some x below E_x" if any(prediction.below_domain) else fit.note)
