"""`~` means the same in every flag, glob and variable. The ending of an output must fit its content."""

import dataclasses
import json
import os

import pytest
from etils import epath

from lossline_jax.config import validate
from lossline_jax.config.data import FilesCorpus, SentencePieceFile
from lossline_jax.config.evaluation import ChoiceTask
from lossline_jax.data.corpora.read import read_documents
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.multiple_choice import read_items
from lossline_jax.evaluate.tasks.specs import load_spec
from lossline_jax.losses.table import read_losses
from lossline_jax.storage.object_store import expanded
from tests.cli.test_bad_input import write_experiment
from tests.cli.test_main import run_cli
from tests.support.report_study import study_config


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Make a home folder with a table and an experiment, and work in an empty folder."""
    folder, here = tmp_path / "home", tmp_path / "here"
    folder.mkdir(), here.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(here)
    (folder / "t.csv").write_text("run_id,x,y,N,D\n" + "".join(f"a,{x},{2 * x - 1},1e6,{x}e7\n" for x in (2, 3, 4)))
    published = "id,data,n_layers,d_model,params,tokens,steps,eval/c4_val/CrossEntropyLoss"
    (folder / "p.csv").write_text(f"{published}\n1,c4,2,64,1000,2000,10,3.5\n")
    write_experiment(folder)
    (folder / "good").mkdir()
    (folder / "good" / "a.txt").write_text("text")
    yield folder
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("plan ~/bad.py --root=~/s --manifest", "s/bad/manifest.jsonl"),
        ("import-losses ~/p.csv --out=~/l.csv", "l.csv"),
        ("table fit ~/none.csv --x x --y y --out=~/f.json", "home/none.csv: no such table"),
        ("table compare ~/none.csv --x x --y y", "home/none.csv: no such table"),
        ("import-losses ~/none.csv --out=~/out.csv", "home/none.csv: no such table"),
        ("status ~/none", "no study.json there"),
        ("resubmit ~/none", "home/none/manifest.jsonl: no such manifest"),
        ("run --manifest=~/none --index=0", "home/none/manifest.jsonl: no such manifest"),
        ("import-weights ~/none --out=~/m", "home/none/config.json: no such file"),
        ("export-weights ~/none --out=~/m", "no study.json there"),
        ("table report ~nobody-of-that-name/t.csv --x x --y y", "no user 'nobody-of-that-name' has a home here"),
    ],
)
def test_a_tilde_is_a_home_in_every_verb(capsys, home, command, expected):
    code, _, err = run_cli(capsys, *command.split())
    if expected.startswith(("s/", "l.")):
        assert code == 0, err
        assert (home / expected).exists()
    else:
        assert code == 2
        assert expected in err


def test_a_tilde_is_a_home_in_what_an_experiment_names(home):
    (home / "a.txt").write_text("text")
    item = json.dumps({"context": "Q:", "choices": [" a", " b"], "gold": 0})
    (home / "q.jsonl").write_text(f"{item}\n{item}\n")
    spec = 'source = "me"\nscoring = "continuation"\ncontext = "a"\ncontinuation = "b"'
    (home / "specs.toml").write_text(f"\ufeff[mine]\n{spec}\n", encoding="utf-8")
    assert [d.text for d in read_documents(FilesCorpus("c", ("~/*.txt",)))] == ["text"]
    assert len(read_items(ChoiceTask("t", "~/q.jsonl"))) == 2
    assert load_spec("~/specs.toml:mine").source == "me"
    assert len(read_losses("~/t.csv")) == 3
    with pytest.raises(LosslineError, match="tokenizer ~/none.model: no such file"):
        prepare_tokenizer(SentencePieceFile("~/none.model"), {}, epath.Path(home))


def test_addresses_and_other_places_of_a_tilde_stay(home):
    assert expanded("gs://b/~/x") == "gs://b/~/x"
    assert expanded("a/~/x") == "a/~/x"
    assert expanded("./~x") == "./~x"
    assert expanded("~") == str(home)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("table fit ~/t.csv --x x --y y --out f.csv", "--out: f.csv: the result is JSON; name it f.json"),
        ("table compare ~/t.csv --x x --y y --out F.CSV", "the result is JSON"),
        ("table backtest ~/t.csv --y y --params N --tokens D --out b.parquet", "the result is JSON"),
        ("table predict ~/t.csv --y y --params N --tokens D --at-flops 1e20 --out p.html", "the result is JSON"),
        ("table fit ~/t.csv --law chinchilla --y y --out l.tsv", "the result is JSON"),
        ("table fit ~/t.csv --x x --y y --out ~", "that is a folder; name a file, such as"),
        (
            "table report ~/t.csv --x x --y y --out my.html",
            "report.html and figures/ is written; name it my",
        ),
        ("import-weights ~/none --out m.safetensors", "is named as a file"),
        ("import-losses ~/t.csv --out t.json", "cannot write a table of this ending"),
    ],
)
def test_an_ending_that_is_not_what_is_written_is_refused_first(capsys, home, command, message):
    code, out, err = run_cli(capsys, *command.split())
    assert code == 2
    assert message in err
    assert out == ""


def test_names_that_no_folder_can_have_are_refused_by_field():
    study = study_config()
    with pytest.raises(LosslineError, match=r"x\.py: name 'nnnnn.* has 300 characters; 200 are the most for a folder"):
        validate.validate_study(dataclasses.replace(study, name="n" * 300), "x.py")
    corpora = (FilesCorpus("c" * 201, ("*.txt",)), *study.corpora)
    with pytest.raises(LosslineError, match=r"x\.py: corpus 'ccccc.* has 201 characters"):
        validate.validate_study(dataclasses.replace(study, corpora=corpora), "x.py")


@pytest.mark.parametrize("verb", [["resubmit"], ["run", "--index", "0", "--manifest"]])
def test_a_manifest_that_is_no_text_is_one_line(capsys, home, verb):
    damaged = {
        b'{"run_id": "a"}\n{"run_id": "\xff"}\n': "manifest.jsonl:2: invalid UTF-8 at byte 12 (ff)",
        b"[" * 99999: "manifest.jsonl:1: not valid JSON (too deeply nested)",
    }
    for content, message in damaged.items():
        (home / "manifest.jsonl").write_bytes(content)
        code, _, err = run_cli(capsys, *verb, str(home / "manifest.jsonl"))
        assert code == 2
        assert err.count("\n") == 1
        assert message in err


def test_a_file_name_that_is_not_utf8_is_one_line(capsys, home, monkeypatch):
    monkeypatch.chdir(home)
    (home / os.fsdecode(b"\xff1.txt")).write_text("text")
    code, _, err = run_cli(capsys, "plan", "bad.py", "--glob", os.fsdecode(b"\xff*.txt"), "--manifest")
    assert code == 2
    assert err.count("\n") == 1
    assert "which stands for a byte that is not UTF-8" in err
