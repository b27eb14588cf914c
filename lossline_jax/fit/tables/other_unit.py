"""Find runs whose losses, or sizes, are in another unit than those of the other runs, such as bits among nats.

Every loss of a run in bits is off by the same factor, 1/ln 2 or ln 2. The run is found only if the other runs agree so
well with each other that nothing else explains the factor. Otherwise there is no error.
"""

from collections.abc import Sequence

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.units import LOG_2

FACTOR = -np.log(LOG_2)  # ln(loss in bits) - ln(loss in nats)
# All numbers below are choices.
SLACK = 0.05  # largest distance of a run from that factor, in ln(loss)
MIN_RUNS = 5  # runs that a law needs to be fitted
AGREEMENT = 0.03  # largest robust standard deviation of the runs about the law, in ln(loss)
SHARE = 0.25  # largest share of runs in the other unit
SAME_RANGE = 0.1  # largest difference of the ranges of runs of one setting, in ln(loss)
OTHER_SIZE = 1e3  # ratio of a size to that of all other runs from which its unit is in doubt
MOST_NAMED = 3  # runs that a note names
GAP = 0.15  # largest distance of a level from that factor on y, in ln(y)


def require_one_unit(loss: np.ndarray, inputs: Sequence[np.ndarray], runs: Sequence[str], name: str) -> None:
    """Raise LosslineError if a smooth law of the inputs shows that a run is in another unit.

    Args:
        loss: (n,) losses.
        inputs: (n,) positive sizes, tokens or another loss.
        runs: (n,) the run of each loss, or the name of the row.
        name: the name of the loss, for the message.
    """
    columns = np.array([np.asarray(values, float) for values in inputs])
    with np.errstate(all="ignore"):
        usable = np.isfinite(np.log(loss)) & np.isfinite(np.log(columns)).all(axis=0)
    labels, codes = np.unique(np.asarray(runs, str)[usable], return_inverse=True)
    if labels.size < MIN_RUNS or np.max(loss[usable]) <= 1:  # values up to 1 are shares and have no such unit
        return
    logs = np.log(columns[:, usable])
    residuals = _residuals(np.log(loss[usable]), logs)
    shift_of_run = np.array([np.median(residuals[codes == k]) for k in range(labels.size)])
    is_off = np.abs(np.abs(shift_of_run) - FACTOR) < SLACK
    deviation = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))  # 1.4826: exact for normal residuals
    if not is_off.any() or is_off.mean() > SHARE or deviation > AGREEMENT:
        return
    if np.any(np.abs(shift_of_run[~is_off]) > FACTOR / 2):
        return
    for k in np.flatnonzero(is_off):
        in_run = codes == k
        within = all(np.all((row[~in_run].min() <= row[in_run]) & (row[in_run] <= row[~in_run].max())) for row in logs)
        if within and np.all(np.abs(residuals[in_run] - shift_of_run[k]) < SLACK):
            raise LosslineError(_message(labels[k], name, shift_of_run[k], "the other rows lead to expect"))


def require_one_unit_of_repetitions(losses: dict[str, np.ndarray], runs: Sequence[str]) -> None:
    """Raise LosslineError if the losses of a run span the range of its repetitions, times 1/ln 2 or ln 2.

    Args:
        losses: (n,) losses by name, NaN where missing.
        runs: (n,) the run of each loss; all runs are of one setting.
    """
    labels, codes = np.unique(np.asarray(runs, str), return_inverse=True)
    for name, loss in losses.items():
        ends_RE = np.array([_ends(loss[codes == k]) for k in range(labels.size)])
        has_losses = np.isfinite(ends_RE).all(axis=-1)
        labels_R, ends_RE = labels[has_losses], ends_RE[has_losses]
        if labels_R.size < 2:
            continue
        near_RR = np.all(np.abs(ends_RE[:, None] - ends_RE) < SAME_RANGE, axis=-1)
        shift_RE = ends_RE - np.median(ends_RE[near_RR[near_RR.sum(axis=1).argmax()]], axis=0)
        is_near = np.all(np.abs(shift_RE) < SAME_RANGE, axis=-1)
        is_off = np.all(np.abs(np.abs(shift_RE) - FACTOR) < SLACK, axis=-1) & (shift_RE[:, 0] * shift_RE[:, 1] > 0)
        if not is_off.any() or not (is_near | is_off).all():
            continue
        first = int(np.argmax(is_off))
        if np.sum(is_off) >= np.sum(is_near):  # the wrong one of the two cannot be known
            factor = np.exp(abs(shift_RE[first].mean()))
            raise LosslineError(
                f"{labels_R[np.argmax(is_near)]} and {labels_R[first]}: {name} of one run is {factor:.3g} times that "
                "of the other, as if one were in bits and one in nats; convert one run, or leave it out"
            )
        raise LosslineError(_message(labels_R[first], name, shift_RE[first].mean(), "other runs of its setting have"))


def as_if_in_another_unit(level: tuple[np.ndarray, np.ndarray], reference: tuple[np.ndarray, np.ndarray]) -> str:
    """Return the question whether a level and its reference are in different units; empty text without a reason to ask.

    The reason: on both axes, the smallest and the largest losses differ by the factor between bits and nats. On y, a
    gap of `GAP` is allowed. A tokenizer may have the same effect, so this is a question and not an error.

    Args:
        level: (n,) losses on x and (n,) losses on y.
        reference: (m,) losses on x and (m,) losses on y.
    """
    shift_AE = np.array([np.subtract(_ends(a), _ends(b)) for a, b in zip(level, reference, strict=True)])
    unit = np.copysign(FACTOR, shift_AE[0, 0])
    if not np.all(np.abs(shift_AE - unit) < [[SLACK], [GAP]]):
        return ""
    own_unit, other_unit = ("bits", "nats") if unit > 0 else ("nats", "bits")
    factor = f"x and y are {np.exp(unit):.3g} times those of the reference throughout"
    return f"{factor}, as if in {own_unit} where that is in {other_unit}: is it so?"


def runs_of_another_size(values: np.ndarray, runs: Sequence[str], column: str) -> str:
    """Name the runs whose size, tokens or compute lie a thousand times outside those of all others. Empty: none do.

    Args:
        values: (n,) positive sizes, tokens or compute, NaN where missing.
        runs: (n,) the run of each value, or the name of the row.
        column: the name of the column.
    """
    usable = np.isfinite(values) & (values > 0)
    order = np.argsort(values[usable], kind="stable")
    ordered, names = values[usable][order], np.asarray(runs, str)[usable][order]
    if ordered.size < MIN_RUNS:
        return ""
    ratios = ordered[1:] / ordered[:-1]
    place = int(np.argmax(ratios)) + 1  # the number of values below the widest gap
    is_above = 2 * place >= ordered.size
    far, size = (slice(place, None), "largest") if is_above else (slice(place), "smallest")
    if ratios[place - 1] < OTHER_SIZE or ordered[far].size > SHARE * ordered.size:
        return ""
    nearest, neighbour = (place, place - 1) if is_above else (place - 1, place)
    found = list(dict.fromkeys(names[far].tolist()))
    if set(found) & set(np.delete(names, far).tolist()):  # checkpoints of the same runs: their unit is not in doubt
        return ""
    shown = ", ".join(found[:MOST_NAMED]) + (f" and {len(found) - MOST_NAMED} more" if found[MOST_NAMED:] else "")
    ratio = ordered[nearest] / ordered[neighbour]
    return f"{shown}: {column} is {ordered[nearest]:.3g}, {ratio:.2g} times the {size} of all others; check its unit"


def _ends(loss: np.ndarray) -> tuple[float, float]:
    """Return the logarithms of the smallest and the largest loss of a run; NaN without losses."""
    usable = loss[np.isfinite(loss) & (loss > 0)]
    return (float(np.log(usable.min())), float(np.log(usable.max()))) if usable.size else (np.nan, np.nan)


def _residuals(target: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return the distances from a quadratic in the logarithms, fitted by least absolute deviations.

    The fit reweights least squares 40 times. The products of inputs are terms only if there are four points per term.
    """
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


def _message(run: str, name: str, shift: float, expectation: str) -> str:
    unit = "bits" if shift > 0 else "nats"
    return (
        f"{run}: {name} is {np.exp(shift):.3g} times what {expectation}, as if in {unit} and the others not; convert "
        "it, or leave the run out"
    )
