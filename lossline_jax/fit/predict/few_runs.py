"""Predict the loss of a large model on a new data set from a handful of runs on it.

Two things are given: a full sweep on another data set (known), and a few paired runs on the new one (few).
The question is the loss on the new set of a run as large as a given run of the known set. This file has the methods
that arXiv 2411.12925 compares.
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

# Names of the methods, as they are shown.
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
    """Pairs of models of equal size and tokens on two data sets. Arrays are (n,); losses are in one unit."""

    params: np.ndarray  # parameters
    tokens: np.ndarray  # training tokens
    budget: np.ndarray  # training FLOPs
    known_validation: np.ndarray  # loss of the model of the known set on the validation set of the known set
    known_loss: np.ndarray  # loss of the model of the known set on the set that is asked about
    loss: np.ndarray  # loss of the model of the new set on that set; NaN: to be predicted


@dataclass(frozen=True)
class FewRunPrediction:
    """The losses that one method predicts for each target run. None: the method has no value; the note says why."""

    method: str
    loss: tuple[float | None, ...]
    note: str


def predict_from_few_runs(few: PairedRuns, target: PairedRuns) -> list[FewRunPrediction]:
    """Predict the loss of each target run on the new data set, by each method.

    Identity takes the loss of the known model. Two laws are fitted to the few runs: the scaling law (Kaplan form), and
    a law of FLOPs alone. Two lines are fitted to the pairs, with both irreducible losses free.
    A method that cannot be fitted has no value, and its note gives the reason. The same holds for a method that can
    only fall where the losses rise. No method takes the place of another.

    Args:
        few: the few runs on the new data set, paired with runs on the known set.
        target: the known runs whose partners on the new set are asked for. Its `loss` is not used.

    Raises:
        LosslineError: there are no runs, or none to predict.
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
    """Return a prediction without values that gives the reason. None: there is no reason to refuse."""
    return FewRunPrediction(method, (None,) * target.known_loss.size, reason) if reason else None


def _by_law(method: str, fit: FitResult, inputs: dict[str, np.ndarray], law: Law) -> FewRunPrediction:
    if not fit.has_curve:
        num_targets = next(iter(inputs.values())).size
        return FewRunPrediction(method, (None,) * num_targets, f"{fit.status}: {fit.note}")
    return FewRunPrediction(method, tuple(fit.predict(law=law, **inputs).tolist()), fit.note)


def _by_line(method: str, fit: FitResult, x: np.ndarray) -> FewRunPrediction:
    if not fit.has_curve:
        return FewRunPrediction(method, (None,) * x.size, f"{fit.status}: {fit.note}")
    prediction = predict_transfer(fit, x)
    return FewRunPrediction(method, prediction.y, "some x below E_x" if any(prediction.below_domain) else fit.note)
