"""A library call changes no setting of its process. Commands may follow one another in one process."""

import json
import os
import subprocess
import sys

import jax
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.pipeline import compilation_cache
from tests.support.paths import ROOT, SUPPORT, TESTS

TWICE = """
import sys
from lossline_jax.cli.main import main
from lossline_jax.pipeline.study_files import open_study
root = sys.argv[2]
main(["prepare", sys.argv[1], "--root", root, "--tokens", "1024", "--max-bytes", "60000"])
study, _ = open_study(root + "/tiny")
for run in study.runs[:2]:
    main(["train", root + "/tiny", "--only", run.run_id])
main(["evaluate", root + "/tiny"])
main(["status", root + "/tiny"])
"""


def python(*arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=kept | paths | environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow  # it compiles about forty programs, because it may not cache them
def test_no_library_call_changes_the_process(tmp_path):
    process = python(SUPPORT / "library_calls.py", tmp_path)
    assert process.returncode == 0, process.stderr
    changed = json.loads(process.stdout.splitlines()[-1])
    assert len(changed) > 15
    assert {name: settings for name, settings in changed.items() if settings} == {}


@pytest.mark.slow
def test_commands_may_follow_one_another_in_one_process(tmp_path):
    """A command starts the devices, or they are already started, as in a notebook."""
    process = python("-c", TWICE, SUPPORT / "tiny_study.py", tmp_path)
    assert process.returncode == 0, process.stderr
    assert "2 of 3 runs done" in process.stdout


@pytest.fixture
def no_cache(monkeypatch):
    """Turn off the cache of compiled programs."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in (*names, "jax_persistent_cache_min_entry_size_bytes")}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache._local_folder.cache_clear()
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_cache_is_a_folder_of_the_user(no_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(compilation_cache.VARIABLE, "~/programs")
    compilation_cache.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "programs")
    assert (tmp_path / "programs").stat().st_mode & 0o777 == 0o700


def test_an_empty_name_keeps_nothing_and_says_nothing(no_cache, monkeypatch, capsys):
    monkeypatch.setenv(compilation_cache.VARIABLE, "")
    compilation_cache.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_one_line(no_cache, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(compilation_cache.VARIABLE, str(tmp_path / "file" / "programs"))
    compilation_cache.enable_compilation_cache()
    compilation_cache.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "file/programs: Not a directory, so compiled programs are not kept; set LOSSLINE_CACHE" in line


@pytest.mark.parametrize("address", ["s3://bucket/programs", "http://host/programs", "file:///programs"])
def test_an_address_of_another_kind_is_refused_by_name(no_cache, monkeypatch, address):
    monkeypatch.setenv(compilation_cache.VARIABLE, address)
    with pytest.raises(LosslineError, match=f"LOSSLINE_CACHE: {address} is neither a folder nor a gs:// address"):
        compilation_cache.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_bucket_is_kept_as_the_address_that_it_is(no_cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(compilation_cache.VARIABLE, "gs://bucket/programs")
    monkeypatch.setattr(compilation_cache, "reachable_path", lambda path: path)
    compilation_cache.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/programs"
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_names_the_variable(no_cache, monkeypatch):
    def refuse(path):
        raise LosslineError(f"{path}: no such bucket; create it or fix the name")

    monkeypatch.setenv(compilation_cache.VARIABLE, "gs://nowhere/programs")
    monkeypatch.setattr(compilation_cache, "reachable_path", refuse)
    with pytest.raises(LosslineError, match="LOSSLINE_CACHE: gs://nowhere/programs: no such bucket"):
        compilation_cache.enable_compilation_cache()
