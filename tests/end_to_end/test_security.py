"""Files from other people are data only. No name leads out of its folder, and no code, markup or pickle is run."""

import ast
import base64
import dataclasses
import gzip
import hashlib
import io
import json
import pickle
import re
import zipfile

import numpy as np
import pytest
from etils import epath

from lossline_jax.config import validate
from lossline_jax.config.data import FilesCorpus
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.serialise import to_json
from lossline_jax.data.token_store import OFFSETS_FILE, TokenStore
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.suite import load_suite
from lossline_jax.fit.study.fit_study import fit_study
from lossline_jax.losses.row_count import read_suite_sets
from lossline_jax.losses.table import read_losses
from lossline_jax.pipeline import study_files
from lossline_jax.pipeline.prepare import _identity, open_corpora
from lossline_jax.report.page import write_report
from lossline_jax.status.server import LiveReport, start_server
from lossline_jax.storage.files import path_inside, write_json
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.staged_folder import MANIFEST
from lossline_jax.train.checkpoint import Checkpointer
from lossline_jax.weights.huggingface.files import INDEX, open_tensors
from tests.support.paths import ROOT
from tests.support.report_study import CORPORA, X, Y, losses_table, step_rows, study_config

PACKAGE = ROOT / "lossline_jax"
HOSTILE = ["../secret", "a/../../secret", "/etc/passwd", "gs://elsewhere/x", "C:\\x", "..\\x", "a//b", ".", "", None, 3]


DOWNLOAD = re.compile(r'download="([^"]+)" href="data:application/gzip;base64,([^"]+)"')
SETS = (ValidationSet("wiki"), ValidationSet("code"))


class Bomb:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


# --- names


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leaves_its_folder_is_refused_and_its_file_is_named(name):
    with pytest.raises(LosslineError, match=r"^/f/manifest\.json: .*is not the name of a file in /f"):
        path_inside(epath.Path("/f"), name, epath.Path("/f/manifest.json"))


@pytest.mark.parametrize("name", ["tokens-00000.bin", "params/d/0.1", "a..b", "wiki-fr_3"])
def test_a_name_may_lie_deeper(name):
    assert path_inside(epath.Path("/f"), name, epath.Path("/f/m")) == epath.Path("/f") / name
    assert str(path_inside(epath.Path("gs://b/f"), name, epath.Path("gs://b/f/m"))) == f"gs://b/f/{name}"


@pytest.fixture
def secret(tmp_path):
    """Make the file that a hostile manifest names. It exists, so a refusal can only be about its name."""
    (tmp_path / "secret").write_bytes(b"\0\0\0\0")
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("name", ["../secret", "SECRET"])
def test_a_token_store_reads_its_own_shards_only(secret, name):
    name = name.replace("SECRET", str(secret.parent / "secret"))
    shard = {"name": name, "bytes": 4, "tokens": 2}
    write_json(epath.Path(secret) / MANIFEST, {"shards": [shard], "sidecars": {}, "dtype": "<u2", "complete": True})
    with pytest.raises(LosslineError, match=r"manifest\.json: .*secret' is not the name of a file"):
        TokenStore.open(epath.Path(secret))


def test_a_token_store_hashes_its_own_sidecars_only(secret):
    manifest = {"shards": [], "sidecars": {"../secret": {"sha256": ""}}}
    with pytest.raises(LosslineError, match=r"'\.\./secret' is not the name"):
        TokenStore(epath.Path(secret), manifest, None).verify()


def test_a_checkpoint_hashes_its_own_files_only(tmp_path):
    run = RunDir(epath.Path(tmp_path))
    with Checkpointer(run) as checkpointer:
        folder = checkpointer.folder(3)
        meta = {"step": 3, "next_global_example": 0, "data_fingerprint": "", "run_fingerprint": ""}
        (tmp_path / "secret").write_text("x")
        write_json(folder / "meta.json", {"meta": meta | {"seconds": {}, "format": 1}, "files": {"../../secret": {}}})
        with pytest.raises(LosslineError, match=r"meta\.json: '\.\./\.\./secret' is not the name"):
            checkpointer._verify(3, ("params", ".."))


def test_prepared_json_names_folders_of_the_study_only(tmp_path):
    study, folder = study_config(), StudyDir(epath.Path(tmp_path))
    marker = {"identity": _identity(study), "corpora": {"wiki": "../../secret"}, "suites": {}, "complete": True}
    write_json(folder.prepared_file, marker)
    with pytest.raises(LosslineError, match=r"prepared\.json: '\.\./\.\./secret' is not the name"):
        open_corpora(study, folder)
    with pytest.raises(LosslineError, match=r"'\.\./x' is not the name"):
        read_suite_sets(folder, "../x")


@pytest.mark.parametrize("name", ["../secret", "gs://b/x"])
def test_the_index_of_a_hugging_face_folder_names_files_of_it_only(secret, name):
    (secret / INDEX).write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(LosslineError, match="is not the name of a file"), open_tensors(str(secret), lambda name: name):
        pass


def test_a_corpus_of_a_study_cannot_lead_out_of_its_folder():
    corpora = (FilesCorpus("../../wiki", ("*.txt",)), *study_config().corpora)
    study = dataclasses.replace(study_config(), corpora=corpora)
    with pytest.raises(LosslineError, match=r"corpus '\.\./\.\./wiki' cannot be a folder"):
        validate.validate_study(study, "study.json")


def test_a_manifest_names_runs_of_its_own_study_only(tmp_path):
    study = dataclasses.replace(study_config(), suite=SuiteConfig(SETS, (ClozeTask("wiki"),)))
    write_json(StudyDir(epath.Path(tmp_path)).study_file, to_json(study))
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"run_id": "../../elsewhere"}) + "\n")
    with pytest.raises(LosslineError, match="is not in study"):
        study_files.read_manifest_run(str(tmp_path / "manifest.jsonl"), 0)


# --- code


def test_no_module_reads_pickles():
    """Every call of `np.load` forbids pickles. Other readers that unpickle are not used."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not names & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                assert call not in {"pd.read_pickle", "torch.load", "yaml.load", "yaml.unsafe_load"}, path
                if call == "np.load":
                    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert arguments.get("allow_pickle") == "False", f"{path}:{node.lineno}"


def test_a_pickle_in_a_token_store_is_not_loaded(tmp_path):
    bomb = np.empty(1, object)
    bomb[0] = Bomb(tmp_path / "exploded")
    np.save(tmp_path / OFFSETS_FILE, bomb, allow_pickle=True)
    store = TokenStore(epath.Path(tmp_path), {}, None)
    with pytest.raises(LosslineError, match="not an array of numbers"):
        _ = store.document_offsets
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_in_a_stored_suite_is_not_loaded(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("requests.tokens_Q.npy", pickle.dumps(Bomb(tmp_path / "exploded")))
    (tmp_path / "rows.npz").write_bytes(buffer.getvalue())
    manifest = {"rows_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(), "row_lengths": []}
    write_json(epath.Path(tmp_path) / "manifest.json", manifest)
    with pytest.raises(LosslineError, match="this stored suite is incomplete"):
        load_suite(epath.Path(tmp_path))
    assert not (tmp_path / "exploded").exists()


def test_a_table_that_is_a_pickle_is_not_loaded(tmp_path):
    for ending in ("csv", "parquet", "jsonl", "pkl"):
        path = tmp_path / f"losses.{ending}"
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
        with pytest.raises(LosslineError):
            read_losses(str(path))
    assert not (tmp_path / "exploded").exists()


# --- markup


@pytest.mark.slow
def test_what_a_study_says_is_text_in_the_page_and_not_markup(tmp_path):
    """The hostile texts are names, questions, labels, run ids, and the descriptions of corpora."""
    hostile = (
        "=cmd()<script>alert(1)</script><img src=x onerror=alert(2)>\"'&</title>\x1b[31m\u202e\n$x^2$ 日本😀"
        + "w" * 300
    )
    study = study_config(label=hostile, question=hostile)
    frame = losses_table(study)
    frame["run_id"] += hostile
    steps = {f"{run_id}{hostile}": rows for run_id, rows in step_rows(study).items()}
    fits = fit_study(frame, X, Y, study.base.factors)
    corpora = {hostile: CORPORA["wiki"] | {"licence": hostile, "sha256": hostile}}
    study = dataclasses.replace(study, name=hostile)
    folder = epath.Path(tmp_path)
    page = write_report(frame, fits, folder, hostile, study=study, steps=steps, corpora=corpora).read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert not re.search(r"<img[^>]*onerror", page)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", page)
    assert "\\x1b[31m\\u202e\\n$x^2$ 日本😀" in page
    for svg in (tmp_path / "figures").glob("*.svg"):
        assert "\x1b" not in svg.read_text("utf-8")
    given = {name: gzip.decompress(base64.b64decode(data)).decode() for name, data in DOWNLOAD.findall(page)}
    assert len(given) > 5
    assert "data" in given["losses.csv.gz"]
    for name, content in given.items():
        if name.endswith(".csv.gz"):
            assert not re.search(r'(^|,)"?=cmd', content, re.MULTILINE), name
    assert "'=cmd()" in given["losses.csv.gz"]


def test_the_report_of_a_running_study_is_served_to_this_machine_alone():
    server = start_server(LiveReport(study_config(), StudyDir(epath.Path("nowhere")), lambda: ""), 0)
    try:
        assert server.server_address[0] == "127.0.0.1"
    finally:
        server.shutdown()
        server.server_close()
