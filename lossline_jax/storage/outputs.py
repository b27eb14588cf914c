"""Checks of the files and folders that a user names with `--out`. The name must fit the content that is written."""

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import may_write
from lossline_jax.storage.inputs import FileKind, file_kind
from lossline_jax.storage.object_store import reachable_path

FIGURES = (".png", ".pdf", ".svg")
TABLES_AND_PAGES = (".html", ".htm", ".jsonl", ".csv", ".tsv", ".parquet", ".safetensors", *FIGURES)
REPORT_FILES = "report.html and figures/"


def output_json(out: str | None) -> epath.Path | None:
    """Return the file for a result as JSON. None: the user asks for no file.

    Args:
        out: value of `--out`. None: the flag is not given.

    Raises:
        LosslineError: the ending of the name is that of another format, or the file cannot be written.
    """
    if out is None:
        return None
    path = reachable_path(out)
    if path.suffix.lower() in TABLES_AND_PAGES:
        raise LosslineError(f"--out: {out}: the result is JSON; name it {path.stem}.json")
    if path.is_dir():
        raise LosslineError(f"--out: {out}: that is a folder; name a file, such as {path / 'result.json'}")
    return _writable(path, out)


def output_table(out: str) -> epath.Path:
    """Return the file for a table.

    Args:
        out: value of `--out`.

    Raises:
        LosslineError: the ending is not .csv or .parquet, or the file cannot be written.
    """
    path = reachable_path(out)
    if file_kind(path) not in (FileKind("csv"), FileKind("parquet")):
        raise LosslineError(f"--out: {out}: cannot write a table of this ending; use .csv or .parquet")
    return _writable(path, out)


def output_figure(name: str | None) -> epath.Path | None:
    """Return the file for a figure. None: the user asks for no figure.

    Args:
        name: value of `--figure`. None: the flag is not given.

    Raises:
        LosslineError: the ending is not that of a figure, the folder does not exist, or the file cannot be written.
    """
    if name is None:
        return None
    path = reachable_path(name)
    if path.suffix.lower() not in FIGURES:
        raise LosslineError(f"--figure: {name}: name a file that ends in {', '.join(FIGURES)}")
    if not path.parent.exists():
        raise LosslineError(f"--figure: {name}: the folder {path.parent} does not exist")
    return _writable(path, name, "--figure")


def output_folder(out: str, holds: str) -> epath.Path:
    """Return the folder for a result of several files.

    Args:
        out: value of `--out`.
        holds: description of the content, for the message.

    Raises:
        LosslineError: the name has the ending of a file, is a file, or the folder cannot be written.
    """
    if not out.strip():
        raise LosslineError(f"--out: is empty; name a folder for {holds}")
    path = reachable_path(out)
    if path.suffix.lower() in (*TABLES_AND_PAGES, ".json") and not path.is_dir():
        raise LosslineError(
            f"--out: {out}: is named as a file, but a folder of {holds} is written; name it {path.stem}"
        )
    if path.exists() and not path.is_dir():
        raise LosslineError(f"--out: {out}: is a file, but a folder of {holds} is written; name another")
    return _writable(path, out)


def _writable(path: epath.Path, out: str, flag: str = "--out") -> epath.Path:
    """Return the path after a check, before any work starts, that it can be written.

    Raises:
        LosslineError: permissions do not allow it, the disk is read-only, or a file takes the place of a folder.
    """
    try:
        allowed = may_write(path)
    except OSError as error:
        raise LosslineError(f"{flag}: {out}: cannot be made ({error.strerror or error}); name another") from error
    if not allowed:
        raise LosslineError(f"{flag}: {out}: may not be written; fix the permissions there or name another")
    return path
