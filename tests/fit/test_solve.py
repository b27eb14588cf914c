"""The solver recovers planted laws, and says so when the data cannot fix one."""

import json

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.curves.line import fit_line, predict_transfer
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LEAST_SQUARES, LOG_HUBER, Objective, float64
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law, fit_law_many
from lossline_jax.fit.solver.problem import build_problem
from lossline_jax.fit.solver.quadratic_model import bounded_step, quadratic

X = np.linspace(2.5, 6.0, 40)


def planted_line(scale=0.9, kappa=1.3, e_x=1.5, e_y=1.1, noise=0.0, seed=0, x=X):
    errors = np.random.Generator(np.random.PCG64(seed)).normal(0, 1, x.size)
    return scale * (x - e_x) ** kappa + e_y + noise * errors


def planted_grid(noise=0.0, seed=0):
    sizes, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e8, 1e11, 7)))
    return sizes, tokens, np.exp(noise * np.random.Generator(np.random.PCG64(seed)).normal(0, 1, sizes.size))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(scale=st.floats(0.3, 2.0), kappa=st.floats(0.7, 2.0), e_x=st.floats(0.5, 2.2), e_y=st.floats(0.2, 2.0))
def test_planted_line_is_recovered(scale, kappa, e_x, e_y):
    fit = fit_line(X, planted_line(scale, kappa, e_x, e_y))
    if fit.status == "not identified":  # near kappa = 1, only the curve is identified, not E_x and E_y
        assert abs(kappa - 1) < 0.02
    else:
        expected = {"K": scale, "kappa": kappa, "E_x": e_x, "E_y": e_y}
        assert fit.parameters == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert fit.predict(x=X) == pytest.approx(planted_line(scale, kappa, e_x, e_y), abs=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(e=st.floats(1.0, 2.5), alpha=st.floats(0.25, 0.6), beta=st.floats(0.25, 0.6), law=st.sampled_from([0, 1]))
def test_planted_compute_law_is_recovered(e, alpha, beta, law):
    sizes, tokens, noise = planted_grid(noise=1e-4)
    law = (CHINCHILLA, KAPLAN)[law]
    amounts = {"A": 2e7**alpha, "B": 3e8**beta} if law is CHINCHILLA else {"A": 2e7, "B": 3e8}
    planted = {"E": e, **amounts, "alpha": alpha, "beta": beta}
    loss = law(planted, {"N": sizes, "D": tokens}) * noise
    fit = fit_compute_law(loss, N=sizes, D=tokens, form=law.name)
    assert fit.status == "converged"
    for name in ("E", "alpha", "beta"):
        assert fit.parameters[name] == pytest.approx(planted[name], rel=0.02)
    assert fit.rmse < 3e-4


def test_huber_shrugs_off_an_outlier_and_least_squares_does_not():
    sizes, tokens, noise = planted_grid(noise=1e-3)
    planted = {"E": 1.7, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}
    loss = CHINCHILLA(planted, {"N": sizes, "D": tokens}) * noise
    loss[-1] *= 1.3
    huber = fit_law(CHINCHILLA, loss, N=sizes, D=tokens, objective=LOG_HUBER)
    squares = fit_law(CHINCHILLA, loss, N=sizes, D=tokens, objective=LEAST_SQUARES)
    assert huber.parameters["E"] == pytest.approx(1.7, abs=0.02)
    assert abs(squares.parameters["E"] - 1.7) > 0.03


def test_plain_huber_is_the_minimum_of_its_own_objective():
    sizes, tokens, noise = planted_grid(noise=1e-3)
    planted = {"E": 1.7, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}
    loss = CHINCHILLA(planted, {"N": sizes, "D": tokens}) * noise
    loss[::6] += 0.3
    fit = fit_law(CHINCHILLA, loss, N=sizes, D=tokens, objective=Objective("Huber", delta=1e-3), level=None)
    names = list(planted)

    def objective(values):
        residuals = loss - CHINCHILLA(dict(zip(names, np.exp(values), strict=True)), {"N": sizes, "D": tokens})
        return scipy.special.huber(1e-3, residuals).sum()

    start = np.log([fit.parameters[name] for name in names])
    assert objective(start) == pytest.approx(fit.objective, rel=1e-6)
    minimum = scipy.optimize.minimize(objective, start, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-12})
    assert fit.objective <= minimum.fun * (1 + 1e-4)


def test_coordinates_that_cross_no_bound_are_solved_for_exactly():
    """The first coordinate ends on its bound. The other two then minimise the quadratic, as numpy computes it."""
    generator = np.random.Generator(np.random.PCG64(0))
    for _ in range(20):
        root, target = generator.normal(size=(6, 3)), generator.normal(size=6)
        bound = 0.5 * np.linalg.lstsq(root, target)[0][0]  # between the start and the free minimum
        low, high = np.full((3, 1), -1e3), np.full((3, 1), 1e3)
        low[0], high[0] = min(bound, 0.0), max(bound, 0.0)
        hessian, gradient = (root.T @ root)[:, :, None], -(root.T @ target)[:, None]
        with float64():
            bounds = {"lower": low, "upper": high, "free": np.ones((3, 1), bool)}
            step = np.asarray(bounded_step(np.zeros((3, 1)), gradient, hessian, **bounds, damping=1e-12))
        if step[0, 0] == bound:
            free_step = np.linalg.lstsq(root[:, 1:], target - bound * root[:, 0])[0]
            assert step[1:, 0] == pytest.approx(free_step, rel=1e-6)


def test_only_a_scaled_parameter_is_left_free():
    sizes, tokens, noise = planted_grid(noise=1e-3)
    planted = {"E": 1.7, "alpha": 0.34, "beta": 0.36}
    loss = CHINCHILLA(planted | {"A": 400.0, "B": 2000.0}, {"N": sizes, "D": tokens}) * noise
    fit = fit_law(CHINCHILLA, loss, N=sizes, D=tokens, fixed=planted)
    assert fit.intervals["A"][0] < 400 < fit.intervals["A"][1]


def test_the_unit_of_the_weights_does_not_change_an_interval():
    y = planted_line(noise=0.01)
    small_weights, large_weights = (
        fit_law_many(SHIFTED_POWER, [DataSet({"x": X}, y, {"E_x": 1.5}, weights=np.full(X.size, w))], level=0.9)[0]
        for w in (1.0, 100.0)
    )
    assert large_weights.intervals["kappa"] == pytest.approx(small_weights.intervals["kappa"], rel=1e-3)


def test_objective_is_the_sum_and_scales_with_the_points():
    y = planted_line(noise=0.01)
    once = fit_line(X, y)
    twice = fit_line(np.tile(X, 2), np.tile(y, 2))
    assert twice.objective == pytest.approx(2 * once.objective, rel=1e-6)
    assert once.objective == pytest.approx(0.5 * once.num_points * once.rmse**2, rel=1e-9)


def test_fit_does_not_depend_on_units_or_order():
    y = planted_line(noise=0.01)
    fit = fit_line(X, y)
    shuffled = np.random.Generator(np.random.PCG64(1)).permutation(X.size)
    again = fit_line(X[shuffled], y[shuffled])
    in_bits = fit_line(X / np.log(2), y / np.log(2))
    assert again.parameters == pytest.approx(fit.parameters, rel=1e-4)
    assert in_bits.parameters["kappa"] == pytest.approx(fit.parameters["kappa"], rel=1e-4)
    assert in_bits.parameters["E_x"] * np.log(2) == pytest.approx(fit.parameters["E_x"], rel=1e-4)


def test_same_call_same_bits():
    y = planted_line(noise=0.01)
    assert fit_line(X, y) == fit_line(X, y)


def test_profile_interval_is_the_classical_one_for_a_linear_parameter():
    # with kappa and E_x held the law is a straight line, whose interval is known in closed form
    y = planted_line(noise=0.02)
    fit = fit_law(SHIFTED_POWER, y, x=X, fixed={"kappa": 1.3, "E_x": 1.5}, level=0.95)
    design = np.stack([(X - 1.5) ** 1.3, np.ones_like(X)], axis=1)
    solution, rss, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rss[0] / (X.size - 2))
    t_quantile = 2.024394  # of Student's t with 38 degrees of freedom at 97.5%
    for k, name in enumerate(("K", "E_y")):
        expected = (solution[k] - t_quantile * error[k], solution[k] + t_quantile * error[k])
        assert fit.intervals[name] == pytest.approx(expected, rel=1e-3)


def test_intervals_cover_about_as_often_as_they_say():
    hits = []
    for seed in range(40):
        fit = fit_line(X, planted_line(noise=0.005, seed=seed), e_x=1.5, num_starts=8)
        low, high = fit.intervals["kappa"]
        hits.append(low <= 1.3 <= high)
    assert 0.78 <= np.mean(hits) <= 0.99  # nominal 90% of 40 intervals, within about three standard errors


def test_intervals_can_be_left_out():
    y = planted_line(noise=0.01)
    fit, bare = fit_line(X, y), fit_line(X, y, level=None)
    assert bare.intervals == {}
    assert bare.parameters == pytest.approx(fit.parameters, rel=1e-4)


def test_fewer_points_than_parameters():
    fit = fit_line(X[:3], planted_line()[:3])
    assert (fit.status, fit.parameters) == ("too few points", {})
    assert fit.note == "3 points for 4 free parameters"
    with pytest.raises(LosslineError, match="too few points"):
        fit.predict(x=3.0)


def test_as_many_points_as_parameters_judges_nothing():
    fit = fit_line(X[:4], planted_line()[:4])
    assert fit.status == "not identified"
    assert "as many points" in fit.note


@pytest.mark.parametrize(("constant", "letter"), [(0, "N"), (1, "D")])
def test_constant_size_or_tokens_identify_no_compute_law(constant, letter):
    inputs = list(planted_grid()[:2])
    inputs[constant] = np.full_like(inputs[constant], 1e9)
    fit = fit_compute_law(2.0 + 1e3 * inputs[1 - constant] ** -0.3, N=inputs[0], D=inputs[1])
    assert fit.status == "not identified"
    assert fit.parameters == {}
    assert fit.note.startswith(f"{letter} takes 1 value:")


def test_constant_x_is_not_identified():
    fit = fit_line(np.full(10, 3.0), np.linspace(2.0, 2.1, 10))
    assert fit.status == "not identified"


def test_losses_down_to_zero_leave_no_room_for_an_irreducible_loss():
    fit = fit_law(SHIFTED_POWER, planted_line(), x=X - 2.5)  # `fit_line` refuses a loss of 0
    assert fit.status == "failed"
    assert "E_x" in fit.note


def test_iteration_cap_is_said():
    # with four points, no profile can improve the fit
    points = DataSet({"x": X[::12]}, planted_line()[::12])
    (fit,) = fit_law_many(SHIFTED_POWER, [points], num_starts=1, max_iterations=1, level=0.9)
    assert fit.status == "iteration cap"


def test_missing_values_are_dropped_and_counted():
    y = planted_line(noise=0.01)
    holes = y.copy()
    holes[[3, 9]] = np.nan
    keep = np.isfinite(holes)
    fit = fit_line(X, holes, clusters=np.arange(X.size) // 10)
    assert (fit.num_points, fit.num_dropped, fit.num_runs) == (38, 2, 4)
    assert fit.parameters == pytest.approx(fit_line(X[keep], y[keep]).parameters)


def test_points_below_a_given_irreducible_loss_are_dropped_and_counted():
    fit = fit_line(X, planted_line(e_x=1.0), e_x=2.6)
    assert fit.num_dropped == int(np.sum(X <= 2.6)) > 0


def test_predictions_below_e_x_are_refused_or_flagged_never_nan():
    fit = fit_line(X, planted_line())
    with pytest.raises(LosslineError, match="no value at"):
        fit.predict(x=[3.0, 1.0])
    flagged = predict_transfer(fit, [1.0, 2.0, 3.0])
    assert flagged.below_domain == (True, False, False)
    assert flagged.extrapolated == (True, True, False)
    assert flagged.y[0] is None
    assert flagged.y[2] == pytest.approx(0.9 * 1.5**1.3 + 1.1, abs=1e-4)


def test_result_survives_json():
    fit = fit_line(X, planted_line(noise=0.01), clusters=np.arange(X.size) % 3)
    assert FitResult.from_json(json.loads(json.dumps(fit.to_json(), allow_nan=False))) == fit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_line(X, X[:5]), "different or wrong shapes"),
        (lambda: fit_line(["a"] * 5, X[:5]), "not all numbers"),
        (lambda: fit_line(X, X, e_x=1.0, residual="log-log"), "both e_x and e_y"),
        (lambda: fit_line(X, X, e_x=float("nan")), "finite"),
        (lambda: fit_compute_law(X, N=X, D=X, form="kaplam"), "not one of"),
        (lambda: build_problem(CHINCHILLA, {"N": X, "D": X}, X, LOG_HUBER, fixed={"A": 1.0}), "cannot be held"),
        (lambda: fit_line(X, X**1.1, e_x=-1.0), "outside its bounds"),
        (lambda: fit_line(X, X**1.1, clusters=[1, 2]), "clusters: give an array with the run of each of the 40 points"),
        (lambda: fit_law(CHINCHILLA, X, N=X), r"needs \['D'\]"),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(LosslineError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_log_loss_of_a_negative_output_fails_with_the_reason():
    sizes, tokens, _ = planted_grid()
    fit = fit_compute_law(np.linspace(-0.1, 3, sizes.size), N=sizes, D=tokens)
    assert fit.status == "failed"
    assert "above" in fit.note


def test_sums_of_squares_are_those_of_numpy_and_of_an_endless_delta():
    generator = np.random.default_rng(5)
    residual, weights = generator.normal(size=(7, 3)), generator.uniform(0, 2, size=(7, 3))
    slopes = list(generator.normal(size=(2, 7, 3)))
    with float64():
        sums, with_delta = (
            [np.asarray(part) for part in quadratic(residual, slopes, delta=delta, share=1.0, weights=weights)]
            for delta in (None, np.inf)
        )
    expected = (
        0.5 * np.sum(weights * residual**2, axis=0),
        np.einsum("nb,nb,pnb->pb", weights, residual, slopes),
        np.einsum("nb,pnb,qnb->pqb", weights, slopes, slopes),
    )
    for ours, of_delta, numbers in zip(sums, with_delta, expected, strict=True):
        assert ours == pytest.approx(numbers, rel=1e-12)
        assert of_delta == pytest.approx(numbers, rel=1e-12)
