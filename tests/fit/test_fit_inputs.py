"""An input of a fitted curve may be given by name or alone. Any other form gets an error of one line."""

import functools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.line import fit_line, predict_transfer
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.resampling import bootstrap

X = np.linspace(2.5, 5.0, 20)
Y = 0.9 * (X - 1.5) ** 1.3 + 1.1
SEVERAL = next(law for law in LAWS.values() if len(law.inputs) > 1)


@functools.cache
def line():
    return fit_line(X, Y, e_x=1.5, e_y=1.1, level=None)


@functools.cache
def resamples():
    return bootstrap(line(), {"x": X}, Y, num_resamples=10)


forms = st.sampled_from([float, np.float32, lambda v: [v], lambda v: (v, v), np.array, lambda v: pd.Series([v, v])])


@given(value=st.floats(2.5, 5.0), form=forms)
@settings(max_examples=40, deadline=None)
def test_a_value_alone_is_that_of_its_name(value, form):
    x = form(value)
    assert np.array_equal(line().predict(x), line().predict(x=x))
    assert np.array_equal(line().predict(x), line().predict(pd.DataFrame({"x": np.atleast_1d(x)})).reshape(np.shape(x)))
    assert np.array_equal(line().defined(x), line().defined(x=x))
    assert np.array_equal(line().extrapolates(x), line().extrapolates(x=x))
    assert np.array_equal(resamples().curves(x), resamples().curves({"x": x}))
    assert resamples().band(x) == resamples().band({"x": x})
    assert predict_transfer(line(), x) == predict_transfer(line(), {"x": x})


def test_a_number_gives_a_number_and_a_band_its_two_ends():
    assert line().predict(3.0).shape == ()
    assert float(line().predict(3.0)) == pytest.approx(0.9 * 1.5**1.3 + 1.1, rel=1e-6)
    low, high = resamples().band([3.0, 4.0])
    assert low.shape == high.shape == (2,)
    assert np.all(low <= line().predict([3.0, 4.0]) + 1e-9)
    assert np.all(high >= line().predict([3.0, 4.0]) - 1e-9)


wrong = st.one_of(st.text(min_size=1).filter(lambda text: not _is_number(text)), st.just({}), st.just({"y": 1.0}),
                  st.just([[1.0], [1.0, 2.0]]), st.just(object()), st.just({"x": "loss"}))  # fmt: skip


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(inputs=wrong)
@settings(max_examples=40, deadline=None)
def test_any_other_form_gets_one_line(inputs):
    for call in (
        line().predict,
        line().extrapolates,
        resamples().curves,
        resamples().band,
        lambda x: predict_transfer(line(), x),
    ):
        with pytest.raises(LosslineError) as refused:
            call(inputs)
        assert len(str(refused.value).splitlines()) == 1


def test_a_law_of_several_inputs_wants_their_names_and_shapes_that_go_together():
    names = list(SEVERAL.inputs)
    with pytest.raises(LosslineError, match=f"give each by its name, {{'{names[0]}'"):
        SEVERAL.named(2.0)
    with pytest.raises(LosslineError, match="do not go together"):
        SEVERAL.named({name: np.ones(2 + k) for k, name in enumerate(names)})
