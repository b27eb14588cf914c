"""The noise floor: how far a repetition with another seed lies from the line of its own setting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats

from lossline_jax.fit.compare.setting_line import SettingLine

NUM_LINE_PARAMETERS = 4
IDENTICAL = 1e-9  # of the loss: repetitions that differ by less are copies
OTHER_NOISE = 0.1  # significance at which settings have a noise of their own


@dataclass(frozen=True, eq=False)
class Noise:
    """In the unit of y."""

    floor: float  # standard deviation of a run's mean distance from the line of its setting
    degrees_of_freedom: int  # repetitions behind it; 0: no setting was repeated
    source: Literal["seeds", "scatter"]
    deviations: np.ndarray  # (runs,) those distances, each widened for the mean that was taken off

    @property
    def repeated(self) -> bool:
        return self.source == "seeds"


def noise_floor(cells: Sequence[SettingLine]) -> Noise | None:
    """From settings with several runs; where there is none, the scatter of checkpoints about their lines stands in.

    Scatter says how well a line is known along one run and nothing about where another run's would lie.

    Returns:
        None where no setting has a line.
    """
    deviations, squares, freedom = [], 0.0, 0
    for cell in cells:
        if cell.fit.has_curve and cell.num_runs > 1:
            means = cell.run_means(cell.y - cell.fit.predict(x=cell.x), np.ones(cell.x.size, bool))
            apart = means - means.mean()
            deviations.append(apart * np.sqrt(means.size / (means.size - 1)))
            squares += float(apart @ apart)
            freedom += means.size - 1
    if freedom:
        if squares <= (IDENTICAL * np.mean([cell.y.mean() for cell in cells])) ** 2:
            squares = 0.0
        return Noise(float(np.sqrt(squares / freedom)), freedom, "seeds", np.concatenate(deviations))
    return _scatter(cells)


def pool_noise(factor_noise: Noise | None, everywhere: Noise | None) -> Noise | None:
    """The noise of some settings: that of the whole table, which more repetitions know better, unless it is another.

    Another: the variance of a factor's own settings differs from that of the rest (F test, two-sided, at 10%).
    """
    if factor_noise is None or everywhere is None or not factor_noise.repeated:
        return everywhere
    freedom = everywhere.degrees_of_freedom - factor_noise.degrees_of_freedom
    rest = everywhere.degrees_of_freedom * everywhere.floor**2 - factor_noise.degrees_of_freedom * factor_noise.floor**2
    if freedom <= 0 or not rest > 0:
        return factor_noise
    ratio = factor_noise.floor**2 / (rest / freedom)
    below = scipy.stats.f.cdf(ratio, factor_noise.degrees_of_freedom, freedom)
    return factor_noise if min(below, 1 - below) < OTHER_NOISE / 2 else everywhere


def _scatter(cells: Sequence[SettingLine]) -> Noise | None:
    squares, freedom = 0.0, 0
    for cell in cells:
        if cell.fit.has_curve:
            squares += float(np.sum((cell.y - cell.fit.predict(x=cell.x)) ** 2))
            freedom += max(cell.x.size - NUM_LINE_PARAMETERS, 1)
    return Noise(float(np.sqrt(squares / freedom)), 0, "scatter", np.empty(0)) if freedom else None
