"""The verbs of the command, and the messages that answer a user's mistakes."""

import json

import pytest

from lossline_jax.cli.main import main
from lossline_jax.cli.verbs import TABLE_VERBS, VERBS
from tests.support.paths import ROOT, SUPPORT

TINY = str(SUPPORT / "tiny_study.py")
QUICKSTART = str(ROOT / "experiments" / "quickstart.py")


def run_cli(capsys, *argv):
    """Return the exit code, stdout and stderr of one command."""
    code = 0
    try:
        main(list(argv))
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_names_every_verb(capsys):
    code, out, _ = run_cli(capsys, "--help")
    assert code == 0
    assert {"plan", "prepare", "train", "evaluate", "fit", "report", "run", "status", "laws"} < VERBS.keys()
    for verb in VERBS:
        assert f"\n  {verb} " in out


def test_verbs_on_a_table_stand_together(capsys):
    code, out, _ = run_cli(capsys, "table", "--help")
    assert code == 0
    verbs = {"table fit", "table compare", "table speedup", "table report", "table figure"}
    verbs |= {"table predict", "table backtest"}
    assert TABLE_VERBS.keys() == verbs
    for verb in verbs:
        assert f"\n  {verb} " in out


def test_plan_shows_every_run_of_the_quickstart_and_follows_its_knobs(capsys):
    code, out, _ = run_cli(capsys, "plan", QUICKSTART)
    assert code == 0
    for factor in (
        "seed=1",
        "data=speeches",
        "tokenizer=",
        "architecture=mamba2",
        "context_length=",
        "optimiser=",
    ):
        assert factor in out
    _, fewer, _ = run_cli(capsys, "plan", QUICKSTART, "--tokens", "40960")
    assert out != fewer
    assert "41k" in fewer


def test_plan_writes_a_manifest_line_for_each_run(capsys, tmp_path):
    code, _, _ = run_cli(capsys, "plan", TINY, "--manifest", "--root", str(tmp_path))
    assert code == 0
    lines = [json.loads(line) for line in (tmp_path / "tiny" / "manifest.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert len({line["run_id"] for line in lines}) == 3
    assert json.loads((tmp_path / "tiny" / "study.json").read_text())["name"] == "tiny"


def test_status_of_an_untouched_study(capsys, tmp_path):
    code, out, _ = run_cli(capsys, "status", TINY, "--root", str(tmp_path))
    assert code == 0
    assert out.count("pending") == 3
    assert "0 of 3 runs done" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian", TINY], "unknown verb 'trian'; did you mean 'train'"),
        (["train"], "name a study"),
        (["plan", "nowhere.py"], "nowhere.py: no such experiment file"),
        (["plan", "/"], "no study.json there"),
        (["plan", TINY, "--corpus", "wikki"], "unknown corpus 'wikki'; did you mean 'wiki'"),
        (["plan", TINY, "--tokens", "0"], "tokens: 0 is out of range; give at least 1"),
        (["train", TINY, "--root", "ROOT"], "run `lossline-jax prepare` first"),
        (["train", TINY, "--root", "ROOT", "--only", "nobody"], "run 'nobody' is not in study 'tiny'"),
        (["evaluate", TINY, "--root", "ROOT"], "run `lossline-jax prepare` first"),
        (["fit", TINY, "--root", "ROOT"], "run `lossline-jax evaluate` first"),
        (["report", TINY, "--root", "ROOT"], "run `lossline-jax evaluate` first"),
        (["run", "--manifest", "nowhere.jsonl", "--index", "0"], "nowhere.jsonl: no such manifest"),
        (["table", "fit", "nowhere.csv", "--x", "a", "--y", "b"], "nowhere.csv: no such table"),
        (["table", "ft", "sweep.csv"], "unknown verb 'table ft'; did you mean 'table fit'"),
        (["table", "nope", "sweep.csv"], "unknown verb 'table nope'; `lossline-jax --help` lists them"),
        (["tabel", "fit"], "unknown verb 'tabel'; did you mean 'table'"),
        (["table", "fit", "--x", "a"], "name a table first: lossline-jax table fit TABLE"),
        (["fit", "sweep.csv"], "sweep.csv: a table and not a study; give: lossline-jax table fit sweep.csv"),
        (["report", "SWEEP.CSV.GZ"], "a table and not a study; give: lossline-jax table report SWEEP.CSV.GZ"),
        (["compare", "--x", "a"], "name a study first: lossline-jax compare quickstart"),
        (["fit"], "a table: lossline-jax table fit TABLE"),
        (["predict", "sweep.csv"], "unknown verb 'predict'; did you mean 'table predict'"),
        (["train", "sweep.csv"], "name an experiment file or a study's folder"),
        (["laws", "shifted", "power"], "name one law, in quotes if it has spaces"),
        (["resubmit", "--failed"], "name a study or a manifest first: lossline-jax resubmit MANIFEST"),
    ],
)
def test_a_mistake_gets_one_line_and_a_non_zero_exit(capsys, tmp_path, argv, message):
    code, out, err = run_cli(capsys, *(str(tmp_path) if word == "ROOT" else word for word in argv))
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("lossline: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "needs a function `def study() -> StudyConfig`"),
        ("def study(n): ...", "argument 'n' of study() needs a type and a default value"),
        ("def study(n: int = 1): return n", "study() returned int, not StudyConfig"),
        ("def study(:", "SyntaxError"),
        ("from lossline_jax.config.model import LlamaConfig\nLlamaConfig(d_modle=3)", ":2: TypeError"),
    ],
)
def test_a_broken_experiment_file_is_named_with_its_line(capsys, tmp_path, source, message):
    path = tmp_path / "broken.py"
    path.write_text(source)
    code, _, err = run_cli(capsys, "plan", str(path))
    assert code == 2
    assert message in err
    assert "broken.py" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("again", ["--x=b", "--x", "--run_id"])
def test_a_flag_that_is_given_twice_is_refused(capsys, again):
    flag = again.split("=")[0]
    code, _, error = run_cli(capsys, "table", "fit", "t.csv", flag.replace("_", "-"), "a", again, "b")
    assert code == 2
    assert error == f"lossline: {flag}: give it once, with all its values after it\n"


def test_a_misspelt_flag_is_answered_with_a_suggestion(capsys):
    code, out, err = run_cli(capsys, "plan", TINY, "--max-byte", "3")
    assert code == 2
    assert "--max-bytes" in out + err


def test_a_manifest_index_outside_the_manifest_is_refused(capsys, tmp_path):
    run_cli(capsys, "plan", TINY, "--manifest", "--root", str(tmp_path))
    manifest = str(tmp_path / "tiny" / "manifest.jsonl")
    code, _, err = run_cli(capsys, "run", "--manifest", manifest, "--index", "9")
    assert code == 2
    assert "--index 9 is outside 0..2" in err
