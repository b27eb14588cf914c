"""A mistake in the call of a fit gives one line that names the argument. It never gives a number."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.combine import find_crossings
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import OBJECTIVES
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.predict.table_forecast import forecast
from lossline_jax.fit.predict.target import check_target
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.solve import OPTIONS, fit_law, fit_law_many
from lossline_jax.fit.study.fit_study import compare_lines
from lossline_jax.fit.tables.pairing import pair_runs
from lossline_jax.losses.table import read_losses
from lossline_jax.summary import as_text

SIZE = np.repeat([1e6, 3e6, 1e7, 3e7], 4)
TOKENS = np.tile([1e8, 3e8, 1e9, 3e9], 4)
LOSS = 1.7 + 400 / SIZE**0.34 + 400 / TOKENS**0.28
FRAME = pd.DataFrame({"N": SIZE, "D": TOKENS, "loss": LOSS})
COUNTS = {"N": SIZE, "D": TOKENS}


@functools.cache
def planted_fit():
    return fit_law("chinchilla", LOSS, **COUNTS, num_starts=8, level=None)


def test_a_law_whose_scales_do_not_undo_the_normalisation_is_refused():
    """The parameters would belong to divided inputs, and every prediction would be wrong."""
    law = dataclasses.replace(LAWS["chinchilla"], name="popcorn")
    fit = fit_law(law, LOSS, **COUNTS, num_starts=8)
    assert fit.parameters == pytest.approx(planted_fit().parameters, rel=1e-9)
    without_scale = tuple(dataclasses.replace(p, scale=None) for p in law.parameters)
    for parameters in (without_scale, (*law.parameters[:1], *without_scale[1:2], *law.parameters[2:])):
        with pytest.raises(LosslineError, match="popcorn: the parameters on N, D do not give the curve"):
            fit_law(dataclasses.replace(law, parameters=parameters), LOSS, **COUNTS, num_starts=8)


def test_no_input_of_a_law_has_the_name_of_an_option():
    assert not {name for law in LAWS.values() for name in law.inputs} & {*OPTIONS, "law", "values"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_law(LOSS, "chinchilla", **COUNTS), "ndarray is not a law; the law comes first"),
        (lambda: fit_law(None, LOSS, **COUNTS), "NoneType is not a law"),
        (lambda: fit_law("chinchila", LOSS, **COUNTS), "did you mean 'chinchilla'"),
        (
            lambda: fit_law("chinchilla", LOSS, **COUNTS, cluster=SIZE),
            "has no input 'cluster'; did you mean 'clusters'",
        ),
        (lambda: fit_law("chinchilla", LOSS, n=SIZE, D=TOKENS), "has no input 'n'; its inputs are N "),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, objective="huber"), "objective: 'huber' is not an Objective"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, level=90), "level: 90 is not a share between 0 and 1"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, level="90%"), "level: '90%' is not a share"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, num_starts=0), "num_starts: 0 is not a whole number from 1"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, fixed={"E": "one"}), "E is held at 'one'; give a finite number"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, fixed=["E"]), "fixed: give parameters by name"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, clusters="run_id"), "clusters: give an array with the run"),
        (lambda: fit_law("chinchilla", LOSS, **COUNTS, clusters=3), "clusters: give an array with the run"),
        (
            lambda: fit_law("chinchilla", LOSS, **COUNTS, clusters=[*"abcd" * 3, *[None] * 4]),
            "4 of 16 points have no run",
        ),
        (lambda: fit_law("chinchilla", LOSS, N=["a"] * 16, D=TOKENS), "N: these are not all numbers"),
        (lambda: fit_line(LOSS, LOSS, e_x=0.0, e_y=0.0, residual="log"), "residual: 'log' is not one of"),
        (lambda: bootstrap(planted_fit(), COUNTS, LOSS, num_resamples=0), "num_resamples: 0 is not a whole number"),
        (lambda: bootstrap(planted_fit(), COUNTS, LOSS, num_resamples=3).interval("EE"), "'EE' was not resampled"),
        (lambda: planted_fit().predict(N=1e6, D=1e9, tokens=1e9), "has no input 'tokens'; its inputs are N, D"),
        (lambda: planted_fit().predict({"N": 1e6}, D=1e9), "by name or in one value, not both"),
        (lambda: planted_fit().predict(N=-1e6, D=1e9), "no value at {'N': -1000000.0"),
        (lambda: planted_fit().predict(N=[1e6, 0], D=1e9), "no value at {'N': 0.0"),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(LosslineError) as refused:
        call()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_numbers_and_arrays_broadcast():
    losses = planted_fit().predict(N=[1e6, 2e6], D=1e9)
    assert losses.tolist() == [float(planted_fit().predict(N=size, D=1e9)) for size in (1e6, 2e6)]
    assert planted_fit().extrapolates(N=[1e5, 2e6], D=1e9).tolist() == [True, False]
    assert planted_fit().predict(N=np.array([[1e6], [2e6]]), D=[1e8, 1e9, 2e9]).shape == (2, 3)


def test_columns_in_another_order_are_refused_and_other_tables_pair_by_position():
    shuffled = FRAME.D.sample(frac=1, random_state=0)
    with pytest.raises(LosslineError, match="D has the index of N in another order"):
        fit_law("chinchilla", FRAME.loss, N=FRAME.N, D=shuffled)
    with pytest.raises(LosslineError, match="y has the index of x in another order"):
        fit_line(FRAME.loss, FRAME.loss.sort_values())
    other_index = FRAME.set_index(FRAME.index + 100)
    fits = [
        fit_law("chinchilla", frame.loss, N=FRAME.N, D=FRAME.D, num_starts=4, level=None)
        for frame in (FRAME, other_index)
    ]
    assert fits[0].parameters == fits[1].parameters


def test_an_objective_may_be_named_and_the_loss_comes_first():
    named = fit_law("chinchilla", LOSS, **COUNTS, objective="log Huber", num_starts=4, level=None)
    given = fit_law("chinchilla", LOSS, **COUNTS, objective=OBJECTIVES["log Huber"], num_starts=4, level=None)
    assert named.parameters == given.parameters
    with pytest.raises(TypeError):  # the older argument order would silently fit another law
        fit_compute_law(SIZE, TOKENS, LOSS)


SWEEP = FRAME.assign(run_id=range(16))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forecast(SWEEP, "loss", clusters="run_id"), "did you mean 'cluster'"),
        (lambda: compare_lines(SWEEP, "loss", "N", base="wiki"), "base: give levels by factor"),
        (lambda: pair_runs(SWEEP, SWEEP, "params"), "no column 'params'"),
        (lambda: read_losses(SWEEP), "read_losses: a DataFrame is not a path"),
        (lambda: check_target((), None, "1e13", None), "flops: '1e13' is not a positive number"),
        (lambda: check_target((), None, None, None), "give params and tokens of the run, or flops alone"),
        (lambda: check_target((1e9,), None, None, None), "give params and tokens of the run"),
    ],
)
def test_mistakes_with_tables_get_one_line(call, message):
    with pytest.raises(LosslineError) as refused:
        call()
    assert message in str(refused.value)


def test_a_forecast_of_a_table_is_shown_and_asked_for_a_run():
    fitted = forecast(SWEEP, "loss", params="N", tokens="D")
    assert "size and tokens" in as_text(fitted)
    (prediction,) = fitted.predict(params=1e7, tokens=1e9).predictions
    assert prediction.estimate == pytest.approx(float(planted_fit().predict(N=1e7, D=1e9)), rel=1e-3)
    assert "N 1e+07, D 1e+09" in as_text(fitted.predict(params=1e7, tokens=1e9))


def test_a_dictionary_of_anything_else_than_laws_is_not_shown():
    with pytest.raises(TypeError, match="'a' of the dictionary is a int"):
        as_text({"a": 1})


def test_many_data_sets_take_a_law_by_its_name():
    (fit,) = fit_law_many("chinchilla", [DataSet(COUNTS, LOSS)], num_starts=8)
    assert fit.parameters == planted_fit().parameters


def test_a_curve_leaves_out_what_only_the_other_curve_takes():
    slow = fit_law("kaplan size", 6.0 * (1e6 / SIZE) ** 0.1, N=SIZE, num_starts=8, level=None)
    (crossing,) = find_crossings(slow, planted_fit(), over={"N": (1e6, 3e7)}, at={"D": 1e9})
    assert crossing.lower_after == "second"
    assert float(slow.predict(N=crossing.x)) == pytest.approx(float(planted_fit().predict(N=crossing.x, D=1e9)))


def test_results_print_as_one_short_line_and_take_numbers():
    x = np.linspace(2.5, 4.0, 40)
    noise = 0.002 * np.random.default_rng(0).standard_normal(x.size)
    y = 1.2 * (x - 1.0) ** 0.9 + 0.5 + noise
    fitted = fit_law("shifted power law", y, x=x)
    resamples = bootstrap(fitted, {"x": x}, y, num_resamples=50)
    band = resamples.band(3.0)
    for value in (fitted, resamples, band):
        assert len(repr(value)) < 250
        assert "\n" not in repr(value)
    assert f"kappa={fitted.parameters['kappa']:.4g}" in repr(fitted)
    assert fitted.predict(3.0) == pytest.approx(1.2 * 2**0.9 + 0.5, abs=3e-3)
    assert resamples.band({"x": 3.0}) == band
    low, high = band
    assert low[0] <= fitted.predict(3.0) <= high[0]
    for call in (lambda: fitted.predict({"z": 3.0}), lambda: resamples.band({"z": 3.0})):
        with pytest.raises(LosslineError, match=r"needs \['x'\]") as caught:
            call()
        assert "\n" not in str(caught.value)
