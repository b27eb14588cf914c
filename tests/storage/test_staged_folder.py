"""A folder is complete or absent, also where two processes make it at once."""

from etils import epath

from lossline_jax.storage.files import write_json
from lossline_jax.storage.staged_folder import MANIFEST, staged_folder


def make(folder, word):
    with staged_folder(folder) as part:
        (part / "text").write_text(word)
        write_json(part / MANIFEST, {"complete": True})


def test_half_a_folder_is_replaced(tmp_path):
    folder = epath.Path(tmp_path) / "corpus"
    folder.mkdir()
    (folder / "text").write_text("half")
    make(folder, "whole")
    assert (folder / "text").read_text() == "whole"


def test_the_first_of_two_processes_keeps_its_folder(tmp_path, monkeypatch):
    """The other process makes the folder just after this one has looked whether it is there."""
    folder = epath.Path(tmp_path) / "corpus"
    exists, looks = type(folder).exists, []

    def look_early(path):
        if path == folder and not looks:
            looks.append(path)
            make(folder, "first")
            return False
        return exists(path)

    monkeypatch.setattr(type(folder), "exists", look_early)
    make(folder, "second")
    assert (folder / "text").read_text() == "first"
    assert [path.name for path in epath.Path(tmp_path).iterdir()] == ["corpus"]
