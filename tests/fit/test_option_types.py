"""A wrong type or a number out of range in an option class is refused at once, by the name of the field."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from lossline_jax import fit
from lossline_jax.errors import ArgumentError
from lossline_jax.fit.study.irreducible import IrreducibleModes
from lossline_jax.fit.study.table_lines import Across

OPTION_CLASSES = (fit.LawOptions, fit.LineOptions, fit.Statistics, fit.CurveOptions, fit.ComputeColumns)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (fit.LawOptions, {"level": "0.9"}, "level: '0.9' is not a number or None"),
        (fit.LawOptions, {"level": True}, "level: True is not a number or None"),
        (fit.LawOptions, {"fixed": {"E": "1.6"}}, "fixed: {'E': '1.6'} is not a mapping of names to numbers"),
        (fit.LawOptions, {"fixed": "E=1.6"}, "fixed: 'E=1.6' is not a mapping of names to numbers"),
        (fit.LawOptions, {"shared": 3}, "shared: 3 is not a tuple of names"),
        (fit.LawOptions, {"shared": [1]}, "shared: [1] is not a tuple of names"),
        (fit.LawOptions, {"shared": None}, "shared: None is not a tuple of names"),
        (fit.LawOptions, {"objective": 0.1}, "objective: 0.1 is not text or None"),
        (fit.LawOptions, {"budget": ["flops"]}, "budget: ['flops'] is not text or None"),
        (fit.LawOptions, {"merge_copies": "no"}, "merge_copies: 'no' is not True or False"),
        (fit.LineOptions, {"irreducible": "free"}, "irreducible: 'free' is not IrreducibleModes(...) or None"),
        (fit.LineOptions, {"noise_x": "0.01"}, "noise_x: '0.01' is not a number or None"),
        (fit.LineOptions, {"num_resamples": 20.5}, "num_resamples: 20.5 is not a whole number"),
        (fit.LineOptions, {"num_resamples": 0}, "num_resamples: 0 is not a whole number from 1"),
        (fit.LineOptions, {"seed": "1"}, "seed: '1' is not a whole number"),
        (fit.LineOptions, {"seed": -1}, "seed: -1 is not a whole number from 0"),
        (fit.Statistics, {"margin_in_noise": "3"}, "margin_in_noise: '3' is not a number"),
        (fit.Statistics, {"margin_in_noise": float("nan")}, "margin_in_noise: nan is not a positive number"),
        (fit.Statistics, {"num_resamples": 1e3}, "num_resamples: 1000.0 is not a whole number"),
        (fit.Statistics, {"seed": None}, "seed: None is not a whole number"),
        (fit.CurveOptions, {"curve": "spline"}, "curve: 'spline' is not one of 'auto', 'measured', 'power law'"),
        (fit.CurveOptions, {"curve": ["auto"]}, "curve: ['auto'] is not one of 'auto'"),
        (fit.CurveOptions, {"margin": "1.1"}, "margin: '1.1' is not a number"),
        (fit.CurveOptions, {"fix": {1: 1.0}}, "fix: {1: 1.0} is not a mapping of names to numbers"),
        (fit.CurveOptions, {"share": {"E": 1.0}}, "share: {'E': 1.0} is not a tuple of names or None"),
        (fit.CurveOptions, {"last": 1}, "last: 1 is not True or False"),
        (fit.ComputeColumns, {"params": 6}, "params: 6 is not text or None"),
        (fit.Columns, {"losses": 5}, "losses: 5 is not a tuple of names"),
        (fit.Columns, {"losses": ("loss",), "tokens": None}, "tokens: None is not text"),
        (Across, {"column": "data", "on": 1}, "on: 1 is not a tuple of names"),
        (IrreducibleModes, {"e_x": [1.0]}, "e_x: [1.0] is not a number or one of 'free', 'law'"),
        (IrreducibleModes, {"form": "power"}, "form: 'power' is not one of 'kaplan', 'chinchilla'"),
    ],
)
def test_a_wrong_field_is_named(kind, values, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        kind(**values)


def test_numbers_of_numpy_lists_and_single_names_are_taken():
    fit.LineOptions(num_resamples=np.int64(5), noise_x=np.float32(0.1), merge_copies=np.bool_(True))
    fit.LawOptions(level=np.float64(0.9), fixed={"E": np.int32(1)}, shared=np.array(["alpha"]))
    fit.LawOptions(shared="alpha", level=None)
    assert fit.CurveOptions(margin=2).margin == 2
    for kind in OPTION_CLASSES:
        assert dataclasses.replace(kind()) == kind()


def planted(num_runs: int = 3) -> pd.DataFrame:
    """Return runs of two levels that follow one power law of compute, with the level `b` at half the compute."""
    rows = [
        {"run_id": f"{data}{run}", "data": data, "train_flops": c, "N": c**0.5, "D": c**0.5 / 6}
        | {"loss": 1.5 + 300 * (c * (1 + (data == "b")) * (1 + 0.01 * run)) ** -0.14}
        for data in "ab"
        for run in range(num_runs)
        for c in np.geomspace(1e15, 1e18, 6)
    ]
    return pd.DataFrame(rows)


def test_a_single_name_stands_for_a_tuple_in_every_option():
    table = planted()
    one, several = (
        fit.compare_compute(table, "loss", factors="data", curves=fit.CurveOptions(share=share)).to_json()
        for share in ("alpha", ("alpha",))
    )
    assert one == several
    first, second = (
        fit.series_of_table(table, fit.Columns(losses, params, "D", by=by))
        for losses, params, by in (("loss", "N", "data"), (("loss",), ("N",), ("data",)))
    )
    assert [series.name for series in first.series] == [series.name for series in second.series]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: fit.fit_laws(t, "chinchilla", {}, "loss", options={"level": 0.9}), "is not LawOptions(...)"),
        (lambda t: fit.fit_lines(t, "loss", "N", options=None), "options: None is not LineOptions(...)"),
        (lambda t: fit.compare_lines(t, "loss", "N", statistics=200), "statistics: 200 is not Statistics(...)"),
        (lambda t: fit.compare_compute(t, "loss", curves="auto"), "curves: 'auto' is not CurveOptions(...)"),
        (lambda t: fit.compare_compute(t, "loss", columns="N"), "columns: 'N' is not ComputeColumns(...)"),
        (lambda t: fit.series_of_table(t, "loss"), "columns: 'loss' is not Columns(...)"),
    ],
)
def test_another_value_in_place_of_the_options_is_refused(call, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        call(planted())
