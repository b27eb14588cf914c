"""Fit L(N, D) in the Kaplan or Chinchilla form, and split a compute budget C = 6 N D between N and D."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.arguments import clean_arrays, run_labels
from lossline_jax.fit.data_set import DataSet, facts_of_points
from lossline_jax.fit.direction import ADVICE, wrong_way
from lossline_jax.fit.law import LOG_HUBER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.solve import fit_law_many

FLOPS_PER_PARAMETER_AND_TOKEN = 6  # of training: C = 6 N D (Kaplan et al. 2020, section 2.1)


@dataclass(frozen=True)
class Allocation:
    """A compute-optimal split of budgets: arrays or floats of the shape of the budget."""

    N: Any  # parameters, counted as in the fit
    D: Any  # training tokens, counted as in the fit
    L: Any  # the loss that the law gives for N and D


def chinchilla_allocation(parameters: Mapping[str, float], compute: Any) -> Allocation:
    """Return the split with the least loss of L = E + A/N^alpha + B/D^beta under 6 N D = C.

    N = G (C/6)^(beta/(alpha+beta)), D = (C/6)^(alpha/(alpha+beta)) / G, G = (alpha A / (beta B))^(1/(alpha+beta));
    L - E = (A G^-alpha + B G^beta) (C/6)^(-alpha beta/(alpha+beta)). Hoffmann et al. 2022, eq. 4.

    Args:
        parameters: E, A, B, alpha and beta by name.
        compute: C in FLOPs, a number or an array.
    """
    p = parameters
    budget = np.asarray(compute, float) / FLOPS_PER_PARAMETER_AND_TOKEN
    both = p["alpha"] + p["beta"]
    balance = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / both)
    reducible = p["A"] * balance ** -p["alpha"] + p["B"] * balance ** p["beta"]
    size = balance * budget ** (p["beta"] / both)
    loss = p["E"] + reducible * budget ** (-p["alpha"] * p["beta"] / both)
    return Allocation(N=size, D=budget / size, L=loss)


def kaplan_allocation(parameters: Mapping[str, float], compute: Any) -> Allocation:
    """Return the split with the least loss of L = E + ((A/N)^(alpha/beta) + B/D)^beta under 6 N D = C.

    N = (G C/6)^(beta/(alpha+beta)), G = alpha A^(alpha/beta) / (beta B). arXiv 2411.12925.

    Args:
        parameters: E, A, B, alpha and beta by name; or N_c, D_c, alpha_N and alpha_D of the form without entropy, in
            which E is 0.
        compute: C in FLOPs, a number or an array.
    """
    p = parameters
    if "N_c" in p:
        p = {"E": 0.0, "A": p["N_c"], "B": p["D_c"], "alpha": p["alpha_N"], "beta": p["alpha_D"]}
    budget = np.asarray(compute, float) / FLOPS_PER_PARAMETER_AND_TOKEN
    ratio = p["alpha"] / p["beta"]
    size = (ratio * p["A"] ** ratio * budget / p["B"]) ** (p["beta"] / (p["alpha"] + p["beta"]))
    tokens = budget / size
    loss = p["E"] + ((p["A"] / size) ** ratio + p["B"] / tokens) ** p["beta"]
    return Allocation(N=size, D=tokens, L=loss)


FORMS = {"kaplan": KAPLAN, "chinchilla": CHINCHILLA}
MIN_LEVELS = 3  # distinct values of N and of D: amount, exponent and offset are three unknowns


def fit_compute_law(
    loss: Any,
    *,
    N: Any,
    D: Any,
    form: Literal["kaplan", "chinchilla"] = "kaplan",
    clusters: Sequence | np.ndarray | None = None,
    params_counted: str = "total parameters, embeddings included",
    tokens_counted: str = "tokens seen",
    unit: str = "nats/token",
) -> FitResult:
    """Fit L(N, D) by log-residual Huber (delta 1e-3, summed), as arXiv 2203.15556 and 2411.12925 do.

    If N or D takes fewer than three values, E cannot be separated from the term that does not vary. The result is then
    `not identified` without parameters, and no E is invented. If the loss rises with N and D (`direction.py`), as
    accuracies do, the result is `failed`: the law can only fall.

    Args:
        loss: (n,) losses.
        N: (n,) parameters.
        D: (n,) training tokens.
        form: the form of the law.
        clusters: (n,) the label of the run of each point, which is counted. None: not known.
        params_counted: what N counts, for `FitResult.conventions`.
        tokens_counted: what D counts, for `FitResult.conventions`.
        unit: the unit of the losses, for `FitResult.conventions`.

    Raises:
        LosslineError: an unknown form, or arrays that do not fit together.
    """
    if form not in FORMS:
        raise LosslineError(f"compute law {form!r} is not one of {sorted(FORMS)}")
    law = FORMS[form]
    inputs = {"N": N, "D": D}
    conventions = {"N": params_counted, "D": tokens_counted, "L": unit}
    data, keep = clean_arrays(law, inputs, loss)
    runs = run_labels(clusters, keep.size)
    levels = {name: np.unique(data[name]).size for name in law.inputs}
    constant = [name for name in law.inputs if levels[name] < MIN_LEVELS]
    without_curve = facts_of_points(law, LOG_HUBER, keep, runs) | {"num_starts": 0, "conventions": conventions}
    if np.all(data[law.output] > 0) and (against := wrong_way(law, data, data[law.output])):
        return FitResult(status="failed", note=f"{against}; {ADVICE}", **without_curve)
    if keep.sum() >= len(law.parameters) and constant:
        counts = " and ".join(f"{name} takes {levels[name]} value{'s' * (levels[name] > 1)}" for name in constant)
        note = f"{counts}: with fewer than {MIN_LEVELS}, E cannot be told from that term"
        return FitResult(status="not identified", note=note, not_identified=law.names, **without_curve)
    points = DataSet(inputs, loss, clusters=clusters, conventions=conventions)
    return fit_law_many(law, [points], objective=LOG_HUBER, level=INTERVAL_LEVEL)[0]
