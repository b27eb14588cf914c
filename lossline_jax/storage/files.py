"""Every path of a study and of a run, names that may not leave their folder, and atomic writes.

All paths are `etils.epath` paths, so a study lives as well on `gs://` as on a local disk.

    <study>/study.json                the resolved study
    <study>/manifest.jsonl            a run a line, for an engine's array of jobs
    <study>/prepared/prepared.json    what was prepared, and for which study
    <study>/prepared/corpora/<id>/    train.jsonl, validation.jsonl, manifest.json
    <study>/prepared/tokenizers/<id>/ tokenizer.model, manifest.json
    <study>/prepared/stores/<id>/     token shards, manifest.json
    <study>/prepared/suites/<id>/     tokenised evaluation rows, manifest.json
    <study>/runs/<run_id>/            claim.json, steps.jsonl, tensorboard/, profile/, checkpoints/,
                                      done.json or failed.json, lock, and alive.json while a process works on it
    <study>/imported/<run_id>/        a model from elsewhere that is scored too: model.json, tokenizer.json, suite.json,
                                      and checkpoints/ or elsewhere.json, which says where they are
    <study>/losses/                   rows/<run_id>.jsonl with its lock, unscored/<run_id>.json (what could not be
                                      scored, and why), losses.csv, losses.parquet
    <study>/fits/                     fits.json
    <study>/report/                   report.html, figures/*.png, *.pdf, *.svg
"""

import contextlib
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
    """Whether the path is in an object store (`gs://...`) and not on a disk of this machine."""
    return "://" in str(path)


def absolute(path: epath.Path) -> epath.Path:
    """The path without reference to the working folder, for libraries that ask for it."""
    return path if is_remote(path) else path.resolve()


def path_inside(folder: epath.Path, name: Any, source: epath.Path) -> epath.Path:
    """`folder / name` for a name that was read from a file: it may lie deeper, but not outside.

    A folder may come from someone else, and what it names is read, hashed or deleted.

    Raises:
        LosslineError: the name leads elsewhere; names `source`, the file that it was read from.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    if any(part in ("", ".", "..") for part in parts) or any(mark in name for mark in ("\\", ":", "\0")):
        raise LosslineError(f"{source}: {name!r} is no name of a file in {folder}; fetch the folder anew or delete it")
    return folder / name


def may_write(path: epath.Path) -> bool:
    """Return whether permissions let this user make or replace `path`. For an object store, only writing can tell."""
    if is_remote(path):
        return True
    folder = path if path.is_dir() else path.parent
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def make_folder(path: epath.Path) -> epath.Path:
    """Create `path` and its parents; an object store has no folders, only names with slashes.

    Raises:
        LosslineError: the folder cannot be made or written.
    """
    if is_remote(path):
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LosslineError(
            f"{path}: cannot create this folder ({error.strerror or error}); "
            "choose another one (--root, with an experiment file)"
        ) from error
    return path


def write_atomic(path: epath.Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a reader never sees a part of it, a crash leaves the old one.

    One put in an object store, which is atomic there; on a disk a file aside that is renamed.
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
            part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise LosslineError(f"{path}: {cannot_write(error)}") from error


def write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    """Write a file of the study as indented JSON, atomically, with its checksum (`seal`)."""
    export_json(path, seal(content))


def export_json(path: epath.Path, content: Any) -> None:
    """Write what a user asked for as indented JSON, atomically, and nothing beside it."""
    write_atomic(path, json.dumps(content, indent=2, sort_keys=False, ensure_ascii=False) + "\n")


def read_json(path: epath.Path, fields: Mapping[str, Any] | None = None, mend: str = MEND) -> dict[str, Any]:
    """Read what `write_json` wrote. A file of an earlier version has no checksum and is taken as it is.

    Args:
        fields: names that it must have, with the type of each, or several in a tuple.
        mend: what to do with a damaged file.

    Raises:
        LosslineError: it is missing, is no JSON, is not what was written, or lacks a field.
    """
    try:
        content = unseal(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such file") from error
    except NotAsWritten as error:
        raise LosslineError(f"{path}: damaged ({error}); {mend}") from error
    except (ValueError, RecursionError) as error:
        raise LosslineError(f"{path}: not valid JSON ({error}); {mend}") from error
    for name, kind in (fields or {}).items():
        if not isinstance(content.get(name), kind):
            problem = f"{name!r} is {content[name]!r:.40}" if name in content else f"it has no {name!r}"
            raise LosslineError(f"{path}: damaged ({problem}); {mend}")
    return content


def read_record(cls: type[T], path: epath.Path, mend: str = MEND) -> T:
    """Read a dataclass that was written with `to_json`. Raises as `read_json`, or by the field that does not fit."""
    content = read_json(path, mend=mend)
    try:
        return from_json(cls, content, str(path))
    except LosslineError as error:
        raise LosslineError(f"{error}; {mend}") from error
