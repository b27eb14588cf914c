"""Changed or lost files of a study are refused by name, or made again from sound files."""

import shutil

import pytest
from etils import epath

from lossline_jax.cli.main import main
from lossline_jax.config.data import FilesCorpus
from lossline_jax.config.serialise import fingerprint, from_json
from lossline_jax.config.study import RunConfig
from lossline_jax.data.corpora.prepare import PreparedCorpus, prepare_corpus
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.preflight import claim
from lossline_jax.pipeline.study_files import open_study, read_manifest
from lossline_jax.status.leftovers import other_runs_note
from lossline_jax.status.runs import last_row, log_note, run_status
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import RunDir
from lossline_jax.summary.results import show_text
from tests.support.paths import TESTS

OLD_STUDY = TESTS / "golden" / "old_study"


@pytest.fixture(scope="module")
def study():
    return open_study(str(OLD_STUDY))[0]


@pytest.fixture
def corpus(tmp_path):
    for k in range(60):
        (tmp_path / f"{k:02}.txt").write_text(f"Document {k} says nothing new.")
    return prepare_corpus(FilesCorpus("mine", (f"{tmp_path}/*.txt",)), epath.Path(tmp_path) / "corpora", 0.3)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_text_that_is_not_that_of_the_manifest_is_not_read(corpus, split):
    path = corpus.folder / f"{split}.jsonl"
    whole = path.read_text()
    half = whole[: whole.index("\n", len(whole) // 2) + 1]
    for spoilt in (whole.replace("nothing", "nothinf", 1), half, whole[:-20], ""):
        path.write_text(spoilt)
        with pytest.raises(LosslineError, match=rf"{split}\.jsonl: damaged"):
            next(getattr(corpus, f"{split}_texts")())
    path.unlink()
    with pytest.raises(LosslineError, match=rf"{split}\.jsonl: missing"):
        next(getattr(corpus, f"{split}_texts")())


def test_text_of_an_earlier_version_is_counted(corpus):
    manifest = {name: value for name, value in corpus.manifest.items() if name not in ("train", "validation")}
    sizes = {split: dict(corpus.manifest[split]) for split in ("train", "validation")}
    for size in sizes.values():
        del size["sha256"]
    write_json(corpus.folder / "manifest.json", manifest | sizes)
    old, path = PreparedCorpus.open(corpus.folder), corpus.folder / "train.jsonl"
    whole = path.read_text()
    assert list(old.train_texts()) == list(corpus.train_texts())
    path.write_text(whole[: whole.index("\n", len(whole) // 2) + 1])
    with pytest.raises(LosslineError, match=r"train\.jsonl: damaged \(\d+ documents of"):
        next(old.train_texts())
    path.write_text(whole[:-20])
    with pytest.raises(LosslineError, match=r"train\.jsonl: damaged \(line \d+ is not a document"):
        next(old.train_texts())


def test_a_lost_claim_is_made_again_from_the_checkpoints_or_refused(study, tmp_path):
    run = study.runs[0]
    shutil.copytree(OLD_STUDY / "runs" / run.run_id, tmp_path / "run")
    directory = RunDir(epath.Path(tmp_path) / "run")
    written = read_json(directory.claim_file)
    directory.claim_file.unlink()
    with pytest.raises(LosslineError, match=r"claim\.json: missing, and the checkpoints beside it are of another"):
        claim(directory, run, "other data")
    with pytest.raises(LosslineError, match="of another configuration"):
        claim(directory, study.runs[1], written["data_fingerprint"])
    claim(directory, run, written["data_fingerprint"])
    restored = read_json(directory.claim_file)
    assert restored["data_fingerprint"] == written["data_fingerprint"]
    assert from_json(RunConfig, restored["run"]) == from_json(RunConfig, written["run"])  # it has later fields too


def test_runs_without_rows_are_counted_where_results_are_shown(study, tmp_path):
    shutil.copytree(OLD_STUDY, tmp_path / "study")
    folder = open_study(str(tmp_path / "study"))[1]
    assert "empty:" not in show_text(study, folder, None)
    folder.loss_rows(study.runs[0].run_id).unlink()
    assert "\nempty: no row yet, of 1 of 3 runs and models\n" in show_text(study, folder, None)


def test_fits_that_are_not_there_are_named_where_results_are_shown(study, tmp_path):
    shutil.copytree(OLD_STUDY, tmp_path / "study")
    folder = open_study(str(tmp_path / "study"))[1]
    assert "no fits yet" not in show_text(study, folder, None)
    folder.fits_file.unlink()
    assert "\nno fits yet: `lossline-jax fit` makes them\n" in show_text(study, folder, None)


@pytest.mark.parametrize("place", ["runs/a", "imported/a", "losses/rows/a.jsonl"])
def test_files_that_belong_to_no_run_or_model_are_named(study, tmp_path, place):
    shutil.copytree(OLD_STUDY, tmp_path / "study")
    folder = open_study(str(tmp_path / "study"))[1]
    assert other_runs_note(study, folder) == ""
    (tmp_path / "study" / place).mkdir(parents=True)
    where = tmp_path / "study"
    rest = f"not part of this study: lossline-jax runs {where}"
    assert other_runs_note(study, folder) == f"1 other run in {where} is {rest}"
    (tmp_path / "study" / "runs" / "z").mkdir()
    assert other_runs_note(study, folder) == f"2 other runs in {where} are {rest}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"run_id": "\xff"}\n', "invalid UTF-8"),
        (b"", "has no run"),
        (b'{"index": 1, "run_id": "a"}\n', "this is not run 0 of a manifest"),
        (b'{"run_id": 3}\n', "this is not run 0 of a manifest"),
        (b"[1]\n", "is not a JSON object"),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path, content, message):
    (tmp_path / "manifest.jsonl").write_bytes(content)
    with pytest.raises(LosslineError, match=rf"manifest\.jsonl.*{message}") as caught:
        read_manifest(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_wrong_type_in_study_json_is_refused_by_field(study, tmp_path):
    content = read_json(epath.Path(OLD_STUDY) / "study.json")
    content["suite"]["type"] = "RunConfig"
    write_json(epath.Path(tmp_path) / "study.json", content)
    with pytest.raises(LosslineError, match=r"study\.json\.suite: type 'RunConfig' is not 'SuiteConfig'"):
        open_study(str(tmp_path))
    assert fingerprint(study) == fingerprint(open_study(str(OLD_STUDY))[0])


def test_a_log_that_lost_its_end_is_named(study, tmp_path):
    shutil.copytree(OLD_STUDY, tmp_path / "study")
    folder, run = open_study(str(tmp_path / "study"))[1], study.runs[0]
    directory = folder.run(run.run_id)
    assert log_note(run, directory, last_row(directory)) == ""
    directory.steps_file.write_text(directory.steps_file.read_text().split("\n")[0] + "\n")
    assert "has no rows after step 1" in run_status(run, directory, last_row(directory)).note
    directory.done_file.unlink()
    assert log_note(run, directory, last_row(directory)) == ""  # the log of an unfinished run may still grow


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '"text"', '{"checksum": 3}'])
@pytest.mark.parametrize(
    ("place", "verb", "cure"),
    [
        ("study.json", ["plan"], "write it again from the experiment file"),
        ("fits/fits.json", ["show"], "delete it to have it made again"),
        ("fits/fits.json", ["report"], "delete it to have it made again"),
        ("prepared/prepared.json", ["status"], "delete it to have it made again"),
        ("runs/*/done.json", ["status"], "delete it to have it made again"),
    ],
)
def test_a_json_file_of_something_else_is_named_with_its_cure(tmp_path, capsys, place, verb, cure, content):
    shutil.copytree(OLD_STUDY, tmp_path / "study")
    file = next((tmp_path / "study").glob(place))
    file.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main([*verb, str(tmp_path / "study")])
    err = capsys.readouterr().err
    assert stopped.value.code == 2
    assert err.startswith(f"lossline: {file}")
    assert cure in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '{"run": {}}', '{"run": 3, "data_fingerprint": "x"}'])
def test_a_claim_of_something_else_is_no_changed_configuration(study, tmp_path, content):
    directory = RunDir(epath.Path(tmp_path))
    directory.claim_file.write_text(content)
    with pytest.raises(LosslineError, match=r"claim\.json: .*restore it from a copy, or delete it"):
        claim(directory, study.runs[0], "x")
