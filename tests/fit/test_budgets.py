"""Budgets are found in the design, and intervals allow for the errors that the rows of a budget share."""

import numpy as np
import pandas as pd
import pytest
import scipy

from lossline_jax.errors import LosslineError
from lossline_jax.fit.budgets import apparent_runs, budgets_of
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.group_intervals import intervals_by_budget
from lossline_jax.fit.law import LEAST_SQUARES, LOG_HUBER
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA
from lossline_jax.fit.solve import fit_law, fit_law_many
from lossline_jax.fit.solver.derivatives import curves_and_jacobians
from lossline_jax.fit.solver.grouped_noise import GroupedNoise, estimate_noise
from lossline_jax.fit.solver.noise_limits import allowed_rises, moments_of_scores
from lossline_jax.fit.solver.problem import build_problem
from lossline_jax.fit.solver.profile_likelihood import allowed_increase
from lossline_jax.fit.study.law_request import LawOptions
from lossline_jax.fit.study.table_laws import fit_laws
from lossline_jax.summary.laws import law_fits_text

CLEAN = 2  # a seed whose residuals show neither a shared error nor noise that changes
PLANTED = {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}


def isoflop(num_budgets=5, num_sizes=6):
    """Return parameters, tokens and the number of the budget of each run."""
    level = np.repeat(np.arange(num_budgets), num_sizes)
    compute = np.geomspace(1e18, 1e21, num_budgets)[level]
    size = np.sqrt(compute / 120) * np.tile(np.geomspace(0.3, 3.0, num_sizes), num_budgets)
    return size, compute / (6 * size), level


def planted_table(shared=0.0, own=0.002, seed=0, num_budgets=5):
    """Return a table whose runs share an error of `shared` within a budget; `own` may differ from row to row."""
    size, tokens, level = isoflop(num_budgets)
    generator = np.random.Generator(np.random.PCG64(seed))
    noise = shared * generator.normal(size=num_budgets)[level] + own * generator.normal(size=size.size)
    loss = CHINCHILLA(PLANTED, {"N": size, "D": tokens}) * np.exp(noise)
    return pd.DataFrame({"N": size, "D": tokens, "loss": loss, "budget": [f"budget {k}" for k in level]})


def fit_of(frame, cluster=None, **options):
    return fit_laws(frame, "chinchilla", {}, ["loss"], cluster=cluster, options=LawOptions(**options)).fits[0].fit


def test_budgets_are_found_in_any_order_and_in_spite_of_rounding():
    size, tokens, level = isoflop()
    assert budgets_of(size, tokens).tolist() == level.tolist()
    generator = np.random.Generator(np.random.PCG64(0))
    order = generator.permutation(size.size)
    rounded = tokens * (1 + 0.02 * generator.random(size.size))
    assert budgets_of(size[order], rounded[order]).tolist() == level[order].tolist()
    with_a_lone_run = budgets_of(np.append(size, 1e9), np.append(tokens, 1e13))
    assert with_a_lone_run.tolist() == [*level, 5]


def test_designs_without_budgets_show_none():
    size, tokens, level = isoflop()
    few = level < 4
    assert budgets_of(size[few], tokens[few]) is None
    spread = np.random.Generator(np.random.PCG64(1)).uniform(0.3, 3.0, size.size)
    assert budgets_of(size, tokens * spread) is None
    chain = np.geomspace(1.0, 3.0, 60)  # neighbours differ by 2%, and all together by a factor of three
    assert budgets_of(chain, np.ones(60)) is None
    with pytest.raises(LosslineError, match="two arrays of one length"):
        budgets_of(size, tokens[:-1])


def test_rows_of_one_size_with_growing_tokens_look_like_checkpoints():
    size, tokens = np.repeat(np.geomspace(1e7, 1e9, 6), 4), np.tile([1e8, 2e8, 4e8, 8e8], 6)
    assert apparent_runs(size, tokens).tolist() == np.repeat(np.arange(6), 4).tolist()
    assert apparent_runs(size, tokens[::-1]) is None
    assert apparent_runs(*isoflop()[:2]) is None


def straight_line(groups, own=0.01, shared=0.03, seed=2):
    """Return a problem that is linear in K and E_y, with its residuals, its Jacobian and its matrix."""
    x = np.linspace(2.5, 6.0, groups.size)
    generator = np.random.Generator(np.random.PCG64(seed))
    y = 0.9 * (x - 1.5) ** 1.3 + 1.1 + own * generator.normal(size=x.size)
    y += shared * generator.normal(size=groups.max() + 1)[groups]
    fixed = {"kappa": 1.3, "E_x": 1.5}
    fit = fit_law(SHIFTED_POWER, y, x=x, fixed=fixed, level=None)
    problem = build_problem(SHIFTED_POWER, {"x": x}, y, LEAST_SQUARES, fixed=fixed)
    u = problem.search(fit.parameters)
    jacobian = curves_and_jacobians([problem], [u])[0][1][:, problem.free_P]
    around = problem.residuals(u[None])[0], jacobian
    return problem, u, around, np.stack([(x - 1.5) ** 1.3, np.ones_like(x)], axis=1)


def test_the_shared_variance_is_that_of_restricted_maximum_likelihood():
    groups = np.array([0] * 5 + [1] * 3 + [2] * 6 + [3] * 4 + [4] * 5 + [5] * 4 + [6] * 6)
    groups = np.random.Generator(np.random.PCG64(0)).permutation(groups)
    problem, _, around, matrix = straight_line(groups)
    noise = estimate_noise(*around, groups)
    same_group = (groups[:, None] == groups).astype(float)

    def deviance(logs):  # minus twice the restricted likelihood, with dense matrices
        covariance = np.exp(logs[0]) * np.eye(groups.size) + np.exp(logs[1]) * same_group
        inverse = np.linalg.inv(covariance)
        information = matrix.T @ inverse @ matrix
        residual = problem.y_n - matrix @ np.linalg.solve(information, matrix.T @ inverse @ problem.y_n)
        return np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1] + residual @ inverse @ residual

    best = scipy.optimize.minimize(deviance, np.log([1e-4, 1e-3]), method="Nelder-Mead", options={"fatol": 1e-10})
    own, shared = np.exp(best.x)
    assert noise.shared == pytest.approx(shared / (own + shared), rel=1e-3)
    assert noise.deviation_n == pytest.approx(np.full(groups.size, np.sqrt(own + shared)), rel=1e-3)
    # the limits then have the variance of least squares under that covariance
    inverse = np.linalg.inv(matrix.T @ matrix)
    variance = inverse @ matrix.T @ (own * np.eye(groups.size) + shared * same_group) @ matrix @ inverse
    limits, _ = allowed_rises(noise, around[1], problem.weights_n, delta=None, level=0.9)
    quantile = np.sqrt(2 * limits[1] * inverse[1, 1] / variance[1, 1])
    assert scipy.stats.t.ppf(0.95, groups.size) < quantile < scipy.stats.t.ppf(0.95, 3)  # seven groups, two parameters


def test_independent_noise_of_one_size_has_the_plain_limit():
    groups = np.repeat(np.arange(8), 5)
    problem, u, around, _ = straight_line(groups, shared=0.0, seed=3)
    noise = estimate_noise(*around, groups, np.log(1.0 + groups))
    assert noise.is_independent
    limits, _ = allowed_rises(noise, around[1], problem.weights_n, delta=None, level=0.9)
    # directions of the groups that the line absorbs do not count, so the two variances differ a little
    assert limits == pytest.approx(np.full(2, allowed_increase(problem, u, 0.9)), rel=0.05)


def test_means_of_clipped_errors_are_those_of_a_simulation():
    generator = np.random.Generator(np.random.PCG64(0))
    delta, rho, s = 1e-3, 0.6, np.array([2e-4, 1e-3, 5e-3])
    noise = GroupedNoise(np.zeros(3, int), s, (s[0], s[2]), 1, rho, False, 1.0, 0.0, None)
    shared, first, second = generator.normal(size=(3, 400_000))
    pair = [np.sqrt(rho) * shared + np.sqrt(1 - rho) * own for own in (first, second)]
    clipped = [np.clip(s[:, None] * error, -delta, delta) for error in pair]
    expected = (np.abs(s[:, None] * pair[0]) < delta, clipped[0] ** 2, clipped[0] * clipped[1])
    for moment, sample in zip(moments_of_scores(noise, delta), expected, strict=True):
        assert moment == pytest.approx(sample.mean(axis=1), rel=0.02)
    assert moments_of_scores(noise, None)[2] == pytest.approx(rho * s**2)


def test_intervals_hold_where_runs_of_a_budget_share_an_error():
    frames = [planted_table(shared=0.004, seed=seed).assign(set=seed) for seed in range(24)]
    fits = [item.fit for item in fit_laws(pd.concat(frames), "chinchilla", {}, ["loss"], by=["set"]).fits]
    plain = fit_law_many(CHINCHILLA, [DataSet({"N": t["N"], "D": t["D"]}, t["loss"]) for t in frames], level=0.9)

    def coverage(results):
        return np.mean([fit.intervals["E"][0] <= PLANTED["E"] <= fit.intervals["E"][1] for fit in results])

    assert coverage(plain) < 0.7  # nominal: 90%
    assert coverage(fits) > 0.77  # two standard errors below 90%
    for fit, same in zip(fits, plain, strict=True):
        assert fit.parameters == pytest.approx(same.parameters, rel=1e-4)
    by_budget = [fit for fit in fits if fit.conventions["intervals"] == "90%, profile likelihood by 5 budgets"]
    assert len(by_budget) > 16
    assert all("rows of one budget share" in fit.note for fit in by_budget)


def test_noise_that_falls_with_the_budget_is_seen_and_allowed_for():
    size, tokens, level = isoflop(8)
    frame = planted_table(own=np.geomspace(0.012, 0.0015, 8)[level], num_budgets=8)
    fit, plain = fit_of(frame), fit_law("chinchilla", frame["loss"], N=size, D=tokens)
    assert "the noise falls with the budget" in fit.note
    assert np.ptp(fit.intervals["E"]) > 1.1 * np.ptp(plain.intervals["E"])
    assert fit.status == "converged"


def test_intervals_of_clean_runs_are_the_plain_ones():
    frame = planted_table(seed=CLEAN)
    fit, plain = fit_of(frame), fit_law("chinchilla", frame["loss"], N=frame["N"], D=frame["D"])
    assert fit.intervals == plain.intervals
    assert fit.conventions["intervals"] == "90%, profile likelihood of independent rows (tested within 5 budgets)"
    assert fit.note == ""
    assert "intervals: 90%, profile likelihood of independent rows" in " ".join(
        law_fits_text(fit_laws(frame, "chinchilla", {}, ["loss"])).split()
    )


def test_one_outlier_widens_no_interval_much():
    frame = planted_table(seed=CLEAN)
    plain = fit_of(frame).intervals
    frame.loc[2, "loss"] *= 1.2
    assert np.ptp(fit_of(frame).intervals["E"]) < 2 * np.ptp(plain["E"])


def test_a_named_column_of_budgets_is_used_without_a_test():
    frame = planted_table(shared=0.004, seed=3)
    found, named = fit_of(frame), fit_of(frame, budget="budget")
    # names have no order, so only the shared error can be seen
    assert named.intervals == found.intervals
    assert named.conventions["intervals"] == "90%, profile likelihood by 5 budgets"
    by_hand = fit_law("chinchilla", frame["loss"], N=frame["N"], D=frame["D"], objective=LOG_HUBER)
    by_hand = intervals_by_budget(by_hand, {"N": frame["N"], "D": frame["D"]}, frame["loss"], frame["budget"])
    assert by_hand.intervals == named.intervals
    few = fit_of(frame.assign(budget=frame["budget"].replace("budget 4", "budget 3")), budget="budget")
    assert few.conventions["intervals"].endswith("(4 budgets are too few to tell what their rows share)")


def test_named_budgets_without_a_shared_error_are_not_called_tested():
    """No test decides for named budgets: the text must say what was found, and not that they were tested."""
    frame = planted_table(seed=CLEAN)
    named, plain = fit_of(frame, budget="budget"), fit_of(frame)
    assert named.intervals == plain.intervals
    assert named.conventions["intervals"] == (
        "90%, profile likelihood of independent rows (the rows of the 5 named budgets share no error)"
    )


def test_apparent_checkpoints_that_share_an_error_are_named():
    size = np.repeat(np.geomspace(1e7, 1e9, 8), 6)
    tokens = np.tile(np.geomspace(1e9, 1e11, 6), 8)
    shift = 0.004 * np.random.Generator(np.random.PCG64(0)).normal(size=8)
    loss = CHINCHILLA(PLANTED, {"N": size, "D": tokens}) * np.exp(np.repeat(shift, 6))
    loss *= np.exp(0.0005 * np.random.Generator(np.random.PCG64(1)).normal(size=48))
    fit = fit_of(pd.DataFrame({"N": size, "D": tokens, "loss": loss}))
    assert fit.conventions["intervals"] == "90%, profile likelihood by 8 apparent runs"
    assert "if a run has several rows, name the column of the runs" in fit.note


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"budget": "flops"}, "no column 'flops'"),
        ({"budget": None}, {"budget": "budget"}, "column budget has no value in 30 of 30 rows"),
        ({"run_id": "a"}, {"budget": "budget"}, "intervals by budget need one row for each run"),
    ],
)
def test_mistakes_get_one_line(change, options, message):
    with pytest.raises(LosslineError, match=message) as caught:
        fit_of(planted_table().assign(**change), **options)
    assert "\n" not in str(caught.value)


def test_a_plain_fit_needs_intervals_and_five_budgets():
    frame = planted_table()
    inputs = {"N": frame["N"], "D": frame["D"]}
    bare = fit_law("chinchilla", frame["loss"], level=None, **inputs)
    with pytest.raises(LosslineError, match="no intervals"):
        intervals_by_budget(bare, inputs, frame["loss"], frame["budget"])
    fit = fit_law("chinchilla", frame["loss"], **inputs)
    for budgets in (None, ["one"] * 30):
        with pytest.raises(LosslineError, match="needs 5 budgets"):
            intervals_by_budget(fit, inputs, frame["loss"], budgets)
