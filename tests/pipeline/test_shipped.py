"""Experiments that come with lossline are found by name from any folder, and a new one starts from a template."""

import pytest

import lossline_jax as ll
from lossline_jax.pipeline import shipped
from tests.cli.test_main import run_cli
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, as a user does who has installed the wheel."""
    monkeypatch.chdir(tmp_path)


def test_every_experiment_of_the_repository_has_a_name():
    assert shipped.experiment_names() == sorted(path.stem for path in ROOT.glob("experiments/[!_]*.py"))
    assert ll.Study.from_file("quickstart").config.name == "quickstart"


def test_a_name_and_its_file_give_the_same_plan(capsys):
    _, by_name, _ = run_cli(capsys, "plan", "quickstart", "--tokens", "40960")
    _, by_file, _ = run_cli(capsys, "plan", str(ROOT / "experiments/quickstart.py"), "--tokens", "40960")
    assert "41k" in by_name
    assert by_name == by_file


def test_a_folder_of_a_study_goes_before_an_experiment_of_its_name(capsys, tmp_path):
    run_cli(capsys, "plan", "quickstart", "--tokens", "40960", "--manifest", "--root", ".")
    _, from_folder, _ = run_cli(capsys, "plan", "quickstart")
    assert "41k" in from_folder


@pytest.mark.parametrize(
    ("name", "message"),
    [("quickstrt", "no such experiment; did you mean 'quickstart'?"), ("zzz", "or one of these (lossline has llms_on")],
)
def test_a_wrong_name_lists_the_names(capsys, name, message):
    code, _, err = run_cli(capsys, "run", name)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err
    assert all(known in err for known in shipped.experiment_names())


def test_a_file_that_is_only_in_a_checkout_is_found_by_its_name(capsys):
    code, _, err = run_cli(capsys, "run", "experiments/quickstart.py")
    assert code == 2
    assert err.endswith("and lossline has one that goes by its name: quickstart\n")


def test_a_new_experiment_plans_and_is_never_overwritten(capsys, tmp_path):
    code, out, _ = run_cli(capsys, "new", "my_study")
    assert code == 0
    assert out.endswith("Next: lossline-jax plan my_study.py\n")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    code, planned, _ = run_cli(capsys, "plan", "my_study.py", "--seeds", "3")
    assert code == 0
    assert "12 runs" in planned
    assert ll.Study.from_file("my_study.py").config.name == "my_study"
    text = (tmp_path / "my_study.py").read_text()
    assert "lossline-jax run my_study.py" in text
    assert "own_data" not in text
    (tmp_path / "my_study.py").write_text("mine")
    code, _, err = run_cli(capsys, "new", "my_study.py")
    assert (code, err) == (2, "lossline: my_study.py: exists already; choose another name, or delete it first\n")
    assert (tmp_path / "my_study.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [("a/b", "a/b: not a name for a study"), ("quickstart", "an experiment of lossline has this name")],
)
def test_a_name_that_cannot_be_is_refused(capsys, tmp_path, name, message):
    code, _, err = run_cli(capsys, "new", name)
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []
