"""A user's mistake at the command line gives one clear line, a non-zero exit code and no partial file."""

import re
from pathlib import Path

import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.study import Study
from tests.cli.test_main import run_cli

EXPERIMENT = """
from lossline_jax.config.data import *
from lossline_jax.config.evaluation import *
from lossline_jax.config.model import *
from lossline_jax.config.study import *
from lossline_jax.config.training import *

def study(glob: str = "{folder}/good/*.txt", vocab_size: int = 300, eval_context: int = 32, heads: int = 2,
          decay: float = 0, kind: str = "files") -> StudyConfig:
    corpus = FilesCorpus("mine", (glob,)) if kind == "files" else BuiltinCorpus("wikki")
    base = RunConfig(
        model=LlamaConfig(d_model=16, num_layers=1, num_heads=heads, d_ff=32),
        data=DataConfig((("mine" if kind == "files" else "wikki", 1),)),
        tokenizer=TrainedTokenizer("mine" if kind == "files" else "wikki", vocab_size),
        context_length=32, batch_size=8, tokens=8 * 32 * 20, optim=OptimConfig(weight_decay=decay),
    )
    {extra}
    suite = SuiteConfig(
        validation=(ValidationSet(corpus.name),), cloze=(ClozeTask(corpus.name, 8, 60, 30),),
        context_length=eval_context, overlap=8,
    )
    return StudyConfig("bad", (corpus,), runs, suite, x=corpus.name, y=suite.cloze[0].name,
                       validation_fraction=0.3)
"""

X = [4 - 0.3 * (k % 6) + 0.01 * (k // 6) for k in range(24)]


def write_experiment(folder, extra="runs = (base,)"):
    path = folder / "bad.py"
    path.write_text(EXPERIMENT.format(folder=folder, extra=extra))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Make a folder with good documents and some bad ones."""
    (tmp_path / "good").mkdir()
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    for k in range(40):
        text = " ".join(words[(k * j + j // 7) % 12] for j in range(1, 120))
        (tmp_path / "good" / f"{k}.txt").write_text(f"{k} {text}")
    for name, content in (("nul", b"a\0b"), ("encoding", b"a\xff"), ("empty", b"  ")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_bytes(content)
    (tmp_path / "file").write_text("in the way")
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--glob", "{folder}/nul/*.txt"], r"a.txt: the document has a NUL \(U\+0000\) at character 1"),
        (["--glob", "{folder}/encoding/*.txt"], r"a.txt:1: invalid UTF-8 at byte 1 \(ff\)"),
        (["--glob", "{folder}/empty/*.txt"], "corpus 'mine' is empty"),
        (["--glob", "{folder}/nothing/*.txt"], "matches no file"),
        (["--vocab-size", "5000"], "vocab_size 5000 is more than its text supports; the largest possible is"),
        (["--eval-context", "4000"], "validation set 'mine': its longest document has .* tokens, less than"),
        (["--root", "{folder}/file"], "cannot create this folder .*--root"),
        (["--heads", "3"], "model.num_heads: 3 does not divide model.d_model 16"),
        (["--kind", "builtin"], "corpora.*'wikki' is not one of"),
    ],
)
def test_prepare_names_what_is_wrong(capsys, folder, flags, message):
    root = [] if "--root" in flags else ["--root", str(folder / "root")]
    argv = ["prepare", write_experiment(folder), *root, *flags]
    code, out, err = run_cli(capsys, *(word.format(folder=folder) for word in argv))
    assert code == 2
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("lossline: ")
    assert "Traceback" not in err
    assert re.search(message, last), last
    assert not list((folder / "root").rglob("*.part"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("runs = (base, base)", "run '.*' is given 2 times"),
        ("runs = (dataclasses.replace(base),)", r"bad.py:\d+: NameError"),
        ("runs = (LlamaConfig(d_modle=3),)", r"bad.py:\d+: TypeError: .*d_modle"),
        (
            "import dataclasses as d; runs = (base, d.replace(base, model=d.replace(base.model, norm_eps=1e-3)))",
            "a different model",
        ),
        ("import dataclasses; runs = (dataclasses.replace(base, tokens=1e4),)", "tokens: expected int, got 10000.0"),
        ("runs = ()", "the study has no runs"),
    ],
)
def test_plan_names_what_is_wrong_in_the_experiment(capsys, folder, extra, message):
    code, _, err = run_cli(capsys, "plan", write_experiment(folder, extra))
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(message, err), err


def test_a_plan_refuses_files_that_are_not_there(capsys, folder):
    experiment, flags = write_experiment(folder), ["--glob", f"{folder}/nothing/*.txt"]
    code, out, err = run_cli(capsys, "plan", experiment, *flags, "--manifest", "--root", str(folder / "root"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"lossline: corpus 'mine': '{folder}/nothing/*.txt' matches no file (from ")
    assert not (folder / "root").exists()
    assert run_cli(capsys, "plan", experiment)[0] == 0
    (folder / "good").rename(folder / "elsewhere")
    with pytest.raises(LosslineError, match="matches no file"):
        Study.from_file(experiment).plan()


def test_an_output_that_cannot_be_made_names_out(capsys, tmp_path):
    """Permissions allow it, and only the attempt shows that a file is in the way."""
    table = tmp_path / "t.csv"
    table.write_text("run_id,data,x,y\n" + "".join(f"{k // 6},{k // 12},{x},{x / 2}\n" for k, x in enumerate(X)))
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "figures").write_text("in the way")
    axes = ["--x", "x", "--y", "y", "--out"]
    code, _, err = run_cli(capsys, "table", "report", str(table), *axes, f"{tmp_path}/page", "--factors", "data")
    assert code == 2
    assert err.splitlines()[-1].endswith(
        "/figures: cannot create this folder (File exists); choose another one (--out)"
    )
    code, _, err = run_cli(capsys, "table", "fit", str(table), *axes, f"{tmp_path}/page/figures/more/fits.json")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("lossline: --out: ")


def test_a_run_has_the_same_id_from_the_file_and_from_its_folder(capsys, folder):
    """`weight_decay=0` is an int in the experiment and a float in study.json."""
    experiment = write_experiment(folder)
    run_cli(capsys, "plan", experiment, "--manifest", "--root", str(folder))
    from_file = [run.run_id for run in Study.from_file(experiment).config.runs]
    assert [run.run_id for run in Study.open(str(Path(folder) / "bad")).config.runs] == from_file
