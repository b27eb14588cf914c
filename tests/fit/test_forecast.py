"""Forecasts find what carries on to larger budgets, and their intervals hold what they say."""

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
    """An isoFLOP grid: sizes about the optimum of each budget."""
    budget = np.repeat(budgets, num_sizes)
    size = np.sqrt(budget / 120) * np.tile(np.geomspace(0.3, 3.0, num_sizes), len(budgets))
    return RunPoints(budget, {"total": size, "other": size * (1 + 3e3 / np.sqrt(size))}, budget / (6 * size))


def planted(rows, seed=0, noise=0.004, **changes):
    p = CHINCHILLA | changes
    loss = p["E"] + p["A"] * rows.sizes["total"] ** -p["alpha"] + p["B"] * rows.tokens ** -p["beta"]
    return loss * np.exp(noise * np.random.Generator(np.random.PCG64(seed)).normal(0, 1, loss.size))


def sets(num_sets=4, noise=0.004):
    rows = sweep_rows()
    return [
        LossSeries(f"set {k}", "law", "loss", rows, planted(rows, k, noise, E=1.6 + 0.2 * k)) for k in range(num_sets)
    ]


def below(series, budget):
    return [s[s.rows.budget <= budget] for s in series]


def test_weights_go_to_the_form_and_count_that_made_the_data():
    found = forecast_series(below(sets(noise=1e-3), 1e19))
    weights = found.weights["law"]
    assert max(weights, key=weights.get) == "chinchilla, total"
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["kaplan, total"] < 0.1


def test_planted_law_is_predicted_a_hundred_times_further():
    series = sets(noise=1e-3)
    found = forecast_series(below(series, 1e18))
    largest = series[0][series[0].rows.budget > 9e19]
    predictions = found.predict("set 0", largest.rows)
    assert [p.estimate for p in predictions] == pytest.approx(largest.y, rel=0.02)
    assert all(p.reach == pytest.approx(100, rel=1e-6) for p in predictions)


def test_backtest_intervals_cover_what_they_say():
    hits = []
    for shift in range(3):
        series = [
            LossSeries(s.name, s.kind, s.loss, s.rows, planted(s.rows, 10 * shift + k, 0.01))
            for k, s in enumerate(sets(5))
        ]
        found = backtest_series(series, up_to=4e18)
        hits += [score.coverage for score in found.scores]
    assert 0.8 <= np.mean(hits) <= 1.0


def test_backtest_scores_are_of_rows_that_were_not_fitted():
    series = sets(2)
    doubled = series[0].y * np.where(series[0].rows.budget > 9e19, 2.0, 1.0)
    honest, fooled = backtest_series(series), backtest_series([dataclasses.replace(series[0], y=doubled), series[1]])
    assert honest.weights == fooled.weights
    assert honest.scores[0].error < 0.02
    assert fooled.scores[0].error == pytest.approx(0.5, abs=0.02)
    assert honest.up_to == pytest.approx(BUDGETS[-2])


def test_lines_are_predicted_from_the_other_loss():
    rows = sweep_rows()
    x = planted(rows, 1, 1e-3)
    series = []
    for k, scale in enumerate((0.8, 1.0, 1.2)):
        line = scale * (x - 1.2) ** 1.1 + 0.9 + 0.1 * k
        series.append(
            LossSeries(f"line {k}", "line", f"test {k}", RunPoints(rows.budget, rows.sizes, rows.tokens, x), line)
        )
    found = backtest_series(series, up_to=1e19)
    assert max(score.error for score in found.scores) < 0.01
    assert set(found.weights["line"]) == set(LINE_MEMBERS)


def test_two_budgets_give_a_prediction_and_no_interval():
    series = below(sets(2), 4e17)
    assert len(budget_levels(series)) == 2
    found = forecast_series(series)
    (prediction,) = found.predict("set 0", sweep_rows(BUDGETS[-1:], 1))
    assert (prediction.lower, prediction.upper) == (None, None)
    assert found.weights["law"]["chinchilla, total"] == 1.0


def test_intervals_widen_with_the_reach_and_never_close():
    found = forecast_series(sets(3))
    widths = []
    for factor in (0.01, 1.0, 10.0, 100.0):
        rows = rows_of_target(found, "set 1", flops=factor * BUDGETS[-1])
        (p,) = found.predict("set 1", rows)
        widths.append(np.log(p.upper / p.lower))
    assert widths[0] == pytest.approx(widths[1])  # inside: that of the shortest fold
    assert 0 < widths[1] < widths[2] < widths[3]


def test_a_count_that_is_not_given_is_named_and_the_rest_predicts():
    found = forecast_series(sets(2))
    rows = rows_of_target(found, "set 0", params=(1e9,), tokens=2e10)
    (p,) = found.predict("set 0", rows)
    assert "other: that count of parameters is not given" in p.note
    assert p.estimate == pytest.approx(
        planted(RunPoints(None, {"total": np.array([1e9])}, np.array([2e10])), noise=0, E=1.6)[0], rel=0.01
    )


def test_budget_alone_is_split_where_the_loss_is_least():
    found = forecast_series(sets(1, noise=1e-4))
    rows = rows_of_target(found, "set 0", flops=1e20)
    size = rows.sizes["total"][0]
    assert size * rows.tokens[0] * 6 == pytest.approx(1e20, rel=1e-6)
    p = CHINCHILLA  # d/dN of A N^-alpha + B (C / 6N)^-beta is 0
    slope = p["alpha"] * p["A"] * size ** -p["alpha"] - p["beta"] * p["B"] * rows.tokens[0] ** -p["beta"]
    assert abs(slope) < 0.05 * p["alpha"] * p["A"] * size ** -p["alpha"]


def test_x_below_e_x_leaves_out_the_members_without_a_value():
    rows = sweep_rows()
    x = planted(rows, 1, 1e-3)
    found = forecast_series(
        [
            LossSeries(
                "line", "line", "y", RunPoints(rows.budget, rows.sizes, rows.tokens, x), 0.9 * (x - 1.5) ** 0.8 + 1.0
            )
        ]
    )
    (p,) = found.predict("line", rows_of_target(found, "line", x=1.0))
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
    found = forecast_series([*series, dataclasses.replace(series[0][:3], name="few")])
    assert found.left_out == ("few: left out: too few runs (3)",)
    assert [s.name for s in found.series] == ["set 0", "set 1"]


def test_checkpoints_of_larger_runs_predict_nothing_that_their_run_is_held_out_for():
    final = np.repeat(np.geomspace(1e17, 1e20, 7), 5)
    budget = final * np.tile([0.2, 0.4, 0.6, 0.8, 1.0], 7)
    size = np.sqrt(final / 120) * np.tile(np.geomspace(0.5, 2, 5), 7)
    rows = RunPoints(budget, {"total": size}, budget / (6 * size), final_budget=final)
    found = backtest_series([LossSeries("runs", "law", "loss", rows, planted(rows))], up_to=1.1e19)
    assert found.scores[0].num_fitted == 25  # five runs; early checkpoints of the sixth and seventh lie below too
    assert np.sum(budget <= 1.1e19) > 25


def test_a_series_of_one_budget_has_no_interval():
    series = sets(2)
    one = dataclasses.replace(series[1][series[1].rows.budget > 9e19], name="one")
    found = forecast_series([series[0], one])
    (prediction,) = found.predict("one", sweep_rows(BUDGETS[-1:] * 10, 1))
    assert (prediction.lower, prediction.upper) == (None, None)


def test_a_loss_that_no_fitted_run_had_is_said_and_wants_its_budget():
    rows = sweep_rows()
    rows = dataclasses.replace(rows, x=planted(rows, 1, 1e-3))
    found = forecast_series([LossSeries(f"line {k}", "line", "y", rows, (0.9 + 0.1 * k) * rows.x) for k in range(2)])
    for budget, known in ((None, False), (1e22, True)):
        (p,) = found.predict("line 0", rows_of_target(found, "line 0", x=1.9, flops=budget))
        assert "x lies outside" in p.note
        assert (p.lower is not None) == known
    (inside,) = found.predict("line 0", rows_of_target(found, "line 0", x=float(np.median(rows.x))))
    assert inside.note == ""
    assert inside.lower is not None


@pytest.mark.parametrize(("times_size", "times_tokens"), [(1, 1), (50, 1), (1, 3), (0.02, 40), (1e4, 1e-4)])
def test_sizes_and_tokens_that_no_fitted_run_had_are_said_with_their_factor(times_size, times_tokens):
    found = forecast_series(sets(2))
    fitted = found.series[0].rows
    size = fitted.sizes["total"].max() if times_size >= 1 else fitted.sizes["total"].min()
    tokens = fitted.tokens.max() if times_tokens >= 1 else fitted.tokens.min()
    rows = rows_of_target(found, "set 0", params=(size * times_size,), tokens=tokens * times_tokens)
    (p,) = found.predict("set 0", rows)
    for name, times in (("N (total)", times_size), ("D", times_tokens)):
        (said,) = [part for part in p.note.split("; ") if part.startswith(f"{name} ")] or [None]
        if times == 1:
            assert said is None
            continue
        end = "times the largest of the fitted runs" if times > 1 else "times less than the smallest of the fitted runs"
        assert said.endswith(f" is {max(times, 1 / times):.3g} {end}")
    assert np.isfinite(p.estimate)


def test_fewer_errors_than_a_quantile_needs_give_no_interval():
    rows = sweep_rows(BUDGETS[:3], 4)
    found = forecast_series(
        [LossSeries("one", "law", "loss", rows[rows.budget < 9e17], planted(rows)[rows.budget < 9e17])]
    )
    few = sum(found.num_folds.values())
    (p,) = found.predict("one", sweep_rows(BUDGETS[-1:], 1))
    assert (p.lower is None) == (few == 0)


def test_growth_is_distance_over_the_root_of_what_was_spanned():
    assert growth(np.exp(3.0), np.exp(1.0), np.exp(-3.0)) == pytest.approx(1.0)  # 2 / sqrt(4)
    assert growth(1.0, 2.0, 1.0) == 0.0


def test_continuous_budgets_become_few_levels():
    rows = sweep_rows(np.geomspace(1e17, 1e20, 400), 1)
    levels = budget_levels([LossSeries("a", "law", "loss", rows, planted(rows))])
    assert 5 <= len(levels) <= 12
    assert levels[-1] >= rows.budget.max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forecast_series([]), "no series"),
        (lambda: forecast_series([sets(1)[0], sets(1)[0]]), "two series are called 'set 0'"),
        (lambda: forecast_series([sets(1)[0][:2]]), "too few runs.*nothing is left"),
        (lambda: backtest_series(sets(1), up_to=1e30), "nothing to predict from runs up to 1e"),
        (lambda: backtest_series(below(sets(1), 1.1e17)), "one training budget"),
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
