"""Bootstraps resample independent units, and their note says so where nothing is independent."""

import dataclasses
import json

import numpy as np
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.law import OBJECTIVES, Objective
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.laws.published_values import PUBLISHED
from lossline_jax.fit.resampling import (
    BY_BLOCK,
    BY_POINT,
    BY_RUN,
    FitToResample,
    block_indices,
    bootstrap,
    bootstrap_each,
    cluster_counts,
)
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law

X = np.tile(np.linspace(2.5, 5.0, 10), 6)
RUNS = np.repeat([f"run{k}" for k in range(6)], 10)


def curve(x):
    return 0.9 * (x - 1.5) ** 1.3 + 1.1


def study(seed, run_noise, point_noise=0.003):
    generator = np.random.Generator(np.random.PCG64(seed))
    return curve(X) + np.repeat(generator.normal(0, run_noise, 6), 10) + generator.normal(0, point_noise, 60)


def test_same_seed_same_resamples():
    y = study(0, 0.01)
    fit = fit_line(X, y, RUNS)
    first, again, different = (bootstrap(fit, {"x": X}, y, clusters=RUNS, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.samples["K"], again.samples["K"])
    assert not np.array_equal(first.samples["K"], different.samples["K"])
    assert first.samples["K"].shape == (200,)
    assert (first.method, first.num_clusters, first.note) == (BY_RUN, 6, "")


def test_many_bootstraps_at_once_are_those_of_each_fit_alone():
    """Fits of different lengths share blocks of lanes, or not. One of them has one run, and one is corrected."""
    items = []
    for seed, rows in enumerate((slice(None), slice(0, 30), slice(10, 50), slice(0, 10))):
        x, y, runs = X[rows], study(seed, 0.01)[rows], RUNS[rows]
        noise_x = 0.01 if seed == 1 else None
        fit = fit_line(x, y, runs, level=None, noise_x=noise_x)
        items.append(FitToResample(fit, {"x": x}, y, runs, seed=seed))
    together = bootstrap_each(items, num_resamples=70)
    assert [resamples.method for resamples in together][-1] == BY_BLOCK
    for item, resamples in zip(items, together, strict=True):
        alone = bootstrap(item.fit, item.inputs, item.y, clusters=item.clusters, num_resamples=70, seed=item.seed)
        assert (resamples.method, resamples.num_clusters, resamples.seed) == (
            BY_RUN if alone.num_clusters > 1 else BY_BLOCK,
            alone.num_clusters,
            item.seed,
        )
        for name, values in alone.samples.items():
            assert np.array_equal(resamples.samples[name], values)


def test_resampling_by_run_sees_what_resampling_by_point_misses():
    y = study(1, run_noise=0.05)
    fit = fit_line(X, y)
    widths = {}
    for clusters in (RUNS, None):
        band = bootstrap(fit, {"x": X}, y, clusters=clusters).band([3.5])
        widths[band.method] = band.upper[0] - band.lower[0]
    assert widths[BY_RUN] > 1.5 * widths[BY_POINT]


def test_band_covers_the_curve_about_as_often_as_it_says():
    hits = []
    for seed in range(12):
        y = study(seed, run_noise=0.02)
        fit = fit_line(X, y, RUNS, num_starts=8, level=None)
        band = bootstrap(fit, {"x": X}, y, clusters=RUNS, num_resamples=100, seed=seed).band([3.5])
        hits.append(band.lower[0] <= curve(3.5) <= band.upper[0])
    # with six runs, percentile intervals hold the truth somewhat less often than the nominal 90%
    assert 0.6 <= np.mean(hits) <= 1.0


def test_the_middle_of_a_line_has_its_height_and_its_slope():
    y = study(3, run_noise=0.005)
    fit = fit_line(X, y, RUNS)
    middle = bootstrap(fit, {"x": X}, y, clusters=RUNS).middle()
    k, e_x, kappa = (fit.parameters[name] for name in ("K", "E_x", "kappa"))
    assert middle.x == pytest.approx(3.75)
    assert middle.height == pytest.approx(curve(3.75), abs=0.02)
    assert middle.slope == pytest.approx(kappa * k * (3.75 - e_x) ** (kappa - 1), rel=1e-4)  # the derivative
    for value, (low, high) in ((middle.height, middle.height_interval), (middle.slope, middle.slope_interval)):
        assert low < value < high


def test_one_run_says_that_it_is_one():
    y = study(2, 0.0)[:10]
    fit = fit_line(X[:10], y)
    resamples = bootstrap(fit, {"x": X[:10]}, y, clusters=RUNS[:10])
    assert resamples.method == BY_BLOCK
    assert resamples.note.startswith("one run only")
    band = resamples.band(np.linspace(2.5, 5.0, 7))
    assert band.method == BY_BLOCK
    assert all(low <= mid <= high for low, mid, high in zip(band.lower, band.estimate, band.upper, strict=True))


def test_few_runs_are_called_rough():
    y = study(2, 0.01)[:20]
    fit = fit_line(X[:20], y)
    assert "2 runs only" in bootstrap(fit, {"x": X[:20]}, y, clusters=RUNS[:20]).note


def test_blocks_are_runs_of_neighbours():
    indices = block_indices(np.random.Generator(np.random.PCG64(0)), 27, 50)
    assert indices.shape == (50, 27)
    steps = np.diff(indices, axis=1) % 27
    assert np.mean(steps == 1) > 0.6  # in blocks of three, two of three steps go to the next point


def test_cluster_counts_draw_as_many_as_there_are():
    counts = cluster_counts(np.random.Generator(np.random.PCG64(0)), 7, 20)
    assert np.all(counts.sum(axis=1) == 7)


def test_compute_law_is_resampled_with_dropped_rows():
    sizes, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e8, 1e11, 7)))
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 2e-3, sizes.size)
    loss = (1.8 + 480 * sizes**-0.35 + 2100 * tokens**-0.37) * np.exp(noise)
    loss[5] = np.nan
    fit = fit_compute_law(loss, N=sizes, D=tokens, form="chinchilla", clusters=sizes)
    resamples = bootstrap(fit, {"N": sizes, "D": tokens}, loss, clusters=sizes, num_resamples=60)
    low, high = resamples.interval("E")
    assert low < 1.8 < high
    assert high - low < 0.2
    assert resamples.curves({"N": [1e8], "D": [1e10]}).shape == (60, 1)
    with pytest.raises(LosslineError, match="one input"):
        resamples.band([1.0])


def test_a_law_with_a_loss_of_its_own_is_resampled_by_that():
    law = LAWS["vocabulary"]
    generator = np.random.Generator(np.random.PCG64(1))
    size, characters = np.tile(np.geomspace(30, 1e3, 6), 6), np.repeat(np.geomspace(1, 200, 6), 6)
    inputs = {"N_nv": size, "N_v": generator.uniform(2, 100, 36), "H": characters}
    y = law(next(iter(PUBLISHED["vocabulary"].values())), inputs) + generator.normal(0, 1e-3, 36)
    fit = fit_law(law, y, level=None, **inputs)
    assert fit.objective_name not in OBJECTIVES
    assert np.all(np.isfinite(bootstrap(fit, inputs, y, num_resamples=20).samples["E"]))


def test_a_loss_given_to_the_fit_alone_is_resampled_by_and_kept_in_json():
    own = Objective("my Huber", logarithmic=True, delta=0.02)
    size = np.geomspace(1e6, 1e9, 12)
    loss = (8.8e13 / size) ** 0.076 * np.exp(np.random.Generator(np.random.PCG64(2)).normal(0, 0.01, 12))
    fit = fit_law("kaplan size", loss, N=size, objective=own, level=None)
    again = FitResult.from_json(json.loads(json.dumps(fit.to_json())))
    assert again == fit
    assert again.minimised == own
    resamples = [bootstrap(result, {"N": size}, loss, num_resamples=10).samples["alpha_N"] for result in (fit, again)]
    np.testing.assert_array_equal(*resamples)
    older = dataclasses.replace(fit, minimised=None)
    with pytest.raises(LosslineError, match="without its objective; fit again"):
        bootstrap(older, {"N": size}, loss)


def test_nothing_to_resample_without_a_curve():
    fit = fit_line(X[:3], X[:3])
    with pytest.raises(LosslineError, match="nothing to resample"):
        bootstrap(fit, {"x": X[:3]}, X[:3])
