"""Long tables, exports of Weights & Biases and patterns of losses give the same as the plain wide table."""

import json

import numpy as np
import pandas as pd
import pytest

from lossline_jax.cli.main import main

SETS = ("eval/wiki", "eval/code", "eval/books")


@pytest.fixture(scope="module")
def wide():
    """Return a wide table of sixteen runs with three checkpoints each, on planted lines."""
    generator = np.random.Generator(np.random.PCG64(0))
    rows = []
    for run in range(16):
        for step in (100, 200, 400):
            params, tokens = 1e6 * 3 ** (run // 4), step * 5e5
            wiki = (1.7 + 400 * params**-0.34 + 2000 * tokens**-0.36) * np.exp(generator.normal(0, 1e-2))
            code = (0.8 * wiki**1.1 + 0.1 * (run % 2)) * np.exp(generator.normal(0, 1e-2))
            books = 0.9 * wiki * np.exp(generator.normal(0, 1e-2))
            facts = {"run": f"{run:03}", "data": ("web", "code")[run % 2], "params": params, "tokens": tokens}
            rows.append({**facts, "step": step, "eval/wiki": wiki, "eval/code": code, "eval/books": books})
    return pd.DataFrame(rows)


@pytest.fixture
def here(tmp_path, monkeypatch, wide):
    """Write the forms of one table into the working folder."""
    monkeypatch.chdir(tmp_path)
    wide.to_csv("wide.csv", index=False)
    facts = ["run", "data", "params", "tokens", "step"]
    long = wide.melt(facts, SETS, "metric", "value")
    long.assign(error=0.01 * long["value"]).to_csv("long.csv", index=False)
    history = wide.rename(columns={"run": "Name", "step": "_step"}).assign(_runtime=1.5, _timestamp=1.7e9)
    history.to_csv("history.csv", index=False)
    last = history.groupby("Name").tail(1).assign(State="finished", Notes="-", ID=[f"id{k}" for k in range(16)])
    last.to_csv("runs.csv", index=False)
    return tmp_path


def run(capsys, *words):
    code = 0
    try:
        main(["table", *words])
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


LONG = ("--metric-column", "metric", "--value-column", "value")
AXES = ("--x", "eval/wiki", "--y", "eval/code")


@pytest.mark.parametrize(
    ("form", "note"),
    [
        (("long.csv", "--run", "run", *LONG), "left out: error"),
        (("long.csv", "--cluster", "run", *LONG, "--step-column", "step"), "left out: error"),
        (("history.csv",), "column Name names the runs"),
    ],
)
def test_every_form_of_a_table_gives_the_same_lines(here, capsys, form, note):
    _, expected, _ = run(capsys, "fit", "wide.csv", "--run", "run", *AXES, "--by", "data")
    code, out, err = run(capsys, "fit", form[0], *AXES, "--by", "data", *form[1:])
    assert code == 0, err
    assert out == expected
    assert "16" not in err
    assert note in err


def test_a_comparison_of_a_long_table_is_that_of_the_wide_one(here, capsys):
    factors = ("--factors", "data", "params", *AXES)
    _, expected, _ = run(capsys, "compare", "wide.csv", "--run", "run", *factors)
    code, out, _ = run(capsys, "compare", "long.csv", "--run", "run", *LONG, *factors)
    assert code == 0
    assert out == expected
    assert "moves" in out


def test_several_losses_and_patterns(here, capsys):
    each = [run(capsys, "fit", "wide.csv", "--run", "run", "--x", "eval/wiki", "--y", name)[1] for name in SETS[1:]]
    words = ("fit", "wide.csv", "--run", "run", "--x", "eval/wiki", "--y", "eval/*", "--out", "fits.json")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert out == "\n".join(each)
    assert [fits["y"] for fits in json.loads((here / "fits.json").read_text())] == list(SETS[1:])
    laws = ("fit", "wide.csv", "--run", "run", "--law", "chinchilla", "--input", "N=params", "D=tokens")
    code, out, _ = run(capsys, *laws, "--y", "eval/[bc]*")
    assert code == 0
    assert "eval/books" in out
    assert "eval/wiki" not in out


def test_a_loss_is_predicted_from_another_without_sizes(here, capsys, wide):
    wide.drop(columns=["params", "tokens"]).to_csv("losses.csv", index=False)
    code, _, _ = run(
        capsys, "predict", "losses.csv", "--run", "run", *AXES, "--by", "data", "--at-x", "8", "--out", "p.json"
    )
    assert code == 0
    web, code_data = sorted(
        json.loads((here / "p.json").read_text())["predictions"], key=lambda item: -len(item["series"])
    )
    assert web["estimate"] == pytest.approx(0.8 * 8**1.1 + 0.1, rel=0.01)
    assert code_data["estimate"] == pytest.approx(0.8 * 8**1.1, rel=0.01)
    assert web["lower"] is None


NO_PARAMS = (
    "--params: the table has no column 'params_total'; did you mean 'params'?; name it with --params; it has run, "
)
TWICE = "two runs are called '000'; export the column ID too, or name a column that tells runs apart with --run"
IN_CELLS = (
    "--x: the table has no column 'eval/wiki', and column 'metric' has it in its cells: "
    "name the two columns with --metric-column and --value-column; the table has run, data, "
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "long.csv", *AXES), IN_CELLS),
        (("fit", "long.csv", *AXES, *LONG[:2]), "--metric-column, --value-column: give both"),
        (
            ("fit", "long.csv", *AXES, *LONG),
            "--run: the table has no column 'run_id'; did you mean 'run'?; name it with",
        ),
        (("fit", "long.csv", *AXES, *LONG, "--run", "data"), "run web has 'eval/"),
        (("fit", "long.csv", *AXES, *LONG, "--run", "data"), "name the steps with --step-column"),
        (
            ("fit", "long.csv", *AXES, "--run", "run", *LONG[:3], "data"),
            "line 2 of long.csv: data is web, not a number",
        ),
        (("fit", "wide.csv", *AXES[:3], "loss/*"), "--y: no loss of the table matches 'loss/*'; it has run,"),
        (("fit", "wide.csv", "--x", "wiki", *AXES[2:]), "--x: the table has no column 'wiki'"),
        (("fit", "wide.csv", *AXES, "--by", "dat"), "--by: the table has no column 'dat'; did you mean 'data'?; name"),
        (("fit", "wide.csv", *AXES, "--run", "rum"), "--run: the table has no column 'rum'"),
        (("compare", "wide.csv", *AXES, "--factors", "dat"), "--factors: the table has no column 'dat'"),
        (("predict", "wide.csv", "--y", "eval/code", "--at-flops", "1e18"), NO_PARAMS),
        (("backtest", "wide.csv", *AXES), NO_PARAMS),
        (("fit", "twice.csv", *AXES), TWICE),
        (("fit", "chart.csv", *AXES), "column 'sun - loss__MIN': an export of one chart of Weights & Biases"),
    ],
)
def test_a_refusal_names_the_flag_that_mends_it(here, capsys, wide, words, message):
    wide.rename(columns={"run": "Name"}).assign(State="finished").to_csv("twice.csv", index=False)
    (here / "chart.csv").write_text("Step,sun - loss,sun - loss__MIN,sun - loss__MAX\n1,2,2,2\n")
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert message in err.splitlines()[-1]


def test_a_page_of_runs_with_equal_names_is_read_by_its_ids(here, capsys):
    pd.read_csv("runs.csv").assign(Name="same").to_csv("same.csv", index=False)
    code, out, err = run(capsys, "fit", "same.csv", *AXES)
    assert code == 0
    assert "column ID names the runs" in err
    assert out == run(capsys, "fit", "runs.csv", *AXES)[1]
