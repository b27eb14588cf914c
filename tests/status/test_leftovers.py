"""`prune` removes what a study does not need, never what a process holds, and the fits stay as they were."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.losses.table import read_loss_rows
from lossline_jax.pipeline.study_files import open_study
from lossline_jax.status.leftovers import other_runs, read_leftovers, remove
from lossline_jax.storage.moments import steps_with_moments
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.storage.run_records import checkpoint_steps
from tests.cli.test_main import run_cli
from tests.support import tiny_study
from tests.support.paths import TESTS


@pytest.fixture
def opened(tmp_path):
    """Return a study with another run, a run without folder, and a file of a killed process."""
    study, folder = open_study(str(shutil.copytree(TESTS / "golden" / "old_study", tmp_path / "study")))
    first, second = (folder.run(run.run_id) for run in study.runs[:2])
    shutil.copytree(first.root, folder.run("other").root)
    shutil.copy(folder.loss_rows(study.runs[0].run_id), folder.loss_rows("other"))
    second.root.rmtree()
    part = folder.losses / ".losses.csv.0123abcd.part"
    part.write_text("half")
    os.utime(part, (time.time() - 3600,) * 2)
    return study, folder


def files(folder) -> dict[str, bytes]:
    found = (path for path in Path(folder.root).rglob("*") if path.is_file())
    names = {path.relative_to(folder.root).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.endswith("lock")}


def test_leftovers_are_listed_and_nothing_is_removed_without_yes(opened, capsys):
    _, folder = opened
    before = files(folder)
    code, out, _ = run_cli(capsys, "runs", str(folder.root))
    assert code == 0
    assert "1 run not part of this study" in out
    assert "1 run without a folder in the fits" in out
    code, out, _ = run_cli(capsys, "prune", str(folder.root), "--other-runs", "--removed-runs")
    assert code == 0
    assert "other: " in out
    assert "nothing was removed" in out
    assert files(folder) == before


def test_prune_removes_what_was_chosen_alone(opened, capsys):
    study, folder = opened
    before, lost = files(folder), study.runs[1].run_id
    assert run_cli(capsys, "prune", str(folder.root), "--yes", "--execution.keep-moments", "1")[0] == 0
    assert other_runs(study, folder) == ["other"]
    kept = files(folder)
    assert not [name for name in kept if name.endswith(".part")]
    for run in (study.runs[0], study.runs[2]):
        directory = folder.run(run.run_id)
        assert steps_with_moments(directory) == checkpoint_steps(directory)[-1:]
    gone = {name for name in before.keys() - kept.keys() if not name.endswith(".part")}
    assert gone
    assert all("/opt/" in name for name in gone)
    assert run_cli(capsys, "prune", str(folder.root), "--yes", "--other-runs")[0] == 0
    assert other_runs(study, folder) == []
    assert read_loss_rows(folder.loss_rows(lost))
    assert run_cli(capsys, "prune", str(folder.root), "--yes", "--removed-runs")[0] == 0
    assert not folder.loss_rows(lost).exists()
    assert read_loss_rows(folder.loss_rows(study.runs[0].run_id))


def test_a_run_that_a_process_holds_is_left_alone(opened):
    study, folder = opened
    first = folder.run(study.runs[0].run_id)
    before = steps_with_moments(first)
    with hold_run_lock(first.lock_file), hold_run_lock(folder.run("other").lock_file):
        found = read_leftovers(study, folder, keep_moments=1)
        assert [run.is_held for run in found.others] == [True]
        held = remove(study, folder, found.others, keep_moments=1)
        assert len(held) == 2
    assert folder.run("other").root.exists()
    assert folder.loss_rows("other").exists()
    assert steps_with_moments(first) == before
    with hold_run_lock(folder.scoring_lock("other")):
        assert remove(study, folder, found.others, keep_moments=1)
    assert folder.run("other").root.exists()
    assert remove(study, folder, found.others, keep_moments=1) == []
    assert not folder.run("other").root.exists()


def test_status_as_json_and_of_a_folder_of_studies(opened, capsys):
    study, folder = opened
    with hold_run_lock(folder.run(study.runs[0].run_id).lock_file):
        out = json.loads(run_cli(capsys, "status", str(folder.root), "--json")[1])
    assert [run["run_id"] for run in out["runs"]] == [run.run_id for run in study.runs]
    assert [run["state"] for run in out["runs"]] == ["running", "pending", "done"]
    assert out["runs"][0]["heartbeat_seconds"] < 60
    assert out["runs"][2]["heartbeat_seconds"] is None
    assert out["runs"][2]["step"] == study.runs[2].num_steps
    code, text, _ = run_cli(capsys, "status", str(folder.root.parent))
    assert code == 0
    assert text.splitlines()[2].split()[:4] == [study.name, "3", "2", "1"]
    studies = json.loads(run_cli(capsys, "status", str(folder.root.parent), "--json")[1])
    assert [entry["study"] for entry in studies] == [study.name]


def test_a_run_is_named_by_number_prefix_or_hash(opened, capsys):
    study, folder = opened
    last = study.runs[2].run_id
    texts = {
        run_cli(capsys, "show", str(folder.root), "--run", name)[1].splitlines()[0]
        for name in ("2", last, last[:-4], last.rsplit("-", 1)[1][:6])
    }
    assert texts == {last}
    for name in ("", "17", "nobody"):
        assert "is not in study" in run_cli(capsys, "show", str(folder.root), "--run", name)[2]
    with pytest.raises(LosslineError, match="run 'llama': 2 runs have this name"):
        tiny_study.study().find_run("llama")


def test_another_name_gives_another_folder(tmp_path, capsys):
    tiny = str(TESTS / "support" / "tiny_study.py")
    for name in ("tiny", "other"):
        flags = [] if name == "tiny" else ["--name", name]
        assert run_cli(capsys, "plan", tiny, "--manifest", "--root", str(tmp_path), *flags)[0] == 0
        assert open_study(str(tmp_path / name))[0].name == name
    ids = [[run.run_id for run in open_study(str(tmp_path / name))[0].runs] for name in ("tiny", "other")]
    assert ids[0] == ids[1]
