"""Draw synthetic studies with a planted gap, for tests of `fit/compare` and for `benchmarks/line_comparison.py`."""

from collections.abc import Mapping

import numpy as np

from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.tables.settings import Setting

POINT_NOISE = 0.01  # standard deviation of a checkpoint about the line of its run
RUN_NOISE = 0.01  # standard deviation of the line of a run about the line of its setting
NUM_CHECKPOINTS = 10
BASE = {"data": "wiki", "size": "d64", "context_length": "128", "optimiser": "adamw"}
FLOOR = float(np.hypot(RUN_NOISE, POINT_NOISE / np.sqrt(NUM_CHECKPOINTS)))  # the true noise floor


def curve(x):
    return 0.9 * (x - 1.5) ** 1.3 + 1.1


def cell(
    generator: np.random.Generator, levels: Mapping[str, str], num_runs: int, gap: float = 0.0, reach: float = 0.0
):
    """Draw a setting whose runs lie `gap` above the planted curve. `reach` shifts their last losses."""
    x = np.concatenate(
        [np.geomspace(5.0, 2.5 + reach, NUM_CHECKPOINTS) + generator.normal(0, 0.02) for _ in range(num_runs)]
    )
    runs = np.repeat([f"{'-'.join(levels.values())}-{k}" for k in range(num_runs)], NUM_CHECKPOINTS)
    run_noise = np.repeat(generator.normal(0, RUN_NOISE, num_runs), NUM_CHECKPOINTS)
    y = curve(x) + gap + run_noise + generator.normal(0, POINT_NOISE, x.size)
    return fit_setting(levels, x, y, runs)


def fit_setting(levels, x, y, runs, num_params=(np.nan, np.nan)) -> SettingLine:
    fit = fit_line(x, y, runs, num_starts=8, level=None)
    resamples = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=100) if fit.has_curve else None
    return SettingLine(Setting(levels, num_params), x, y, runs, fit, resamples)


def study(seed: int, gap: float = 0.0, base_runs: int = 5, num_runs: int = 3) -> list[SettingLine]:
    """Draw a base and six settings that differ from it in one factor.

    Other data lies `gap` above the base, and the other settings lie on its curve.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    changes = [
        ({"data": "code"}, gap, 0.3),
        ({"size": "d32"}, 0.0, 0.5),
        ({"size": "d96"}, 0.0, -0.1),
        ({"context_length": "256"}, 0.0, 0.0),
        ({"optimiser": "adam"}, 0.0, 0.1),
        ({"optimiser": "wsd"}, 0.0, 0.0),
    ]
    cells = [cell(generator, BASE, base_runs)]
    return cells + [
        cell(generator, BASE | change, num_runs, setting_gap, reach) for change, setting_gap, reach in changes
    ]
