"""The notebooks of examples/ run unchanged, and give the outputs that they store."""

import re
import shutil

import nbclient
import nbformat
import pytest

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")
# The study of the notebook takes minutes: two seeds of each setting and more tokens than a test needs.
SHORTER = ("tokens=100_000", "tokens=10_000, base_seeds=2, seeds=1")

pytestmark = pytest.mark.slow


def executed(name: str, folder, monkeypatch, replace: tuple[str, str] = ("", "")):
    """Run a notebook in a copy of its folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    copy = folder / "examples"
    shutil.copytree(EXAMPLES, copy)
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    notebook = nbformat.read(copy / name, as_version=4)
    if replace[0]:
        assert replace[0] in notebook.cells[1].source
        notebook.cells[1].source = notebook.cells[1].source.replace(*replace)
    return nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(copy)}}).execute()


def outputs(cell) -> str:
    """Return what a cell prints on stdout, and its value as text."""
    printed = [output["text"] for output in cell.get("outputs", []) if output.get("name") == "stdout"]
    values = [output["data"]["text/plain"] for output in cell.get("outputs", []) if "data" in output]
    return "\n".join(printed + values)


def test_the_table_gives_the_same_numbers_again(tmp_path, monkeypatch):
    stored_notebook = nbformat.read(EXAMPLES / "table.ipynb", as_version=4)
    new_notebook = executed("table.ipynb", tmp_path, monkeypatch)
    for stored_cell, new_cell in zip(stored_notebook.cells, new_notebook.cells, strict=True):
        if stored_cell.cell_type != "code":
            continue
        expected, actual = outputs(stored_cell), outputs(new_cell)
        assert NUMBER.sub("#", re.sub(r"[ ─]+", " ", actual)) == NUMBER.sub("#", re.sub(r"[ ─]+", " ", expected))
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (actual, expected)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02)
    assert any("'data': 'moves'" in outputs(cell) for cell in new_notebook.cells)


def test_a_study_runs_from_its_first_cell_to_its_report(tmp_path, monkeypatch):
    cells = [cell for cell in executed("study.ipynb", tmp_path, monkeypatch, SHORTER).cells if cell.cell_type == "code"]
    assert "9 runs" in outputs(cells[0])
    assert float(outputs(cells[1])) > 1e9
    assert outputs(cells[4]) in ("'moves'", "'does not move'", "'cannot tell'")
    assert (tmp_path / "examples" / "studies" / "quickstart" / "report" / "report.html").is_file()
