"""The verbs on a table work from the command line, and each mistake gives one line."""

import json

import numpy as np
import pandas as pd
import pytest

from lossline_jax.cli.main import flag_of, main
from lossline_jax.errors import ArgumentError
from tests.support.paths import TESTS


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """Write a table of two data sets and four budgets, with a planted Chinchilla law and a planted line."""
    generator = np.random.Generator(np.random.PCG64(0))
    frames = []
    for k, name in enumerate(("web", "code")):
        budget = np.repeat(np.geomspace(1e17, 1e19, 4), 6)
        size = np.sqrt(budget / 120) * np.tile(np.geomspace(0.4, 2.5, 6), 4)
        tokens = budget / (6 * size)
        loss = (1.7 + 0.2 * k + 400 * size**-0.34 + 2000 * tokens**-0.36) * np.exp(generator.normal(0, 1e-3, size.size))
        frame = pd.DataFrame({"data": name, "params": size, "tokens": tokens, "own": loss, "task": 0.8 * loss**1.1})
        frames.append(frame)
    path = tmp_path_factory.mktemp("tables") / "losses.csv"
    pd.concat(frames).to_csv(path, index=False)
    return str(path)


def run(capsys, *argv):
    code = 0
    try:
        main(list(argv))
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


LAW = ("fit", "--law", "chinchilla", "--y", "own", "--input", "N=params", "D=tokens")
COUNTS = ("--params", "params", "--tokens", "tokens", "--by", "data")


def test_a_law_is_fitted_and_written(capsys, losses, tmp_path):
    out_file = tmp_path / "law.json"
    flags = ("--law", "chinchilla", "--input", "N=params", "D=tokens", "--y", "own", "--by", "data")
    code, out, _ = run(capsys, "table", "fit", losses, *flags, "--out", str(out_file))
    assert code == 0
    assert out.count("converged") == 2
    written = json.loads(out_file.read_text())
    assert written["fits"][0]["fit"]["parameters"]["E"] == pytest.approx(1.9, abs=0.1)
    assert written["fits"][0]["fit"]["conventions"]["N"] == "parameters: column params"


def test_parameters_of_a_law_are_held_and_shared(capsys, losses, tmp_path):
    out_file = tmp_path / "law.json"
    flags = ("--law", "chinchilla", "--input", "N=params", "D=tokens", "--y", "own", "--by", "data")
    flags += ("--fix", "alpha=0.34", "--share", "beta", "--out", str(out_file))
    code, out, _ = run(capsys, "table", "fit", losses, *flags)
    assert code == 0
    assert "held: alpha = 0.34; one value in all groups: beta" in " ".join(out.split())
    first, second = (item["fit"] for item in json.loads(out_file.read_text())["fits"])
    assert first["parameters"]["alpha"] == second["parameters"]["alpha"] == pytest.approx(0.34)
    assert first["parameters"]["beta"] == second["parameters"]["beta"] == pytest.approx(0.36, abs=0.01)
    assert second["parameters"]["E"] - first["parameters"]["E"] == pytest.approx(-0.2, abs=0.01)


def test_a_run_nobody_trained_is_predicted_from_a_budget(capsys, losses, tmp_path):
    out_file = tmp_path / "predictions.json"
    flags = ("--y", "own", *COUNTS, "--at-flops", "1e20", "--only", "web", "--out", str(out_file))
    code, out, _ = run(capsys, "table", "predict", losses, *flags)
    assert code == 0
    assert "10x" in out
    (prediction,) = json.loads(out_file.read_text())["predictions"]
    size = np.sqrt(1e20 / 120)
    expected = 1.7 + 400 * size**-0.34 + 2000 * (1e20 / 6 / size) ** -0.36  # near the best split
    assert prediction["lower"] < prediction["estimate"] < prediction["upper"]
    assert prediction["estimate"] == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
def test_a_loss_is_predicted_from_another_loss(capsys, losses):
    flags = ("--x", "own", "--y", "task", *COUNTS, "--at-x", "2.5", "--only", "web")
    code, out, _ = run(capsys, "table", "predict", losses, *flags)
    assert code == 0
    assert f"{0.8 * 2.5**1.1:.2f}" in out


def test_backtest_says_how_far_off(capsys, losses):
    code, out, _ = run(capsys, "table", "backtest", losses, "--y", "own", "task", *COUNTS)
    assert code == 0
    assert "Fitted up to 2.15e+18 FLOPs, predicted 1e+19" in out
    assert "size and tokens  own" in out


def test_lines_across_two_data_sets(capsys, losses):
    flags = ("--x", "own", "--y", "own", "--across", "data", "--on", "params", "tokens")
    code, out, _ = run(capsys, "table", "fit", losses, *flags, "--e-x", "law", "--e-y", "law", *COUNTS[:4])
    assert code == 0
    assert "data=code ->" in out
    assert "data=web ->" in out


def test_laws_are_listed_and_described_in_full(capsys):
    _, listing, _ = run(capsys, "laws")
    _, description, _ = run(capsys, "laws", "repetition")
    assert "chinchilla" in listing
    assert "source:" in description
    assert "note:" in description


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "--law", "chinchila", "--y", "own"), "did you mean 'chinchilla'"),
        (("fit", "--law", "chinchilla", "--y", "own"), "--input N=COLUMN"),
        (("fit", "--law", "chinchilla", "--y", "own", "--input", "N"), "not NAME=COLUMN"),
        (("fit", "--law", "chinchilla", "--y", "own", "--x", "task"), "--x belongs to lines"),
        (("fit", "--x", "own", "--y", "task", "--share", "alpha"), "--share belongs to --law"),
        ((*LAW, "--fix", "E=low"), "--fix: E=low: 'low' is not a number"),
        ((*LAW, "--fix", "E"), "--fix: 'E' is not NAME=VALUE, such as E=1.6"),
        ((*LAW, "--fix", "F=1"), "--fix: chinchilla has no parameter 'F'"),
        ((*LAW, "--share", "alpha"), "--share: a parameter is shared across the groups of --by"),
        ((*LAW, "--by", "data", "--share", "E", "--fix", "E=1.6"), "--share: E is held at 1.6 by --fix"),
        ((*LAW, "--by", "data", "--share", "alpah"), "--share: chinchilla has no parameter 'alpah'; did you mean"),
        ((*LAW, "--budget", "flops"), "no column 'flops'"),
        (("fit", "--x", "own", "--y", "task", "--objective", "log Huber"), "--objective belongs to --law"),
        (("backtest", "--y", "own", *COUNTS, "--level", "90"), "--level: 90 is not a share between 0 and 1"),
        (("fit", "--y", "own"), "needs --x and --y"),
        (("fit", "--x", "own", "--y", "own", "--across", "data"), "--on"),
        (("fit", "--x", "own", "--y", "task", "--e-x", "lav"), "not a number, 'free' or 'law'"),
        (
            ("fit", "--x", "own", "--y", "task", "--e-x", "law", "--params", "parms", "--tokens", "tokens"),
            "--params: the table has no column 'parms'; did you mean 'params'",
        ),
        (
            ("fit", "--x", "own", "--y", "task", "--e-x", "law"),
            "--e-x: a compute law needs --params and --tokens",
        ),
        (("backtest", "--y", "own", "--params", "params", "--tokens", "token"), "did you mean 'tokens'"),
        (("backtest", "--y", "own", *COUNTS, "--up-to", "1"), "--up-to: nothing to predict"),
        (("predict", "--y", "own", *COUNTS), "give --at-params and --at-tokens of the run, or --at-flops alone"),
        (("predict", "--y", "own", *COUNTS, "--at-x", "2"), "--at-x: these losses are predicted from size and tokens"),
        (("predict", "--y", "own", *COUNTS, "--at-x", "2"), "give the forecast --x, the loss to start from"),
        (
            ("predict", "--y", "own", *COUNTS, "--at-params", "1", "2", "--at-tokens", "1"),
            "--at-params: 2 values",
        ),
        (("predict", "--y", "task", "--x", "own", *COUNTS, "--at-x", "2", "--at-tokens", "1"), "use where a loss"),
        (
            ("predict", "--y", "task", "--across", "data", *COUNTS, "--at-flops", "1e9"),
            "--across pairs the losses of two models",
        ),
        (
            ("predict", "--y", "own", "--x", "own", *COUNTS, "--at-x", "2"),
            "--x and --y are both 'own': a line needs two",
        ),
        (("backtest", "--y", "task", "own", "--x", "own", *COUNTS), "--x and --y are both 'own'"),
        (("fit", "--x", "own", "--y", "own"), "--x and --y are both 'own'"),
        (("compare", "--x", "own", "--y", "own", "--factors", "data"), "--x and --y are both 'own'"),
        (("fit", "--law", "chinchilla", "--y", "own", "--objective", "huber"), "--objective: 'huber' is not one of"),
        (("fit", "--law", "chinchilla", "--y", "own", "--input", "M=params"), "--input: chinchilla has no input 'M'"),
        (("predict", "--y", "own", *COUNTS, "--at-flops", "-1"), "--at-flops: -1 is not a positive number"),
        (("predict", "--y", "own", *COUNTS, "--at-flops", "1e20", "--only", "nobody"), "no series has nobody"),
        (
            ("predict", "--y", "task", "--x", "own", *COUNTS, "--at-flops", "1e20"),
            "own -> task is predicted from",
        ),
    ],
)
def test_mistakes_get_one_line_and_exit_2(capsys, losses, tmp_path, words, message):
    out_file = tmp_path / "never.json"
    code, out, err = run(capsys, "table", words[0], losses, *words[1:], "--out", str(out_file))
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not out_file.exists()


@pytest.mark.parametrize("verb", ["fit", "compare", "report", "predict", "backtest"])
def test_an_empty_name_of_a_table_is_refused(capsys, verb):
    code, _, err = run(capsys, "table", verb, "", "--x", "own", "--y", "task")
    assert code == 2
    assert err == "lossline: TABLE: is empty; name a table, such as losses.csv\n"


@pytest.mark.parametrize("unit", ["num_bytes", "step", "nats_sum", "nats_per_token_standard_error"])
def test_a_column_that_holds_no_losses_is_no_unit(capsys, unit):
    table = str(TESTS / "golden/old_study/losses/losses.csv")
    first, second = pd.read_csv(table)["eval_set"].unique()[:2]
    axes = (table, "--x", first, "--y", second)
    commands = {
        ("table", "fit", *axes, "--unit"): "unit",
        ("table", "compare", *axes, "--unit"): "unit",
        ("table", "predict", *axes, "--at-x", "2", "--unit"): "unit",
        ("table", "fit", table, "--law", "chinchilla", "--y", first, "--unit"): "unit",
    }
    for command, flag in commands.items():
        code, _, err = run(capsys, *command, unit)
        assert code == 2
        assert err == f"lossline: --{flag}: column '{unit}' holds no losses; give nats_per_token or bits_per_byte\n"


def test_a_unit_for_losses_that_are_columns_is_refused(capsys, losses):
    axes = (losses, "--x", "own", "--y", "task")
    laws = (losses, "--y", "own", "--params", "params", "--tokens", "tokens")
    commands = {
        ("table", "fit", *axes): "own and task",
        ("table", "predict", *laws, "--at-flops", "1e20"): "own",
        ("table", "backtest", *laws): "own",
    }
    for command, named in commands.items():
        code, _, err = run(capsys, *command, "--unit", "bits_per_byte")
        assert code == 2
        assert err == (
            f"lossline: --unit: losses that are columns ({named}) are in the unit that they have; leave --unit out\n"
        )


@pytest.mark.parametrize("argument", ["params", "tokens", "flops"])
def test_a_missing_column_is_refused_with_its_flag_also_where_its_name_is_the_default(capsys, losses, argument):
    given = {"params": "params", "tokens": "tokens"}
    missing = {"params": "params_total", "tokens": "tokens_seen", "flops": "budgets"}[argument]
    given.pop(argument, None)
    flags = [word for flag, column in given.items() for word in (f"--{flag}", column)]
    flags += ["--flops", missing] if argument == "flops" else []
    code, _, err = run(capsys, "table", "backtest", losses, "--y", "own", *flags)
    assert code == 2
    assert err.startswith(f"lossline: --{argument}: the table has no column '{missing}'")


@pytest.mark.parametrize(
    ("verb", "out"), [("report", "page"), ("fit", "fits.json"), ("compare", "fits.json"), ("fit", "deep/er/fits.json")]
)
def test_an_out_that_may_not_be_written_is_refused_with_its_flag_before_any_work(capsys, losses, tmp_path, verb, out):
    place = tmp_path / "file" / out
    (tmp_path / "file").write_text("in the way")
    code, _, err = run(capsys, "table", verb, losses, "--x", "own", "--y", "task", "--out", str(place))
    assert code == 2
    assert err.startswith(f"lossline: --out: {place}: ")
    assert "name another" in err
    assert "--root" not in err
    assert err.count("\n") == 1


def test_arguments_are_called_flags_by_a_command_alone_and_values_stay_as_they_are():
    fault = ArgumentError("{at_x}: {name!r} is {value:.1f}; give {outputs}", name="{at_x} `at_x`", value=0.25)
    assert str(fault) == "x: '{at_x} `at_x`' is 0.2; give outputs"
    assert fault.message_with(flag_of) == "--at-x: '{at_x} `at_x`' is 0.2; give --y"


def test_no_table_is_one_line(capsys):
    code, _, err = run(capsys, "table", "backtest", "nowhere.csv", "--y", "own")
    assert code == 2
    assert err == "lossline: nowhere.csv: no such table\n"
