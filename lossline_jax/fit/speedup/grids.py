"""The losses at which two settings are compared, evenly spaced in log compute."""

from collections.abc import Callable

import numpy as np

NUM_LOSSES = 5  # losses from the highest to the lowest common one. A convention
NUM_BUDGETS = 5  # budgets over the common range of compute. A convention
_FINE = 400  # losses of the grid on which curves are inverted

# (losses) -> (ln compute of the reference, ln compute of the level), both falling in the loss
Curves = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def loss_grid(low: float, high: float, curves: Curves) -> np.ndarray:
    """Return losses from the highest to the lowest, evenly spaced in the log compute of the reference.

    Args:
        low: lowest common loss.
        high: highest common loss.
        curves: the mean curves of both settings.
    """
    losses = np.linspace(high, low, _FINE)
    log_compute = curves(losses)[0]
    grid = np.interp(np.linspace(log_compute[0], log_compute[-1], NUM_LOSSES), log_compute, losses)
    return np.clip(grid, low, high)


def budget_losses(low: float, high: float, curves: Curves) -> np.ndarray:
    """Return the losses that the level reaches with budgets of the common range of compute, the smallest first.

    They are NaN where the settings need such different compute that no budget lies in the range of both.

    Args:
        low: lowest common loss.
        high: highest common loss.
        curves: the mean curves of both settings.
    """
    losses = np.linspace(high, low, _FINE)
    reference, level = curves(losses)
    first, last = max(reference[0], level[0]), min(reference[-1], level[-1])
    if not first < last:
        return np.full(NUM_BUDGETS, np.nan)
    return np.clip(np.interp(np.linspace(first, last, NUM_BUDGETS), level, losses), low, high)


def with_mean_of_lower_half(values: np.ndarray, num_by_loss: int) -> np.ndarray:
    """Return values at losses with one more column: their mean over the lower half of the losses of `loss_grid`.

    Args:
        values: (..., m) values; the first `num_by_loss` are those of `loss_grid`.
        num_by_loss: the number of losses of `loss_grid`.
    """
    lower = values[..., num_by_loss // 2 : num_by_loss].mean(axis=-1, keepdims=True)
    return np.concatenate([values, lower], axis=-1)
