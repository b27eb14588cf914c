"""Verbs that only read work on a read-only study. Verbs that write refuse it, and name another place."""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from etils import epath

from lossline_jax.cli.main import main
from lossline_jax.pipeline import report as report_verbs
from lossline_jax.pipeline.study_files import open_study
from lossline_jax.status import server
from lossline_jax.storage.files import may_write
from tests.support.paths import TESTS

OLD_STUDY = TESTS / "golden" / "old_study"
CAPABILITIES_VERSION, DAC_OVERRIDE, DAC_READ_SEARCH = 0x20080522, 1, 2


@contextlib.contextmanager
def mounted_read_only(study):
    """Mount the study so that the kernel refuses every write, also by root."""
    if os.geteuid() or subprocess.run(["mount", "--bind", study, study], capture_output=True).returncode:
        pytest.skip("a folder cannot be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", study], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", study], check=True)


@contextlib.contextmanager
def without_permission(study):
    """Remove the write permissions of all folders and files, and obey permissions even as root."""
    paths = [study, *study.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        with obeying_permissions():
            yield
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)


@contextlib.contextmanager
def obeying_permissions():
    """Take from this thread the right of root to ignore permissions."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        pytest.skip("capabilities cannot be read here")
    kept = data[0]
    data[0] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    if libc.capset(header, data):
        pytest.skip("capabilities cannot be given up here")
    try:
        yield
    finally:
        data[0] = kept
        assert libc.capset(header, data) == 0


@pytest.fixture(params=[mounted_read_only, without_permission])
def study(request, tmp_path):
    """Make a complete study with the locks of its makers, in a folder that may not be written."""
    folder = Path(shutil.copytree(OLD_STUDY, tmp_path / "old_study"))
    main(["plan", str(folder), "--manifest"])
    for run in (folder / "runs").iterdir():
        (run / "lock").touch()
    with request.param(folder):
        yield folder


def test_verbs_that_only_read_work(study, capsys):
    assert not may_write(epath.Path(study / "report"))
    for verb, expected in (("status", "3 of 3 runs done"), ("plan", "3 runs"), ("show", "bits/byte")):
        main([verb, str(study)])
        assert expected in capsys.readouterr().out
    main(["resubmit", str(study)])


def test_fits_are_shown_and_kept_where_they_may_be(study, tmp_path, capsys):
    main(["fit", str(study)])
    shown = capsys.readouterr()
    assert shown.out
    assert "fits.json: may not be written, so the fits are shown and not kept; --out FILE" in shown.err
    main(["fit", str(study), "--out", str(tmp_path / "fits.json")])
    assert f"are kept in {tmp_path}/fits.json alone" in capsys.readouterr().err
    assert (tmp_path / "fits.json").stat().st_size > 1000


def test_a_comparison_is_shown_and_written_elsewhere(study, tmp_path, capsys):
    main(["compare", str(study), "--out", str(tmp_path / "comparison.json")])
    shown = capsys.readouterr()
    assert "Does it move the line?" in shown.out
    assert "fits.json" not in shown.err
    assert (tmp_path / "comparison.json").stat().st_size > 1000


def test_a_page_goes_elsewhere_or_is_refused_with_the_flag(study, tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["report", str(study)])
    assert leaving.value.code == 2
    assert "report: may not be written; name another folder for the page with --out" in capsys.readouterr().err
    main(["report", str(study), "--out", str(tmp_path / "page")])
    assert (tmp_path / "page" / "report.html").exists()


def test_a_study_without_fits_gets_its_page_elsewhere(tmp_path):
    folder = Path(shutil.copytree(OLD_STUDY, tmp_path / "old_study"))
    shutil.rmtree(folder / "fits")
    main(["report", str(folder), "--out", str(tmp_path / "page")])
    assert (tmp_path / "page" / "report.html").exists()
    assert not (folder / "fits").exists()


def test_the_watched_page_is_built_aside(study, monkeypatch):
    pages = []

    def look_once(watch, port, info):
        assert watch.rebuild_if_grown()
        pages.append(watch.page())

    monkeypatch.setattr(server, "serve", look_once)
    report_verbs.watch(*open_study(str(study)), port=0)
    assert pages[0].count("<svg") > 1


@pytest.mark.parametrize(
    ("verb", "flags"), [("prepare", []), ("evaluate", ["--execution.data-parallel", "1"])], ids=["prepare", "evaluate"]
)
def test_verbs_that_write_are_refused_in_one_line(study, verb, flags, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([verb, str(study), *flags])
    assert leaving.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"cannot write \((Read-only file system|Permission denied)\); (that disk|fix)", last), last


@pytest.mark.parametrize("guard", [mounted_read_only, without_permission])
def test_a_page_of_a_table_in_a_folder_that_may_not_be_written_names_out(tmp_path, capsys, guard):
    table = tmp_path / "t.csv"
    table.write_text("run_id,data,a,b\n")
    (tmp_path / "closed").mkdir()
    place = tmp_path / "closed" / "page"
    with guard(tmp_path / "closed"), pytest.raises(SystemExit) as stopped:
        main(["table", "report", str(table), "--x", "a", "--y", "b", "--out", str(place)])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == f"lossline: --out: {place}: may not be written; fix the permissions there or name another\n"
    )
