"""Runs whose losses are in another unit than those of the other runs: bits where the others are nats.

Such a run is off by one factor, 1/ln 2 or ln 2, in every row. It is found where the other runs agree among themselves
so well that nothing else explains the factor. Where they do not, nothing is said.
"""

from collections.abc import Sequence

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.units import LOG_2

FACTOR = -np.log(LOG_2)  # of the logarithms of bits and of nats
SLACK = 0.05  # how far from that factor a run may lie: 5%
MIN_RUNS = 5  # for a law to be fitted to the others
AGREEMENT = 0.03  # robust standard deviation of the other runs about the law, in ln(loss)
SHARE = 0.25  # of runs, that at most are in the other unit
SAME_RANGE = 0.1  # difference, in ln(loss), of the ranges of runs of one setting
GAP = 0.15  # in ln(y), that a level may have beside the factor


def require_one_unit(loss: np.ndarray, inputs: Sequence[np.ndarray], runs: Sequence[str], name: str) -> None:
    """Raises LosslineError for a run that a smooth law of `inputs` says is in another unit.

    Args:
        loss: (n,) losses.
        inputs: (n,) positive sizes, tokens or another loss.
        runs: (n,) the run of each loss, or what else a row is called.
        name: what the loss is, for the message.
    """
    columns = np.array([np.asarray(values, float) for values in inputs])
    with np.errstate(all="ignore"):
        usable = np.isfinite(np.log(loss)) & np.isfinite(np.log(columns)).all(axis=0)
    labels, codes = np.unique(np.asarray(runs, str)[usable], return_inverse=True)
    if labels.size < MIN_RUNS or np.max(loss[usable]) <= 1:  # a share of one is no loss in nats or bits
        return
    logs = np.log(columns[:, usable])
    residuals = _residuals(np.log(loss[usable]), logs)
    middle = np.array([np.median(residuals[codes == k]) for k in range(labels.size)])
    off = np.abs(np.abs(middle) - FACTOR) < SLACK
    spread = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    if not off.any() or off.mean() > SHARE or spread > AGREEMENT or np.any(np.abs(middle[~off]) > FACTOR / 2):
        return
    for k in np.flatnonzero(off):
        in_run = codes == k
        within = all(np.all((row[~in_run].min() <= row[in_run]) & (row[in_run] <= row[~in_run].max())) for row in logs)
        if within and np.all(np.abs(residuals[in_run] - middle[k]) < SLACK):
            raise LosslineError(_message(labels[k], name, middle[k], "the other rows lead to expect"))


def require_one_unit_of_repetitions(losses: dict[str, np.ndarray], runs: Sequence[str]) -> None:
    """Raises LosslineError for a run whose losses span the range of its repetitions, times 1/ln 2 or ln 2.

    Args:
        losses: (n,) losses by what they are, NaN where missing.
        runs: (n,) the run of each; all runs are of one setting.
    """
    labels, codes = np.unique(np.asarray(runs, str), return_inverse=True)
    for name, loss in losses.items():
        ends_RE = np.array([_ends(loss[codes == k]) for k in range(labels.size)])
        has_losses = np.isfinite(ends_RE).all(axis=-1)
        labels_R, ends_RE = labels[has_losses], ends_RE[has_losses]
        if labels_R.size < 2:
            continue
        near_RR = (np.abs(ends_RE[:, None] - ends_RE) < SAME_RANGE).all(axis=-1)
        shift_RE = ends_RE - np.median(ends_RE[near_RR[near_RR.sum(axis=1).argmax()]], axis=0)
        is_near = (np.abs(shift_RE) < SAME_RANGE).all(axis=-1)
        is_off = (np.abs(np.abs(shift_RE) - FACTOR) < SLACK).all(axis=-1) & (shift_RE[:, 0] * shift_RE[:, 1] > 0)
        if not is_off.any() or not (is_near | is_off).all():
            continue
        first = int(np.argmax(is_off))
        if is_off.sum() >= is_near.sum():  # nobody can say which of the two it is
            raise LosslineError(
                f"{labels_R[np.argmax(is_near)]} and {labels_R[first]}: {name} of the one is "
                f"{np.exp(abs(shift_RE[first].mean())):.3g} times that of the other, as if one were in bits and one "
                "in nats; convert it, or leave it out"
            )
        raise LosslineError(_message(labels_R[first], name, shift_RE[first].mean(), "other runs of its setting have"))


def as_if_in_another_unit(level: tuple[np.ndarray, np.ndarray], reference: tuple[np.ndarray, np.ndarray]) -> str:
    """The question whether a level is in bits where its reference is in nats, or the other way; empty without cause.

    Losses of both axes begin and end off by the factor between the units, on y but for a gap. A tokenizer may do the
    same, so nothing is refused.

    Args:
        level, reference: losses on x and on y.
    """
    shift_AE = np.array([np.subtract(_ends(a), _ends(b)) for a, b in zip(level, reference, strict=True)])
    unit = np.copysign(FACTOR, shift_AE[0, 0])
    if not np.all(np.abs(shift_AE - unit) < [[SLACK], [GAP]]):
        return ""
    here, there = ("bits", "nats") if unit > 0 else ("nats", "bits")
    factor = f"x and y are {np.exp(unit):.3g} times those of the reference throughout"
    return f"{factor}, as if in {here} where that is in {there}: is it so?"


def _ends(loss: np.ndarray) -> tuple[float, float]:
    """Logarithms of the smallest and the largest loss of a run."""
    seen = loss[np.isfinite(loss) & (loss > 0)]
    return (float(np.log(seen.min())), float(np.log(seen.max()))) if seen.size else (np.nan, np.nan)


def _residuals(target: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Distances from a quadratic in the logarithms, fitted by least absolute deviations."""
    varied = [row - row.mean() for row in logs if np.ptp(row) > 0]
    products = [a * b for k, a in enumerate(varied) for b in varied[k:]]
    terms = [np.ones_like(target), *varied, *(products if target.size >= 4 * (1 + len(varied) + len(products)) else [])]
    design = np.array(terms).T
    weights = np.ones_like(target)
    for _ in range(40):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0]
        residuals = target - design @ coefficients
        weights = 1 / np.maximum(np.abs(residuals), 1e-4)
    return residuals


def _message(run: str, name: str, shift: float, who: str) -> str:
    unit = "bits" if shift > 0 else "nats"
    return (
        f"{run}: {name} is {np.exp(shift):.3g} times what {who}, as if in {unit} and the others not; convert it, or "
        "leave the run out"
    )
