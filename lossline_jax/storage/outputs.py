"""Files and folders that a user names with `--out`: what is written must be what the name says."""

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import may_write
from lossline_jax.storage.inputs import FileKind, file_kind
from lossline_jax.storage.object_store import reachable_path

TABLES_AND_PAGES = (".html", ".htm", ".jsonl", ".csv", ".tsv", ".parquet", ".safetensors", ".pdf", ".png", ".svg")
REPORT_FILES = "report.html and figures/"


def output_json(out: str | None) -> epath.Path | None:
    """The file for a result as JSON; None where none is asked for.

    Raises:
        LosslineError: its ending says something else, or it cannot be made.
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
    """The file for a table.

    Raises:
        LosslineError: its ending is not that of a table that can be written, or it cannot be made.
    """
    path = reachable_path(out)
    if file_kind(path) not in (FileKind("csv"), FileKind("parquet")):
        raise LosslineError(f"--out: {out}: cannot write a table of this ending; use .csv or .parquet")
    return _writable(path, out)


def output_folder(out: str, holds: str) -> epath.Path:
    """The folder for a result of several files.

    Args:
        holds: what will be in it, for the message.

    Raises:
        LosslineError: its ending is that of a file, it is one, or it cannot be made.
    """
    if not out.strip():
        raise LosslineError(f"--out: is empty; name a folder for {holds}")
    path = reachable_path(out)
    if path.suffix.lower() in (*TABLES_AND_PAGES, ".json") and not path.is_dir():
        raise LosslineError(
            f"--out: {out}: is named as a file, and a folder of {holds} is written; name it {path.stem}"
        )
    if path.exists() and not path.is_dir():
        raise LosslineError(f"--out: {out}: is a file, and a folder of {holds} is written; name another")
    return _writable(path, out)


def _writable(path: epath.Path, out: str) -> epath.Path:
    """The path, unless it is known before any work that it cannot be made.

    Raises:
        LosslineError: no right to write there, a disk that is read-only, or a file in the way.
    """
    try:
        allowed = may_write(path)
    except OSError as error:
        raise LosslineError(f"--out: {out}: cannot be made ({error.strerror or error}); name another") from error
    if not allowed:
        raise LosslineError(f"--out: {out}: may not be written; fix the permissions there or name another")
    return path
