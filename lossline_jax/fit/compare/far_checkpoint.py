"""Find a checkpoint at which all runs of a setting lie off the curve through their other checkpoints.

Repetitions agree in such a fault, for example one of the evaluation. So the comparison of runs (`far_run`) does not see
it. A parabola is fitted to the means of the runs at all checkpoints. The residual of each mean is studentized without
this mean (Cook and Weisberg 1982, Residuals and Influence in Regression, section 2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import stdtr

from lossline_jax.formatting import ratio_text

# All of these are conventions of this package. `benchmarks/far_checkpoints.py` measures what they find.
SIGNIFICANCE = 0.001  # probability, over all checkpoints of all settings; small, because curves are no parabolas
MIN_RATIO = 12.0  # distance from the curve, in deviations of the other checkpoints
MIN_SHARE = 0.5  # share of the mean distance that every run must have, or it is the fault of some runs
NUM_PARAMETERS = 3  # of the parabola
MIN_CHECKPOINTS = 7  # checkpoints that all runs have. Without the far one they leave three degrees of freedom
ROUNDING = 1e-9  # relative to the values: smaller deviations are rounding

DistanceUnit = Literal["y", "ln(loss)"]


@dataclass(frozen=True, eq=False)
class CheckpointCurves:
    """The curves of the runs of one setting, by checkpoint."""

    setting: str  # in words
    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,)
    runs: np.ndarray  # (n,) the run of each point
    checkpoints: np.ndarray  # (n,) numbers that are equal at the same checkpoint, and rise during training

    @cached_property
    def indices(self) -> np.ndarray:
        """The number of each point (checkpoints, runs), for the checkpoints that all runs have.

        There are none where a run has a checkpoint twice.
        """
        run_ids, runs = np.unique(self.runs, return_inverse=True)
        numbers, checkpoints = np.unique(self.checkpoints, return_inverse=True)
        indices_CR = np.full((numbers.size, run_ids.size), -1)
        indices_CR[checkpoints, runs] = np.arange(self.x.size)
        if np.sum(indices_CR >= 0) < self.x.size:
            return indices_CR[:0]
        return indices_CR[np.all(indices_CR >= 0, axis=1)]


@dataclass(frozen=True)
class FarCheckpoint:
    """A checkpoint at which all runs of a setting lie off the curve through their other checkpoints."""

    setting: str
    checkpoint: float  # its number in `CheckpointCurves.checkpoints`
    x: float  # mean over the runs
    y: float
    distance: float  # of y from the curve
    ratio: float  # distance in deviations of the other checkpoints
    run_ids: tuple[str, ...]  # empty: the table does not tell runs apart
    unit: DistanceUnit
    name: str = ""  # of the checkpoint, such as `step 500`

    @property
    def sure(self) -> bool:
        """True: the checkpoint is set aside."""
        return True

    def __str__(self) -> str:
        who = "all runs lie" if len(self.run_ids) > 1 else "its run lies"
        of_others = f"the curve through the other checkpoints ({self.ratio:.0f} times the scatter of these)"
        if self.unit == "y":
            size = f"{abs(self.distance):.3f} {'above' if self.distance > 0 else 'below'}"
            place = f"x {self.x:.3f}, y {self.y:.3f}"
        else:
            size = f"at {ratio_text(float(np.exp(self.distance)))} times the loss of"
            place = f"loss {np.exp(self.y):.4g}"
        return f"at {self.name} of {self.setting} ({place}), {who} {size} {of_others}"


def far_checkpoints(curves: Sequence[CheckpointCurves], unit: DistanceUnit) -> list[FarCheckpoint | None]:
    """Return the far checkpoint of each setting, None where it has none.

    The first and the last checkpoint are never far, because a curve may bend there. A setting without seven checkpoints
    that all its runs have is not judged.

    Args:
        curves: the curves of each setting.
        unit: the unit of y.
    """
    farthest = [_farthest(of_setting, unit) for of_setting in curves]
    num_tests = sum(max(of_setting.indices.shape[0] - 2, 0) for of_setting in curves)
    return [None if found is None or found[0] * num_tests >= SIGNIFICANCE else found[1] for found in farthest]


def _farthest(curves: CheckpointCurves, unit: DistanceUnit) -> tuple[float, FarCheckpoint] | None:
    """Return the checkpoint that lies farthest off in all runs, with its p-value before correction."""
    indices = curves.indices
    num = indices.shape[0]
    if num < MIN_CHECKPOINTS:
        return None
    x_CR, y_CR = curves.x[indices], curves.y[indices]
    x, y = x_CR.mean(axis=1), y_CR.mean(axis=1)
    if not np.ptp(x) > 0:
        return None
    ratios = np.abs(_studentized(x, y))
    far = 1 + int(np.argmax(ratios[1:-1]))
    others = np.delete(np.arange(num), far)
    parabola = np.polynomial.Polynomial.fit(x[others], y[others], NUM_PARAMETERS - 1)
    residuals_CR = y_CR - parabola(x_CR)
    distances_R = residuals_CR[far] - residuals_CR[others].mean(axis=0)
    distance = float(distances_R.mean())
    if ratios[far] < MIN_RATIO or not np.all(distances_R * np.sign(distance) >= MIN_SHARE * abs(distance)):
        return None
    p = float(2 * stdtr(num - NUM_PARAMETERS - 1, -ratios[far]))
    run_ids = tuple(dict.fromkeys(map(str, curves.runs[indices[far]])))
    number = float(curves.checkpoints[indices[far, 0]])
    found = FarCheckpoint(
        curves.setting, number, float(x[far]), float(y[far]), distance, float(ratios[far]), run_ids, unit
    )
    return p, found


def _studentized(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the residuals from a parabola, each over its deviation as estimated without the point itself."""
    basis = np.linalg.qr(np.polynomial.legendre.legvander((2 * x - x.min() - x.max()) / np.ptp(x), 2))[0]
    residuals = y - basis @ (basis.T @ y)
    remaining = np.maximum(1 - np.sum(basis**2, axis=1), ROUNDING)  # 1 - leverage
    squares = np.maximum(residuals @ residuals - residuals**2 / remaining, 0.0)
    variance = squares / (x.size - NUM_PARAMETERS - 1)
    smallest = ROUNDING * float(np.mean(np.abs(y)))
    return residuals / np.sqrt(remaining * np.maximum(variance, smallest**2))
