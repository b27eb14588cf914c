"""Losses that rise are refused wherever a law can only fall. Losses that fall, bend or are noisy are accepted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.direction import rise
from lossline_jax.fit.predict.backtest import backtest_series
from lossline_jax.fit.predict.few_runs import (
    FLOPS_TO_LOSS,
    SCALING_LAW,
    TRAIN_TO_TEST,
    PairedRuns,
    predict_from_few_runs,
)
from lossline_jax.fit.predict.forecast import forecast_series
from lossline_jax.fit.predict.table_series import Columns, series_of_table
from lossline_jax.fit.solve import fit_law
from lossline_jax.fit.study.isoflop import fit_isoflops
from lossline_jax.fit.study.table_laws import fit_laws
from lossline_jax.fit.study.table_lines import fit_lines
from tests.support import planted_laws

pytestmark = pytest.mark.usefixtures("quick_compilation")
INPUTS = {"N": "params", "D": "tokens"}


def sweep(num_budgets=5, num_sizes=5):
    """Return sizes around the optimum of each budget, with a loss and an accuracy that depends on the loss."""
    budget = np.repeat(np.geomspace(1e18, 1e20, num_budgets), num_sizes)
    size = np.sqrt(budget / 120) * np.tile(np.geomspace(0.4, 2.5, num_sizes), num_budgets)
    tokens = budget / (6 * size)
    loss = 1.7 + 400 * size**-0.34 + 2000 * tokens**-0.36
    loss *= np.exp(0.003 * np.random.Generator(np.random.PCG64(0)).normal(size=loss.size))
    accuracy = 0.25 + 0.7 / (1 + np.exp(3 * loss - 8))
    return pd.DataFrame({"params": size, "tokens": tokens, "loss": loss, "quiz": accuracy})


def columns(loss, x=None):
    return Columns((loss,), ("params",), "tokens", x=x)


REFUSALS = {
    "forecast": lambda t: forecast_series(series_of_table(t, columns("quiz")).series),
    "forecast from a loss": lambda t: forecast_series(series_of_table(t, columns("quiz", "loss")).series),
    "forecast from an accuracy": lambda t: forecast_series(series_of_table(t, columns("loss", "quiz")).series),
    "backtest": lambda t: backtest_series(series_of_table(t, columns("quiz")).series),
    "fit --law": lambda t: fit_laws(t, "chinchilla", INPUTS, ["quiz"]),
    "fit --law of an accuracy near chance": lambda t: fit_laws(
        t.assign(arc_acc=0.25 + 0.01 * np.cos(np.arange(len(t)))), "kaplan", INPUTS, ["arc_acc"]
    ),
    "forecast of an accuracy near chance": lambda t: forecast_series(
        series_of_table(t.assign(accuracy=0.25 + 0.01 * np.cos(np.arange(len(t)))), columns("accuracy")).series
    ),
    "a unit of our own table": lambda t: series_of_table(
        t.assign(eval_set="quiz", run_id="r", step=1, accuracy_per_char=0.3),
        Columns(("quiz",), ("params",), "tokens", unit="accuracy_per_char"),
    ),
    "fit --law in a unit of our own table": lambda t: fit_laws(
        t.assign(eval_set="quiz", run_id="r", step=1, accuracy=0.3), "chinchilla", INPUTS, ["quiz"], unit="accuracy"
    ),
}


@pytest.mark.parametrize("refused", REFUSALS)
def test_an_accuracy_is_refused_in_one_line_that_names_it(refused):
    with pytest.raises(LosslineError) as caught:
        REFUSALS[refused](sweep())
    message = str(caught.value)
    assert "\n" not in message
    assert any(word in message for word in ("quiz", "acc", "x rises"))
    assert "1 - accuracy" in message


def test_the_loss_beside_it_is_predicted_and_the_accuracy_named():
    table = sweep()
    forecast = forecast_series(series_of_table(table, Columns(("loss", "quiz"), ("params",), "tokens")).series)
    assert [series.name for series in forecast.series] == ["loss"]
    assert forecast.left_out[0].startswith("quiz: left out: quiz rises with the training budget")
    error = series_of_table(table.assign(error=1 - table["quiz"]), columns("error")).series
    assert forecast_series(error).series


def test_notes_of_fits_name_the_wrong_direction():
    table = sweep()
    fit = fit_compute_law(table["quiz"], N=table["params"], D=table["tokens"], form="chinchilla")
    assert (fit.status, fit.has_curve) == ("failed", False)
    assert "L rises with N and D" in fit.note
    fit = fit_law("chinchilla", table["quiz"], N=table["params"], D=table["tokens"], level=None)
    assert "L rises with N and D" in fit.note
    (line,) = fit_lines(table, "loss", "quiz").lines
    assert "y falls with x" in line.fit.note


def test_few_runs_leave_out_what_can_only_fall():
    table = sweep()
    few = PairedRuns(
        *(table[name].to_numpy() for name in ("params", "tokens")),
        6 * (table["params"] * table["tokens"]).to_numpy(),
        *(table[name].to_numpy() for name in ("loss", "quiz", "quiz")),
    )
    predictions = {prediction.method: prediction for prediction in predict_from_few_runs(few, few)}
    for method in (SCALING_LAW, FLOPS_TO_LOSS, TRAIN_TO_TEST):
        assert set(predictions[method].loss) == {None}
        assert "1 - accuracy" in predictions[method].note


def test_isoflops_of_accuracies_are_left_out_and_named():
    table = sweep()
    budget = 6 * table["params"] * table["tokens"]
    table = table.assign(run_id=[f"r{k}" for k in range(len(table))], step=1, eval_set="wiki", train_flops=budget)
    table = table.rename(columns={"params": "params_total"}).assign(data="wiki", tokenizer="t", architecture="a")
    assert len(fit_isoflops(table, "wiki", "loss")[0]) == 5
    items, left_out = fit_isoflops(table, "wiki", "quiz")
    assert items == ()
    assert "quiz of wiki rises with the training budget" in left_out[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.integers(2, 6))
def test_a_loss_that_falls_on_the_whole_is_never_refused(seed, turn, num_sizes):
    """The loss falls up to a share `turn` (at least .5) of the budgets, then rises. Noise is as large as the fall."""
    generator = np.random.Generator(np.random.PCG64(seed))
    budget = np.repeat(np.geomspace(1e18, 1e20, 6), num_sizes)
    share = np.log(budget / 1e18) / np.log(100)
    turn = 0.5 + turn / 2
    loss = 3 - np.minimum(share, 2 * turn - share) + 0.3 * generator.normal(size=share.size)
    assert rise(budget, loss) is None


def test_a_loss_without_a_trend_is_hardly_ever_refused():
    generator = np.random.Generator(np.random.PCG64(1))
    budget = np.repeat(np.geomspace(1e18, 1e20, 5), 2)
    taus = [rise(budget, 3 + generator.normal(0, 0.1, 10)) for _ in range(1000)]
    assert sum(tau is not None for tau in taus) <= 15


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(4, 40), st.floats(0.05, 0.95))
def test_an_accuracy_that_rises_is_always_found(seed, num_runs, room):
    generator = np.random.Generator(np.random.PCG64(seed))
    budget = np.geomspace(1e18, 1e21, num_runs)
    accuracy = 0.02 + room * np.linspace(0, 1, num_runs) ** 2 + generator.uniform(0, 0.1 * room / num_runs, num_runs)
    assert rise(budget, accuracy * 0.9) is not None


@pytest.mark.parametrize("name", [name for name, (law, _) in planted_laws.CASES.items() if law.falls or law.rises])
def test_a_law_moves_one_way_only_as_it_declares(name):
    law, planted = planted_laws.CASES[name]
    for seed in range(3):
        parameters = planted.parameters(np.random.Generator(np.random.PCG64(seed)).uniform(size=len(planted.ranges)))
        before = law(parameters, planted.inputs)
        for names, sign in ((law.falls, -1), (law.rises, 1)):
            for input_name in names:
                moved = law(parameters, {**planted.inputs, input_name: 1.1 * np.asarray(planted.inputs[input_name])})
                assert np.all(sign * (moved - before) >= -1e-12 * np.abs(before)), input_name
