"""Nominal 90% intervals on well-specified data hold the truth in 85 to 95% of the cases."""

import numpy as np
import pytest

from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LOG_LEAST_SQUARES
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.solve import fit_law, fit_law_many

LAW = {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}
LINE = {"K": 0.9, "kappa": 1.4, "E_x": 1.2, "E_y": 1.0}


def add_noise(curve, seed, scale, clusters=None, cluster_scale=0.0):
    generator = np.random.Generator(np.random.PCG64(seed))
    noise = scale * generator.normal(0, 1, curve.size)
    if clusters is not None:
        noise += cluster_scale * generator.normal(0, 1, clusters.max() + 1)[clusters]
    return curve * np.exp(noise)


def test_profile_intervals_of_a_compute_law():
    size, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, 7), np.geomspace(5e8, 1e11, 7)))
    curve = CHINCHILLA(LAW, {"N": size, "D": tokens})
    data = [DataSet({"N": size, "D": tokens}, add_noise(curve, seed, 3e-3)) for seed in range(120)]
    fits = fit_law_many(CHINCHILLA, data, objective=LOG_LEAST_SQUARES, num_starts=8, level=0.9)
    for name in ("E", "alpha", "beta"):
        inside = [fit.intervals[name][0] <= LAW[name] <= fit.intervals[name][1] for fit in fits]
        assert 0.84 <= np.mean(inside) <= 0.96, name  # two standard errors of 120 about 85-95%


def test_profile_intervals_of_a_line():
    x = np.linspace(2.2, 5.0, 80)
    curve = SHIFTED_POWER(LINE, {"x": x})
    data = [DataSet({"x": x}, add_noise(curve, seed, 2e-3)) for seed in range(120)]
    fits = fit_law_many(SHIFTED_POWER, data, objective=LOG_LEAST_SQUARES, num_starts=8, level=0.9)
    for name in ("kappa", "E_x", "E_y"):
        inside = [fit.intervals[name][0] <= LINE[name] <= fit.intervals[name][1] for fit in fits]
        assert 0.84 <= np.mean(inside) <= 0.96, name


@pytest.mark.parametrize("num_runs", [8, 20])
def test_bands_of_a_clustered_bootstrap(num_runs):
    """The eight checkpoints of a run share most of their noise. Resampling points would see a third of it."""
    clusters = np.repeat(np.arange(num_runs), 8)
    x = np.tile(np.linspace(2.2, 5.0, 8), num_runs)
    curve, held = SHIFTED_POWER(LINE, {"x": x}), {"E_x": 1.2, "E_y": 1.0}
    inside, by_point = [], []
    for seed in range(100):
        y = add_noise(curve, seed, 3e-3, clusters, 6e-3)
        fit = fit_law(SHIFTED_POWER, y, x=x, fixed=held, num_starts=4, level=None)
        truth = SHIFTED_POWER(LINE, {"x": 3.0})
        for hits, labels in ((inside, clusters), (by_point, None)):
            band = bootstrap(fit, {"x": x}, y, clusters=labels, num_resamples=150, seed=seed).band([3.0])
            hits.append(band.lower[0] <= truth <= band.upper[0])
    assert 0.83 <= np.mean(inside) <= 0.97
    assert np.mean(by_point) < np.mean(inside) - 0.2
