"""Draw both sides of a matched pair again: the runs of the level, and the reference line.

The quantity is the mean distance of a run from the reference line (`gap.py`), or a part of its course (`course.py`).
"""

import numpy as np
import scipy.special

from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.result import INTERVAL_LEVEL

NUM_DRAWS = 4000  # draws behind each interval, by convention
MIN_REFITS = 0.9  # share of the refitted reference lines that must have a value on the support. A convention


def draws_interval(draws: np.ndarray, freedom: float) -> tuple[float, float] | None:
    """Return the percentile interval of the draws. None: some draws are not finite.

    Few runs say little of how runs vary, so the percentiles are those of Student's t (Hesterberg 2015, section 4.1).

    Args:
        draws: (draws,) values of the quantity.
        freedom: degrees of freedom of the noise. 0: nothing was repeated, and the percentiles are plain.
    """
    if not np.all(np.isfinite(draws)):
        return None
    tail = (1 + INTERVAL_LEVEL) / 2
    if freedom:
        tail = float(scipy.special.ndtr(scipy.special.stdtrit(freedom, tail)))
    low, high = np.quantile(draws, [1 - tail, tail])
    return float(low), float(high)


def reference_draws(
    moved: np.ndarray | None, noise: Noise, num_runs: int, generator: np.random.Generator
) -> np.ndarray:
    """Return (draws,) deviations that the reference line could have from the fitted line.

    Refits to few drawn runs understate the deviation. The draws are therefore widened where they spread less than the
    noise floor predicts for this number of runs. All draws are NaN where over a tenth of the refits have no value on
    the support: the refits without a value are those that deviate most.

    Args:
        moved: (resamples,) deviation of each refitted line. None: the line could not be refitted.
        noise: the variation of the quantity between seeds.
        num_runs: number of reference runs that reach the support.
        generator: the generator of random numbers.
    """
    if moved is None or np.mean(np.isfinite(moved)) < MIN_REFITS:
        return np.full(NUM_DRAWS, np.nan)
    moved = generator.choice(moved[np.isfinite(moved)], NUM_DRAWS)
    if not noise.repeated:
        return moved
    if num_runs == 1:  # blocks tell how well this run is known; another run also differs by the noise floor
        return moved + run_draws(noise, 1, generator)
    spread = moved.std() * np.sqrt(num_runs / (num_runs - 1))
    target_spread = max(spread, noise.floor / np.sqrt(num_runs))
    return _smoothed(moved * (target_spread / moved.std() if spread > 0 else 0.0), target_spread, num_runs, generator)


def run_draws(noise: Noise, num_runs: int, generator: np.random.Generator) -> np.ndarray:
    """Return (draws,) means of `num_runs` deviations, drawn from the deviations of all repeated runs.

    Args:
        noise: the variation of the quantity between seeds. Some setting must have been repeated.
        num_runs: number of runs of the level.
        generator: the generator of random numbers.
    """
    drawn = generator.choice(noise.deviations, (NUM_DRAWS, num_runs))
    return _smoothed(drawn, noise.floor, noise.deviations.size, generator).mean(axis=1)


def _smoothed(draws: np.ndarray, spread: float, num_values: int, generator: np.random.Generator) -> np.ndarray:
    """Return the draws with kernel noise added to each and the variance kept.

    The draws come from a few values, which are not all the values that could be.
    The kernel is normal. Its width is n^(-1/5) of the spread (Silverman 1986, section 3.4).
    """
    width = num_values**-0.2
    return np.sqrt(1 - width**2) * draws + width * spread * generator.standard_normal(draws.shape)
