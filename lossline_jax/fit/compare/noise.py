"""Estimate the noise floor: the distance of a repetition with another seed from the line of its own setting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.special

from lossline_jax.fit.compare.setting_line import SettingLine

NUM_LINE_PARAMETERS = 4  # of the shifted power law y = K (x - E_x)^kappa + E_y
IDENTICAL = 1e-9  # relative to the mean loss: repetitions that differ by less are copies. A convention
OTHER_NOISE = 0.1  # probability: significance at which settings have a noise of their own. A convention


@dataclass(frozen=True, eq=False)
class Noise:
    """The variation of runs about the line of their setting, in the unit of y."""

    floor: float  # standard deviation of a run's mean distance from the line of its setting
    degrees_of_freedom: int  # repetitions behind the floor; 0: no setting was repeated
    source: Literal["seeds", "scatter"]
    # (runs,) distances of the repeated runs, widened because the mean of their setting was subtracted
    deviations: np.ndarray

    @property
    def repeated(self) -> bool:
        """True where some setting was repeated with another seed."""
        return self.source == "seeds"


def noise_floor(cells: Sequence[SettingLine]) -> Noise | None:
    """Estimate the noise from settings with several runs.

    Without such a setting, the scatter of checkpoints about their lines is used in its place. Scatter tells how well
    a line is known along one run. It tells nothing of where the line of another run would lie.

    Args:
        cells: every setting with its points and fitted line.

    Returns:
        The noise. None: no setting has a line.
    """
    noise = noise_between_runs(
        [
            cell.run_means(cell.residuals, np.ones(cell.x.size, bool))
            for cell in cells
            if cell.fit.has_curve and cell.num_runs > 1
        ]
    )
    if noise is not None:
        smallest = IDENTICAL * np.mean([cell.y.mean() for cell in cells])
        identical = noise.floor * np.sqrt(noise.degrees_of_freedom) <= smallest
        return replace(noise, floor=0.0) if identical else noise
    return _scatter(cells)


def noise_between_runs(values: Sequence[np.ndarray]) -> Noise | None:
    """Return the noise of any quantity that each run has one value of.

    Args:
        values: (runs,) the values of one setting, for each setting. The mean of each setting is subtracted.

    Returns:
        The noise. None: no setting has two runs.
    """
    deviations: list[np.ndarray] = []
    squares, freedom = 0.0, 0
    for of_runs in values:
        if of_runs.size > 1:
            distances = of_runs - of_runs.mean()
            deviations.append(distances * np.sqrt(of_runs.size / (of_runs.size - 1)))
            squares += float(distances @ distances)
            freedom += of_runs.size - 1
    return Noise(float(np.sqrt(squares / freedom)), freedom, "seeds", np.concatenate(deviations)) if freedom else None


def pool_noise(factor_noise: Noise | None, table_noise: Noise | None) -> Noise | None:
    """Return the noise to use for the settings of one factor.

    That is the noise of the whole table, which more repetitions estimate, unless the factor's settings have another
    noise. They have another noise where their variance differs from that of all other settings (F test, two-sided, at
    10%).

    Args:
        factor_noise: noise of the settings that the factor compares. None: none of them has a line.
        table_noise: noise of all settings of the table. None: none of them has a line.
    """
    if factor_noise is None or table_noise is None or not factor_noise.repeated:
        return table_noise
    freedom = table_noise.degrees_of_freedom - factor_noise.degrees_of_freedom
    rest = (
        table_noise.degrees_of_freedom * table_noise.floor**2 - factor_noise.degrees_of_freedom * factor_noise.floor**2
    )
    if freedom <= 0 or not rest > 0:
        return factor_noise
    ratio = factor_noise.floor**2 / (rest / freedom)
    below = scipy.special.fdtr(factor_noise.degrees_of_freedom, freedom, ratio)  # of the F distribution
    return factor_noise if min(below, 1 - below) < OTHER_NOISE / 2 else table_noise


def _scatter(cells: Sequence[SettingLine]) -> Noise | None:
    """Return the scatter of checkpoints about their lines. None: no setting has a line."""
    squares, freedom = 0.0, 0
    for cell in cells:
        if cell.fit.has_curve:
            squares += float(cell.residuals @ cell.residuals)
            freedom += max(cell.x.size - NUM_LINE_PARAMETERS, 1)
    return Noise(float(np.sqrt(squares / freedom)), 0, "scatter", np.empty(0)) if freedom else None
