"""A loss of zero or below is no loss: every verb names its row, leaves out the curve of it, and fits the others."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from lossline_jax import fit
from lossline_jax.errors import ArgumentError
from lossline_jax.fit.laws.architecture import VOCABULARY
from tests.cli.test_main import run_cli

BAD_ROW = 7  # of the first run, which is of data wiki


def planted(bad: float | None, column: str = "task", num_runs: int = 3) -> pd.DataFrame:
    """Return runs of two data sets with a planted law and line. One loss of a run of wiki is bad."""
    noise = np.random.Generator(np.random.PCG64(0))
    rows = []
    for data, size, run in itertools.product(("wiki", "code"), (1e6, 1e7), range(num_runs)):
        for tokens in np.geomspace(2e7, 5e8, 5):
            loss = 1.7 + 0.1 * (data == "code") + 400 / size**0.34 + 410 / tokens**0.28 + noise.normal(0, 0.003)
            task = 0.9 * loss + 0.4 + noise.normal(0, 0.003)
            row = {"run_id": f"{data}-{size:g}-{run}", "data": data, "size": f"d{size:g}", "params_total": size}
            rows.append(row | {"tokens_seen": tokens, "train_flops": 6 * size * tokens, "val": loss, "task": task})
    table = pd.DataFrame(rows)
    if bad is not None:
        table.loc[BAD_ROW, column] = bad
    return table


@pytest.fixture
def write(tmp_path):
    def path_of(table: pd.DataFrame) -> str:
        table.to_csv(tmp_path / "t.csv", index=False)
        return str(tmp_path / "t.csv")

    return path_of


LINE = ("--x", "val", "--y", "task")
LAW = ("--law", "chinchilla", "--input", "N=params_total", "D=tokens_seen", "--y", "task", "--by", "data")
BUDGET = ("--at-params", "1e8", "--at-tokens", "1e9")


@pytest.mark.parametrize("bad", [0.0, -1.5])
@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("fit", (*LINE, "--by", "data")),
        ("fit", LAW),
        ("compare", LINE),
        ("speedup", ("--y", "task")),
        ("speedup", ("--y", "task", "--curve", "power-law")),
        ("predict", ("--y", "task", "--by", "data", *BUDGET)),
        ("predict", (*LINE, "--by", "data", "--at-x", "3")),
        ("backtest", ("--y", "task", "--by", "data")),
        pytest.param("figure", LINE, marks=pytest.mark.slow),
    ],
)
def test_a_verb_names_the_row_and_fits_the_rest(capsys, write, tmp_path, verb, flags, bad):
    out = {"figure": ("--out", str(tmp_path / "figures"))}.get(verb, ())
    code, printed, err = run_cli(capsys, "table", verb, write(planted(bad)), *flags, *out)
    assert code == 0, err
    row = f"line {BAD_ROW + 2} of t.csv, run wiki-1e+06-1: task is {bad}; losses are positive numbers"
    assert row in " ".join((printed + err).split())
    assert "code" in printed or verb in ("figure", "backtest")  # these two print no names of groups that are well


@pytest.mark.parametrize(("column", "curve"), [("val", "auto"), ("task", "power-law")])
def test_a_level_without_usable_losses_stands_in_the_table_of_speedups(capsys, write, tmp_path, column, curve):
    table = planted(-1.0, column).query("size == 'd1e+06'")
    out = tmp_path / "out.json"
    words = ("--y", "val", "task", "--factors", "data", "--base", "data=code", "--curve", curve, "--out", str(out))
    code, printed, _ = run_cli(capsys, "table", "speedup", write(table), *words)
    assert code == 0
    levels = {item["loss"]: item["levels"][0] for item in json.loads(out.read_text())["factors"]}
    other = {"val": "task", "task": "val"}[column]
    assert levels[column]["level"] == "wiki"
    assert levels[column]["verdict"] == "cannot tell"
    assert levels[column]["note"].startswith("its setting has no usable losses: line 9 of t.csv, run wiki-1e+06-1: ")
    assert levels[column]["speedup"] is None
    clean = fit.compare_compute(planted(None).query("size == 'd1e+06'"), other, {"data": "code"}, factors=["data"],
                                curves=fit.CurveOptions(curve=curve.replace("-", " ")))  # fmt: skip
    assert levels[other]["speedup"] == pytest.approx(clean.factors[0].levels[0].speedup)
    assert "its setting has no usable losses" in " ".join(printed.split())


@pytest.mark.parametrize(("verb", "flags"), [("fit", LINE), ("compare", LINE), ("speedup", ("--y", "task"))])
def test_a_table_without_any_usable_curve_is_refused(capsys, write, verb, flags):
    table = planted(None)
    table["task"] = -table["task"]
    code, printed, err = run_cli(capsys, "table", verb, write(table), *flags)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    begins = {"compare": "lossline: base: line 2"}.get(verb, "lossline: line 2")
    assert err.startswith(f"{begins} of t.csv, run wiki-1e+06-0: task is -")


def test_the_page_leaves_out_every_curve_with_a_bad_loss():
    """Compute laws and speedups of a page once were fitted to the other rows of the run, without a word."""
    table, clean = (planted(bad) for bad in (-1.0, None))
    study, expected = (
        fit.fit_study(frame, "val", "task", factors=["data", "size"], statistics=fit.Statistics(num_resamples=5))
        for frame in (table, clean)
    )
    row = "row 8, run wiki-1e+06-1: task is -1.0; losses are positive numbers"
    assert f"compute at equal loss: {row}" in study.failures
    kept = [line for line in expected.panel_lines if "wiki-1e+06-1" not in line.run_ids]
    assert 0 < len(kept) < len(expected.panel_lines)
    assert [line.run_ids for line in study.panel_lines] == [line.run_ids for line in kept]
    assert [line.fit.parameters for line in study.panel_lines] == [line.fit.parameters for line in kept]


def test_arrays_with_a_bad_loss_are_refused():
    table = planted(None)
    losses, inputs = table["val"].to_numpy(copy=True), {"N": table["params_total"], "D": table["tokens_seen"]}
    losses[3] = -0.5
    with pytest.raises(ArgumentError, match=r"^x: value 4 of 60 is -0\.5; losses are positive numbers$"):
        fit.fit_line(losses, table["task"])
    with pytest.raises(ArgumentError, match=r"^y: value 4 of 60 is -0\.5; losses are positive numbers$"):
        fit.fit_line(table["task"], losses)
    for objective in (None, "least squares"):
        result = fit.fit_law("chinchilla", losses, objective=objective, **inputs)
        assert result.status == "failed"
        assert result.note == "1 of 60 values of L are not above 0 (the smallest is -0.5); losses are positive numbers"


def test_a_law_of_a_difference_of_losses_takes_negative_values():
    """L_u is the loss minus that of a unigram model, and mostly below zero."""
    sizes = itertools.product((1e6, 4e6, 1.6e7), (1e5, 1e6), (1e8, 1e9, 1e10))
    table = pd.DataFrame(sizes, columns=["N_nv", "N_v", "H"])
    planted_values = {"E": 5.5, "A1": 1.7, "A2": 0.2, "B": 6.5, "alpha1": 0.45, "alpha2": 0.67, "beta": 0.45}
    millions = {name: table[name] / 1e6 for name in ("N_nv", "N_v")} | {"H": table["H"] / 1e9}
    table["L_u"] = VOCABULARY(planted_values, millions)
    assert (table["L_u"] < 0).any()
    frame = pd.DataFrame(millions).assign(L_u=table["L_u"])
    (result,) = fit.fit_laws(frame, "vocabulary", {}, ["L_u"], options=fit.LawOptions(level=None)).fits
    assert result.fit.predict(**millions) == pytest.approx(table["L_u"], abs=1e-3)
