"""Files and folders that a user names with `--out`: what is written must be what the name says."""

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.inputs import FileKind, file_kind
from lossline_jax.storage import connect

TABLES_AND_PAGES = (".html", ".htm", ".jsonl", ".csv", ".tsv", ".parquet", ".safetensors", ".pdf", ".png", ".svg")
REPORT_FILES = "report.html and figures/"


def output_json(out: str | None) -> epath.Path | None:
    """The file for a result as JSON; None where none is asked for.

    Raises:
        LosslineError: its ending says something else.
    """
    if out is None:
        return None
    path = connect(out)
    if path.suffix.lower() in TABLES_AND_PAGES:
        raise LosslineError(f"--out: {out}: the result is JSON; name it {path.stem}.json")
    if path.is_dir():
        raise LosslineError(f"--out: {out}: that is a folder; name a file, such as {path / 'result.json'}")
    return path


def output_table(out: str) -> epath.Path:
    """The file for a table.

    Raises:
        LosslineError: its ending is not that of a table that can be written.
    """
    path = connect(out)
    if file_kind(path) not in (FileKind("csv"), FileKind("parquet")):
        raise LosslineError(f"--out: {out}: cannot write a table of this ending; use .csv or .parquet")
    return path


def output_folder(out: str, holds: str) -> epath.Path:
    """The folder for a result of several files.

    Args:
        holds: what will be in it, for the message.

    Raises:
        LosslineError: its ending is that of a file, or it is one.
    """
    path = connect(out)
    if path.suffix.lower() in (*TABLES_AND_PAGES, ".json") and not path.is_dir():
        raise LosslineError(
            f"--out: {out}: is named as a file, and a folder of {holds} is written; name it {path.stem}"
        )
    return path
