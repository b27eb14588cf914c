"""Lines through noisy x: closed forms, another optimiser, orthogonal distances and planted truth."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

from lossline_jax.cli import main
from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.curves.noise_in_x import _Corrected
from lossline_jax.fit.resampling import BY_POINT_BLOCK, bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.study.fit_study import compare_lines
from lossline_jax.fit.study.noise_notes import noise_between_seeds
from lossline_jax.fit.tables.columns import RUN, X
from tests.support.planted_lines import curve

NOISE = 0.08


def planted(num_runs=20, num_points=30, noise=NOISE, low=2.5, high=3.3):
    """Return noisy x, y and the run of each point, on a range of x that is ten noises wide."""
    generator = np.random.Generator(np.random.PCG64(6))
    x = np.tile(np.linspace(low, high, num_points), num_runs)
    runs = np.repeat([f"run{k}" for k in range(num_runs)], num_points)
    y = curve(x) + np.repeat(0.01 * generator.normal(size=num_runs), num_points) + 0.01 * generator.normal(size=x.size)
    return x + noise * generator.normal(size=x.size), y, runs


def test_for_given_exponent_one_the_slope_is_that_of_fuller():
    """For kappa 1 the line is straight, and the slope is S_xy / (S_xx - s^2) (Fuller 1987, equation 1.2.4)."""
    x, y, _ = planted()
    weights = np.random.Generator(np.random.PCG64(1)).integers(1, 4, (2, x.size)).astype(float)
    objective, slope, _ = _Corrected(x, y, weights, NOISE, 0.5).line(np.array([[0.0, 0.0], [-1.0, 0.0]]))
    for k, weight in enumerate(weights):
        moments = np.cov(x, y, aweights=weight, bias=True)
        assert slope[k] == pytest.approx(moments[0, 1] / (moments[0, 0] - NOISE**2))
        assert objective[k] == pytest.approx(moments[1, 1] - slope[k] * moments[0, 1])


def test_very_little_noise_leaves_the_least_squares_line():
    x, y, runs = planted(num_runs=4, noise=0.0, high=5.0)
    plain, corrected = fit_line(x, y, runs, level=None), fit_line(x, y, runs, noise_x=1e-6)
    grid = np.linspace(2.5, 5, 20)
    assert corrected.predict(x=grid) == pytest.approx(plain.predict(x=grid), abs=1e-5)


def test_the_descent_ends_where_another_optimiser_does():
    x, y, _ = planted()

    def objective(p):
        slope = p[0] * p[1] * (x - p[2]) ** (p[1] - 1)
        return np.mean((y - p[0] * (x - p[2]) ** p[1] - p[3]) ** 2 - NOISE**2 * slope**2)

    fitted = fit_line(x, y, noise_x=NOISE).parameters
    start = np.array([fitted[name] for name in ("K", "kappa", "E_x", "E_y")])
    for factors in ((1, 1, 1, 1), (1.1, 0.9, 0.8, 1.05)):
        bounds = [(1e-3, None), (0.05, 20), (0, x.min() - NOISE), (0, None)]
        other = scipy.optimize.minimize(objective, start * factors, method="L-BFGS-B", bounds=bounds)
        assert objective(start) <= other.fun + 1e-8


def test_the_planted_line_is_found_where_least_squares_is_too_flat():
    x, y, runs = planted()
    grid = np.array([2.55, 3.25])  # the ends, where least squares is wrong in opposite directions
    plain, corrected = (fit_line(x, y, runs, level=None, noise_x=noise) for noise in (None, NOISE))
    assert np.abs(plain.predict(x=grid) - curve(grid)).min() > 0.03
    assert np.abs(corrected.predict(x=grid) - curve(grid)).max() < 0.015
    band = bootstrap(corrected, {"x": x}, y, clusters=runs, num_resamples=100).band(grid)
    assert np.all((np.array(band.lower) < curve(grid)) & (curve(grid) < np.array(band.upper)))
    low, high = bootstrap(plain, {"x": x}, y, clusters=runs, num_resamples=100).band(grid)
    assert not np.any((low < curve(grid)) & (curve(grid) < high))


def test_it_agrees_with_orthogonal_distance_regression():
    """Distances to latent points, each axis in units of its noise (Boggs et al. 1987), here with all points latent."""
    x, y, _ = planted(num_runs=10)
    noise_y = 0.0141

    def residuals(v):
        latent = v[4:]
        line = v[0] * np.maximum(latent - v[2], 1e-9) ** v[1] + v[3]
        return np.concatenate([(y - line) / noise_y, (x - latent) / NOISE])

    corrected = fit_line(x, y, noise_x=NOISE)
    start = np.array([corrected.parameters[name] for name in ("K", "kappa", "E_x", "E_y")])
    count = x.size
    sparsity = np.zeros((2 * count, 4 + count))
    sparsity[:count, :4] = 1
    sparsity[np.arange(count), 4 + np.arange(count)] = sparsity[count + np.arange(count), 4 + np.arange(count)] = 1
    lower = np.r_[1e-3, 0.05, 0, 0, np.full(count, 1.5)]
    found = scipy.optimize.least_squares(
        residuals, np.r_[start, x], bounds=(lower, np.inf), jac_sparsity=sparsity, max_nfev=60, x_scale="jac"
    ).x
    grid = np.array([2.6, 2.9, 3.2])
    orthogonal = found[0] * (grid - found[2]) ** found[1] + found[3]
    plain = fit_line(x, y, level=None).predict(x=grid)
    assert np.abs(corrected.predict(x=grid) - orthogonal).max() < 0.4 * np.abs(plain - orthogonal).max()


def test_one_run_is_resampled_in_blocks_of_points():
    x, y, _ = planted(num_runs=1, num_points=200)
    runs = np.full(x.size, "a")
    resamples = bootstrap(fit_line(x, y, runs, noise_x=NOISE), {"x": x}, y, clusters=runs, num_resamples=50)
    assert resamples.method == BY_POINT_BLOCK
    assert "one run only" in resamples.note
    slope = resamples.middle().slope_interval
    assert slope[0] < 1.29 < slope[1]  # the planted slope at 2.9


def test_a_result_of_before_is_read():
    x, y, runs = planted()
    stored = fit_line(x, y, runs, level=None).to_json()
    del stored["noise_x"]
    assert FitResult.from_json(stored).noise_x is None
    corrected = fit_line(x, y, runs, noise_x=NOISE)
    assert FitResult.from_json(json.loads(json.dumps(corrected.to_json()))).noise_x == NOISE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_x": -0.1}, "noise_x: -0.1 is not a standard deviation"),
        ({"noise_x": float("nan")}, "noise_x: nan is not a standard deviation"),
        ({"noise_x": 0.1, "e_x": 1.0}, "noise_x: a line with a given E_x or E_y is not corrected for it"),
    ],
)
def test_what_is_refused(options, message):
    x, y, runs = planted(num_runs=2)
    with pytest.raises(LosslineError, match=message):
        fit_line(x, y, runs, **options)


def test_noise_as_large_as_the_range_is_told():
    x, y, runs = planted(num_runs=2)
    fit = fit_line(x, y, runs, noise_x=1.0)
    assert "noise in x of 1 is too large for this range of x" in fit.note
    assert fit.noise_x is None


def table(noise=NOISE) -> pd.DataFrame:
    x, y, runs = planted(noise=noise)
    step = np.tile(np.arange(30), 20)
    return pd.DataFrame({"run_id": runs, "step": step, "data": "wiki", "val": x, "task": y})


def test_the_command_corrects_and_refuses(tmp_path, capsys):
    path, out = tmp_path / "t.csv", tmp_path / "fits.json"
    table().to_csv(path, index=False)
    axes = ["table", "fit", str(path), "--x", "val", "--y", "task"]
    main.main([*axes, "--noise-x", str(NOISE), "--out", str(out)])
    assert "corrected for noise in x of 0.08" in " ".join(capsys.readouterr().out.split())
    (line,) = json.loads(out.read_text())["lines"]
    assert line["fit"]["noise_x"] == NOISE
    assert set(line["fit"]["intervals"]) == {"K", "kappa", "E_x", "E_y"}
    low, high = line["middle"]["slope_interval"]
    assert low < 1.29 < high
    for flags, message in (
        (["--noise-x", "0"], "--noise-x: 0.0 is not a standard deviation"),
        (["--noise-x", "0.1", "--e-x", "1"], "--noise-x: a line with a given E_x or E_y"),
        (["--law", "chinchilla", "--noise-x", "0.1"], "belongs to"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main.main([*axes, *flags])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_noise_between_seeds_is_the_planted_one():
    """A shift of each run and a slow change of each run do not count as noise."""
    generator = np.random.Generator(np.random.PCG64(2))
    step = np.arange(400)
    rows = [
        pd.DataFrame(
            {X: 3 + np.exp(-step / 100) + shift * np.cos(step / 150) + 0.02 * generator.normal(size=400),
             RUN: f"run{shift}", "step": step}
        )
        for shift in (0.0, 0.1, 0.3)
    ]  # fmt: skip
    points = pd.concat(rows)
    assert noise_between_seeds(points) == pytest.approx(0.02, rel=0.08)
    assert noise_between_seeds(points.drop(columns="step")) is None
    assert noise_between_seeds(rows[0]) is None


def test_a_setting_tells_noise_that_moves_a_line_beyond_its_band():
    frame = pd.concat([table(), table(noise=0.005).assign(data="code", run_id=lambda rows: "c" + rows["run_id"])])
    notes = {line.label: line.fit.note for line in compare_lines(frame, "val", "task").lines}
    assert "x has noise of 0.08" in notes["base"]
    assert "beyond its band; table fit --noise-x 0.08" in notes["base"]
    assert "noise" not in notes["data=code"]
