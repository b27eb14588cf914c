"""Runs of two tables are paired by equal size and tokens, or by the best loss of equal compute."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.fit.tables.pairing import best_by_compute, pair_runs

FIRST = pd.DataFrame({"N": [1e8, 2e8, 4e8], "D": [1e9, 1e9, 2e9], "loss": [3.0, 2.9, 2.8]})


def test_rows_pair_within_the_tolerance_and_the_rest_is_counted():
    second = pd.DataFrame({"N": [2.001e8, 1.0e8, 9e8], "D": [1.004e9, 1e9, 9e9], "loss": [2.0, 2.1, 1.9]})
    pairs = pair_runs(FIRST, second, ["N", "D"])
    assert pairs.first["N"].tolist() == [1e8, 2e8]
    assert pairs.second["loss"].tolist() == [2.1, 2.0]
    assert pairs.num_alone == 2


def test_one_row_is_nobodys_partner_twice_and_the_nearest_wins():
    second = pd.DataFrame({"N": [1.009e8, 1.001e8], "D": [1e9, 1e9], "loss": [5.0, 6.0]})
    pairs = pair_runs(FIRST[:1], second, ["N", "D"])
    assert pairs.second["loss"].tolist() == [6.0]
    assert pairs.num_alone == 1


def test_words_are_equal_or_not():
    left, right = pd.DataFrame({"k": ["a", "b"], "v": [1, 2]}), pd.DataFrame({"k": ["b", "c"], "v": [3, 4]})
    pairs = pair_runs(left, right, ["k"])
    assert (pairs.first["v"].tolist(), pairs.second["v"].tolist()) == ([2], [3])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.permutations(range(8)))
def test_a_table_pairs_with_itself_in_any_order(order):
    table = pd.DataFrame({"N": np.geomspace(1e6, 1e9, 8), "loss": np.arange(8.0)})
    pairs = pair_runs(table, table.iloc[order], ["N"])
    assert pairs.first["loss"].tolist() == pairs.second["loss"].tolist()
    assert pairs.num_alone == 0


def test_columns_that_do_not_tell_rows_apart_are_refused():
    twice = pd.concat([FIRST, FIRST.assign(D=9e9)])
    with pytest.raises(LosslineError, match="several rows have N=100000000"):
        pair_runs(twice, FIRST, ["N"])
    assert len(pair_runs(twice, FIRST, ["N", "D"]).first) == 3


def test_polars_frames_are_paired_too():
    polars = pytest.importorskip("polars")
    assert len(pair_runs(polars.from_pandas(FIRST), FIRST, ["N", "D"]).first) == 3


def test_best_of_each_budget():
    table = pd.DataFrame({"C": [1e18, 1.001e18, 2e18, 2e18, 4e18], "loss": [3.0, 2.9, 2.7, 2.8, np.nan]})
    assert best_by_compute(table, "C", "loss")["loss"].tolist() == [2.9, 2.7]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pair_runs(FIRST, FIRST, []), "name the columns"),
        (lambda: pair_runs(FIRST, FIRST, ["params"]), "no column 'params'"),
        (lambda: best_by_compute(FIRST, "C", "loss"), "no column 'C'"),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(LosslineError, match=message):
        call()
