"""Forecasts to larger budgets are right on planted losses, and their intervals hold the stated share of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.fit.predict.backtest import backtest_series
from lossline_jax.fit.predict.forecast import combine, forecast_series, growth
from lossline_jax.fit.predict.predictors import LINE_MEMBERS
from lossline_jax.fit.predict.series import LossSeries, RunPoints, budget_levels
from lossline_jax.fit.predict.target import rows_of_target

BUDGETS = np.geomspace(1e17, 1e20, 7)
CHINCHILLA = {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}


def sweep_rows(budgets=BUDGETS, num_sizes=7):
    """Return an isoFLOP grid, with sizes around the optimum of each budget."""
    budget = np.repeat(budgets, num_sizes)
    size = np.sqrt(budget / 120) * np.tile(np.geomspace(0.3, 3.0, num_sizes), len(budgets))
    return RunPoints(budget, {"total": size, "other": size * (1 + 3e3 / np.sqrt(size))}, budget / (6 * size))


def plant_losses(rows, seed=0, noise=0.004, **changes):
    p = CHINCHILLA | changes
    loss = p["E"] + p["A"] * rows.sizes["total"] ** -p["alpha"] + p["B"] * rows.tokens ** -p["beta"]
    return loss * np.exp(noise * np.random.Generator(np.random.PCG64(seed)).normal(0, 1, loss.size))


def sets(num_sets=4, noise=0.004):
    rows = sweep_rows()
    return [
        LossSeries(f"set {k}", "law", "loss", rows, plant_losses(rows, k, noise, E=1.6 + 0.2 * k))
        for k in range(num_sets)
    ]


def rows_up_to(series, budget):
    return [s[s.rows.budget <= budget] for s in series]


def test_weights_go_to_the_form_and_count_that_made_the_data():
    forecast = forecast_series(rows_up_to(sets(noise=1e-3), 1e19))
    weights = forecast.weights["law"]
    assert max(weights, key=weights.get) == "chinchilla, total"
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["kaplan, total"] < 0.1


def test_planted_law_is_predicted_a_hundred_times_further():
    series = sets(noise=1e-3)
    forecast = forecast_series(rows_up_to(series, 1e18))
    largest = series[0][series[0].rows.budget > 9e19]
    predictions = forecast.predict("set 0", largest.rows)
    assert [p.estimate for p in predictions] == pytest.approx(largest.y, rel=0.02)
    assert all(p.reach == pytest.approx(100, rel=1e-6) for p in predictions)


def test_backtest_intervals_cover_what_they_say():
    hits = []
    for shift in range(3):
        series = [
            LossSeries(s.name, s.kind, s.loss, s.rows, plant_losses(s.rows, 10 * shift + k, 0.01))
            for k, s in enumerate(sets(5))
        ]
        backtest = backtest_series(series, up_to=4e18)
        hits += [score.coverage for score in backtest.scores]
    assert 0.8 <= np.mean(hits) <= 1.0


def test_backtest_scores_are_of_rows_that_were_not_fitted():
    series = sets(2)
    doubled = series[0].y * np.where(series[0].rows.budget > 9e19, 2.0, 1.0)
    original, changed = backtest_series(series), backtest_series([dataclasses.replace(series[0], y=doubled), series[1]])
    assert original.weights == changed.weights
    assert original.scores[0].error < 0.02
    assert changed.scores[0].error == pytest.approx(0.5, abs=0.02)
    assert original.up_to == pytest.approx(BUDGETS[-2])


def test_lines_are_predicted_from_the_other_loss():
    rows = sweep_rows()
    x = plant_losses(rows, 1, 1e-3)
    series = []
    for k, scale in enumerate((0.8, 1.0, 1.2)):
        line = scale * (x - 1.2) ** 1.1 + 0.9 + 0.1 * k
        series.append(
            LossSeries(f"line {k}", "line", f"test {k}", RunPoints(rows.budget, rows.sizes, rows.tokens, x), line)
        )
    backtest = backtest_series(series, up_to=1e19)
    assert max(score.error for score in backtest.scores) < 0.01
    assert set(backtest.weights["line"]) == set(LINE_MEMBERS)


def test_two_budgets_give_a_prediction_and_no_interval():
    series = rows_up_to(sets(2), 4e17)
    assert len(budget_levels(series)) == 2
    forecast = forecast_series(series)
    (prediction,) = forecast.predict("set 0", sweep_rows(BUDGETS[-1:], 1))
    assert (prediction.lower, prediction.upper) == (None, None)
    assert forecast.weights["law"]["chinchilla, total"] == 1.0


def test_intervals_widen_with_the_reach_and_never_close():
    forecast = forecast_series(sets(3))
    widths = []
    for factor in (0.01, 1.0, 10.0, 100.0):
        rows = rows_of_target(forecast, "set 1", flops=factor * BUDGETS[-1])
        (p,) = forecast.predict("set 1", rows)
        widths.append(np.log(p.upper / p.lower))
    assert widths[0] == pytest.approx(widths[1])  # inside the budgets the width is that of the shortest fold
    assert 0 < widths[1] < widths[2] < widths[3]


def test_a_count_that_is_not_given_is_named_and_the_rest_predicts():
    forecast = forecast_series(sets(2))
    rows = rows_of_target(forecast, "set 0", params=(1e9,), tokens=2e10)
    (p,) = forecast.predict("set 0", rows)
    assert "other: that count of parameters is not given" in p.note
    assert p.estimate == pytest.approx(
        plant_losses(RunPoints(None, {"total": np.array([1e9])}, np.array([2e10])), noise=0, E=1.6)[0], rel=0.01
    )


def test_budget_alone_is_split_where_the_loss_is_least():
    forecast = forecast_series(sets(1, noise=1e-4))
    rows = rows_of_target(forecast, "set 0", flops=1e20)
    size = rows.sizes["total"][0]
    assert size * rows.tokens[0] * 6 == pytest.approx(1e20, rel=1e-6)
    p = CHINCHILLA  # d/dN of A N^-alpha + B (C / 6N)^-beta is 0
    slope = p["alpha"] * p["A"] * size ** -p["alpha"] - p["beta"] * p["B"] * rows.tokens[0] ** -p["beta"]
    assert abs(slope) < 0.05 * p["alpha"] * p["A"] * size ** -p["alpha"]


def test_x_below_e_x_leaves_out_the_members_without_a_value():
    rows = sweep_rows()
    x = plant_losses(rows, 1, 1e-3)
    forecast = forecast_series(
        [
            LossSeries(
                "line", "line", "y", RunPoints(rows.budget, rows.sizes, rows.tokens, x), 0.9 * (x - 1.5) ** 0.8 + 1.0
            )
        ]
    )
    (p,) = forecast.predict("line", rows_of_target(forecast, "line", x=1.0))
    assert "x lies below its E_x" in p.note
    assert np.isfinite(p.estimate)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.5, 5.0), min_size=2, max_size=4), st.data())
def test_a_combination_lies_between_its_members(values, data):
    raw = data.draw(st.lists(st.floats(0.01, 1.0), min_size=len(values), max_size=len(values)))
    predictors = {str(k): np.array([value]) for k, value in enumerate(values)}
    mean, missing = combine(predictors, {str(k): w / sum(raw) for k, w in enumerate(raw)})
    assert min(values) * (1 - 1e-12) <= mean[0] <= max(values) * (1 + 1e-12)
    assert missing == [()]


def test_a_small_group_is_left_out_and_named():
    series = sets(2)
    forecast = forecast_series([*series, dataclasses.replace(series[0][:3], name="few")])
    assert forecast.left_out == ("few: left out: too few runs (3)",)
    assert [s.name for s in forecast.series] == ["set 0", "set 1"]


def test_checkpoints_of_larger_runs_predict_nothing_that_their_run_is_held_out_for():
    final = np.repeat(np.geomspace(1e17, 1e20, 7), 5)
    budget = final * np.tile([0.2, 0.4, 0.6, 0.8, 1.0], 7)
    size = np.sqrt(final / 120) * np.tile(np.geomspace(0.5, 2, 5), 7)
    rows = RunPoints(budget, {"total": size}, budget / (6 * size), final_budget=final)
    backtest = backtest_series([LossSeries("runs", "law", "loss", rows, plant_losses(rows))], up_to=1.1e19)
    # five runs of five checkpoints; early checkpoints of the sixth and seventh run are below the limit too
    assert backtest.scores[0].num_fitted == 25
    assert np.sum(budget <= 1.1e19) > 25


def test_a_series_of_one_budget_has_no_interval():
    series = sets(2)
    one_budget = dataclasses.replace(series[1][series[1].rows.budget > 9e19], name="one")
    forecast = forecast_series([series[0], one_budget])
    (prediction,) = forecast.predict("one", sweep_rows(BUDGETS[-1:] * 10, 1))
    assert (prediction.lower, prediction.upper) == (None, None)


def test_a_loss_that_no_fitted_run_had_is_said_and_wants_its_budget():
    rows = sweep_rows()
    rows = dataclasses.replace(rows, x=plant_losses(rows, 1, 1e-3))
    forecast = forecast_series([LossSeries(f"line {k}", "line", "y", rows, (0.9 + 0.1 * k) * rows.x) for k in range(2)])
    for budget, known in ((None, False), (1e22, True)):
        (p,) = forecast.predict("line 0", rows_of_target(forecast, "line 0", x=1.9, flops=budget))
        assert "x lies outside" in p.note
        assert (p.lower is not None) == known
    (inside,) = forecast.predict("line 0", rows_of_target(forecast, "line 0", x=float(np.median(rows.x))))
    assert inside.note == ""
    assert inside.lower is not None


@pytest.mark.parametrize(("times_size", "times_tokens"), [(1, 1), (50, 1), (1, 3), (0.02, 40), (1e4, 1e-4)])
def test_sizes_and_tokens_that_no_fitted_run_had_are_said_with_their_factor(times_size, times_tokens):
    forecast = forecast_series(sets(2))
    fitted = forecast.series[0].rows
    size = fitted.sizes["total"].max() if times_size >= 1 else fitted.sizes["total"].min()
    tokens = fitted.tokens.max() if times_tokens >= 1 else fitted.tokens.min()
    rows = rows_of_target(forecast, "set 0", params=(size * times_size,), tokens=tokens * times_tokens)
    (p,) = forecast.predict("set 0", rows)
    for name, times in (("N (total)", times_size), ("D", times_tokens)):
        (remark,) = [part for part in p.note.split("; ") if part.startswith(f"{name} ")] or [None]
        if times == 1:
            assert remark is None
            continue
        end = "times the largest of the fitted runs" if times > 1 else "times less than the smallest of the fitted runs"
        assert remark.endswith(f" is {max(times, 1 / times):.3g} {end}")
    assert np.isfinite(p.estimate)


def test_fewer_errors_than_a_quantile_needs_give_no_interval():
    rows = sweep_rows(BUDGETS[:3], 4)
    forecast = forecast_series(
        [LossSeries("one", "law", "loss", rows[rows.budget < 9e17], plant_losses(rows)[rows.budget < 9e17])]
    )
    num_folds = sum(forecast.num_folds.values())
    (p,) = forecast.predict("one", sweep_rows(BUDGETS[-1:], 1))
    assert (p.lower is None) == (num_folds == 0)


def test_growth_is_distance_over_the_root_of_what_was_spanned():
    assert growth(np.exp(3.0), np.exp(1.0), np.exp(-3.0)) == pytest.approx(1.0)  # 2 / sqrt(4)
    assert growth(1.0, 2.0, 1.0) == 0.0


def test_continuous_budgets_become_few_levels():
    rows = sweep_rows(np.geomspace(1e17, 1e20, 400), 1)
    levels = budget_levels([LossSeries("a", "law", "loss", rows, plant_losses(rows))])
    assert 5 <= len(levels) <= 12
    assert levels[-1] >= rows.budget.max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forecast_series([]), "no series"),
        (lambda: forecast_series([sets(1)[0], sets(1)[0]]), "two series are called 'set 0'"),
        (lambda: forecast_series([sets(1)[0][:2]]), "too few runs.*nothing is left"),
        (lambda: backtest_series(sets(1), up_to=1e30), "nothing to predict from runs up to 1e"),
        (lambda: backtest_series(rows_up_to(sets(1), 1.1e17)), "one training budget"),
        (lambda: forecast_series(sets(1)).predict("nobody", sweep_rows()), "no series 'nobody'"),
        (lambda: rows_of_target(forecast_series(sets(1)), "set 0", x=2.0), "predicted from size and tokens"),
        (
            lambda: rows_of_target(forecast_series(sets(1)), "set 0", params=(1e9,), tokens=1e10, flops=7e19),
            "flops: 7e.19 is not what params and tokens make, 6e.19",
        ),
        (lambda: rows_of_target(forecast_series(sets(1)), "set 0", tokens=1e9), "give params and tokens"),
        (lambda: rows_of_target(forecast_series(sets(1)), "set 0", flops=-1.0), "positive"),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(LosslineError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
