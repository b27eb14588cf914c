"""Many points, and many lines at once, give the optimum that one search over all points gives."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from lossline_jax.fit import direction
from lossline_jax.fit.curves.line import LineData, fit_each_line, fit_line
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LEAST_SQUARES, Law, Parameter
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.solver import condensed
from lossline_jax.fit.solver.levenberg_marquardt import minimise
from lossline_jax.fit.solver.problem import build_problem
from lossline_jax.fit.solver.search import spread

NUM_POINTS = 1000  # the fewest that are condensed, so that the full search stays cheap


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def even():
    return np.linspace(2.0, 5.0, NUM_POINTS)


def crowded():
    return 2.0 + 3.0 * generator(1).beta(0.3, 2.0, NUM_POINTS)


def line(x, scale=0.9, kappa=1.2, e_x=1.5, e_y=1.0):
    return scale * (x - e_x) ** kappa + e_y


def noise(size=0.01):
    return size * generator().normal(size=NUM_POINTS)


TABLES = {
    "even": (even(), line(even()) + noise()),
    "crowded at the low end": (crowded(), line(crowded()) + noise()),
    "begins at E_x": (crowded(), line(crowded(), e_x=1.9999, kappa=0.6) + noise()),
    "straight, so that E_x is not identified": (even(), line(even(), kappa=1.0) + noise(0.05)),
    "nearly all noise": (even(), 2.0 + line(even(), scale=0.01) + noise(0.5)),
    "heavy tails": (even(), line(even()) + 0.01 * generator(2).standard_t(1.5, NUM_POINTS)),
    "two levels of the line": (even(), line(even()) + 0.4 * (np.arange(NUM_POINTS) % 2) + noise()),
    "a bend that no line has": (even(), np.where(even() < 3.5, line(even()), line(even()) + 0.5) + noise()),
    "falls": (even(), 6.0 - line(even()) + noise()),
    "twelve values of x": (even().round(0) + (np.arange(NUM_POINTS) % 3) / 8, line(even()) + noise()),
    "exact": (even(), line(even())),
}


@pytest.fixture(scope="module")
def full_search():
    """Return the fits of all tables with the search on all points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(condensed, "MANY", 10**9)
        return dict(zip(TABLES, fit_each_line([LineData(*table) for table in TABLES.values()]), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_many_points_give_the_optimum_of_the_full_search(name, full_search):
    x, y = TABLES[name]
    fit, full = fit_line(x, y), full_search[name]
    assert fit.objective <= full.objective * (1 + 1e-6) + 1e-20 * np.sum(y**2)
    assert fit.objective >= full.objective * (1 - 1e-6) or fit.objective < full.objective
    assert fit.predict(x=x) == pytest.approx(full.predict(x=x), abs=1e-4 * np.ptp(y))
    assert fit.status == full.status
    assert fit.not_identified == full.not_identified
    if fit.status == "converged" and name != "exact":
        for parameter, (low, high) in full.intervals.items():
            assert fit.intervals[parameter] == pytest.approx((low, high), abs=2e-3 * (high - low))


def test_fewer_points_are_not_condensed():
    x = even()[:-1]
    problem = build_problem(SHIFTED_POWER, {"x": x}, line(x), LEAST_SQUARES)
    assert not condensed.can_be_condensed(problem)
    assert condensed.part(problem) is problem


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    scale=st.floats(0.1, 3.0),
    kappa=st.floats(0.3, 3.0),
    e_x=st.floats(0.1, 1.9999),
    e_y=st.floats(0.1, 3.0),
    weighted=st.booleans(),
)
def test_condensed_points_have_the_same_differences_of_the_objective(scale, kappa, e_x, e_y, weighted):
    x = crowded()
    y, weights = line(x) + noise(0.1), generator(3).integers(0, 4, NUM_POINTS) if weighted else np.ones(NUM_POINTS)
    problem = build_problem(SHIFTED_POWER, {"x": x}, y, LEAST_SQUARES, weights=weights.astype(float))
    small = condensed.condensed(problem)
    assert small.num_points <= 256
    assert np.all(small.weights_n > 0)

    def objective(x, y, weights, *parameters):
        return float(weights @ (y - line(x, *parameters)) ** 2) / 2

    def difference(x, y, weights):
        return objective(x, y, weights, scale, kappa, e_x, e_y) - objective(x, y, weights, 0.9, 1.2, 1.5, 1.0)

    of_all = difference(x, y, weights)
    of_small = difference(small.inputs["x"], small.y_n, small.weights_n)
    assert of_small == pytest.approx(of_all, rel=1e-6, abs=1e-9 * objective(x, y, weights, 0.9, 1.2, 1.5, 1.0))


STEP = Law(
    name="step",
    formula="a tanh(500 (x - c)) + b",
    inputs={"x": "position"},
    output="y",
    parameters=(
        Parameter("a", "", 0.01, 10.0),
        Parameter("b", "", -10.0, 10.0),
        Parameter("c", "", 2.0, 5.0),
    ),
    function=lambda p, data: p["a"] * jnp.tanh(500 * (data["x"] - p["c"])) + p["b"],
    source="a test",
)


def test_a_curve_too_sharp_for_the_bins_is_seen():
    problem = build_problem(STEP, {"x": even()}, even(), LEAST_SQUARES)
    small = condensed.condensed(problem)
    assert not condensed.is_faithful(problem, small, problem.search({"a": 1.0, "b": 0.0, "c": 4.4}))
    smooth = build_problem(SHIFTED_POWER, {"x": even()}, line(even()), LEAST_SQUARES)
    small = condensed.condensed(smooth)
    assert condensed.is_faithful(smooth, small, smooth.search({"K": 0.9, "kappa": 1.2, "E_x": 1.5, "E_y": 1.0}))


@pytest.mark.slow
def test_a_sharp_curve_through_many_points_is_found():
    y = 1.0 * np.tanh(500 * (even() - 4.4)) + 2.0 + noise()
    (fit,) = fit_law_many(STEP, [DataSet({"x": even()}, y)], num_starts=32)
    planted = np.sum((y - np.tanh(500 * (even() - 4.4)) - 2.0) ** 2) / 2
    assert fit.objective <= planted


def test_lines_fitted_together_are_the_lines_fitted_alone():
    cuts = ((0, 40), (5, 50), (300, 360), (0, 60), (900, 960))
    lines = [LineData(even()[low:high], TABLES["even"][1][low:high]) for low, high in cuts]
    together = fit_each_line(lines)
    for data, fit in zip(lines, together, strict=True):
        alone = fit_line(data.x, data.y)
        assert fit.parameters == alone.parameters
        assert fit.objective == alone.objective
        assert fit.share_of_starts == alone.share_of_starts
        assert fit.intervals == alone.intervals
        assert fit.note == alone.note


def test_a_lane_that_waits_ends_where_it_would_have_ended():
    problem = build_problem(SHIFTED_POWER, {"x": even()[:60]}, TABLES["even"][1][:60], LEAST_SQUARES)
    starts = spread(problem, 100)  # more than one block
    together = minimise(problem, starts)
    for lane in (0, 50, 99):
        alone = minimise(problem, starts[[lane]])
        assert np.array_equal(alone.u_BP[0], together.u_BP[lane])
        assert alone.objective_B[0] == together.objective_B[lane]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40))
def test_tau_over_all_pairs_is_that_of_scipy(pairs):
    x, y = np.array(pairs, float).T
    if np.ptp(x) and np.ptp(y):
        assert direction._tau(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)


def test_resamples_of_large_runs_give_the_same_band(monkeypatch):
    runs = np.repeat(np.arange(5), 84)
    x = np.concatenate([2.0 + 0.05 * run + 3.0 * np.linspace(1, 0, 84) ** 2 for run in range(5)])
    y = line(x) + 0.01 * generator().normal(size=5)[runs] + 0.002 * generator(1).normal(size=x.size)
    fit = fit_line(x, y, runs, level=None)
    problem = build_problem(SHIFTED_POWER, {"x": x}, y, LEAST_SQUARES)
    small, codes = condensed.condensed_by_cluster(problem, runs, problem.search(fit.parameters))
    assert small.num_points == codes.size < x.size / 3
    assert np.bincount(codes, small.weights_n) == pytest.approx(np.bincount(runs))
    grid = np.linspace(*fit.domain["x"], 20)
    band = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=100).band(grid)
    monkeypatch.setattr(condensed, "MANY_OF_CLUSTERS", 10**9)
    of_all = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=100).band(grid)
    width = np.subtract(of_all.upper, of_all.lower)
    assert np.all(np.abs(np.subtract(band.lower, of_all.lower)) < 2e-3 * width)
    assert np.all(np.abs(np.subtract(band.upper, of_all.upper)) < 2e-3 * width)
