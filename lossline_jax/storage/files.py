"""Atomic writes, JSON files with checksums, and names that may not leave their folder. The layout of a study is below.

All paths are `etils.epath` paths, so a study can be on `gs://` as well as on a local disk. The paths themselves are
built in paths.py.

    <study>/study.json                the resolved study
    <study>/manifest.jsonl            one run per line, for the array of jobs of a cluster's scheduler
    <study>/prepared/prepared.json    what was prepared, and for which study
    <study>/prepared/corpora/<id>/    train.jsonl, validation.jsonl, manifest.json
    <study>/prepared/tokenizers/<id>/ tokenizer.model, manifest.json
    <study>/prepared/stores/<id>/     token shards, manifest.json
    <study>/prepared/suites/<id>/     tokenised evaluation rows, manifest.json
    <study>/runs/<run_id>/            claim.json, steps.jsonl, tensorboard/, profile/, checkpoints/,
                                      done.json or failed.json, lock, and alive.json while a process works on the run
    <study>/imported/<run_id>/        a model that was trained elsewhere and is scored too: model.json,
                                      tokenizer.json, suite.json, and either checkpoints/ or elsewhere.json, which
                                      names the folder of the checkpoints
    <study>/losses/                   rows/<run_id>.jsonl with its lock, unscored/<run_id>.json (which checkpoints
                                      could not be scored, and why), losses.csv, losses.parquet
    <study>/fits/                     fits.json
    <study>/report/                   report.html, figures/*.png, *.pdf, *.svg
"""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from etils import epath

from lossline_jax.config.serialise import from_json
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import utf8
from lossline_jax.storage.checksums import NotAsWritten, seal, unseal
from lossline_jax.storage.disk import cannot_write
from lossline_jax.storage.leftovers import hold

T = TypeVar("T")
MEND = "restore it from a copy, or delete it to have it made again"


def is_remote(path: epath.Path) -> bool:
    """Return True if the path is in an object store (`gs://...`) and not on a disk of this machine."""
    return "://" in str(path)


def absolute(path: epath.Path) -> epath.Path:
    """Return the path independent of the working folder, for libraries that require such paths."""
    return path if is_remote(path) else path.resolve()


def file_sha256(path: epath.Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        # epath types its files as `IO`, which does not promise `readinto`.
        return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def path_inside(folder: epath.Path, name: Any, source: epath.Path) -> epath.Path:
    """Return `folder / name` for a name that was read from a file. The path may be deeper, but not outside `folder`.

    The folder may come from another person, and the files that it names are read, hashed or deleted.

    Args:
        folder: folder that must contain the path.
        name: name as it was read; any JSON value.
        source: file that the name was read from, for the error message.

    Raises:
        LosslineError: the name leads out of the folder, or is not a name.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    if any(part in ("", ".", "..") for part in parts) or any(mark in name for mark in ("\\", ":", "\0")):
        raise LosslineError(
            f"{source}: {name!r} is not the name of a file in {folder}; fetch the folder again or delete it"
        )
    return folder / name


def may_write(path: epath.Path) -> bool:
    """Return True if permissions let this user make or replace `path`.

    For an object store the answer is always True, since only a write can tell.
    """
    if is_remote(path):
        return True
    folder = path if path.is_dir() else path.parent
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def make_folder(path: epath.Path, flag: str = "--root, with an experiment file") -> epath.Path:
    """Create the folder `path` and its parents, and return `path`.

    In an object store nothing is created, since it has no folders, only names with slashes.

    Args:
        path: folder to create.
        flag: the flag that chooses the folder, for the message.

    Raises:
        LosslineError: the folder cannot be created.
    """
    if is_remote(path):
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LosslineError(
            f"{path}: cannot create this folder ({error.strerror or error}); choose another one ({flag})"
        ) from error
    return path


def write_atomic(path: epath.Path, content: str | bytes) -> None:
    """Write a file completely or not at all. A reader never sees a part of it, and a crash leaves the old file.

    An object store gets one put, which is atomic there. On a disk a temporary file is written and renamed.

    Args:
        path: file to write or replace.
        content: text, which is written as UTF-8, or bytes.

    Raises:
        LosslineError: the disk refuses the write.
    """
    data = utf8(content, str(path)) if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)
        return
    make_folder(path.parent)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        with part.open("wb") as file:
            hold(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if os.name != "nt":
                part.replace(path)  # while the part is held
        if os.name == "nt":
            part.replace(path)  # Windows renames no open file
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise LosslineError(f"{path}: {cannot_write(error)}") from error


def write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    """Write a file of the study atomically, as indented JSON with its checksum (`seal`)."""
    write_atomic(path, _indented(seal(content)))


def export_json(path: epath.Path, content: Any) -> None:
    """Write a file that the user asked for with `--out` atomically, as indented JSON without a checksum."""
    make_folder(path.parent, "--out")
    write_atomic(path, _indented(content))


def _indented(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=False, ensure_ascii=False) + "\n"


def read_json(path: epath.Path, fields: Mapping[str, Any] | None = None, mend: str = MEND) -> dict[str, Any]:
    """Return the content of a file that `write_json` wrote.

    A file of an earlier version has no checksum and is accepted as it is.

    Args:
        path: file to read.
        fields: required fields, each with its type or a tuple of types. None: no field is required.
        mend: advice for the error message of a damaged file.

    Raises:
        LosslineError: the file is missing, is not JSON, is not what was written, or a field is missing.
    """
    try:
        content = unseal(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such file") from error
    except NotAsWritten as error:
        raise LosslineError(f"{path}: damaged ({error}); {mend}") from error
    except (ValueError, RecursionError) as error:
        raise LosslineError(f"{path}: not valid JSON ({error}); {mend}") from error
    for name, expected_type in (fields or {}).items():
        if not isinstance(content.get(name), expected_type):
            problem = f"{name!r} is {content[name]!r:.40}" if name in content else f"it has no {name!r}"
            raise LosslineError(f"{path}: damaged ({problem}); {mend}")
    return content


def read_record(cls: type[T], path: epath.Path, mend: str = MEND) -> T:
    """Return the dataclass of a file that was written with `to_json` and `write_json`.

    Args:
        cls: the dataclass.
        path: file to read.
        mend: advice for the error message of a damaged file.

    Raises:
        LosslineError: as for `read_json`, or a field does not fit the dataclass.
    """
    content = read_json(path, mend=mend)
    try:
        return from_json(cls, content, str(path))
    except LosslineError as error:
        raise LosslineError(f"{error}; {mend}") from error
