"""Prepared folders that are complete or absent.

A folder is written under a temporary name and then renamed. Its manifest is written last.
"""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.disk import cannot_write
from lossline_jax.storage.files import file_sha256, is_remote, make_folder, read_json
from lossline_jax.storage.leftovers import held

MANIFEST = "manifest.json"


def is_complete(folder: epath.Path) -> bool:
    """Return True if `folder` has a manifest that marks it as complete."""
    manifest = folder / MANIFEST
    return manifest.exists() and read_json(manifest, mend=mend_of(folder)).get("complete") is True


def read_folder_manifest(folder: epath.Path, what: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a prepared folder.

    Args:
        folder: the prepared folder.
        what: description of the content, for messages.
        fields: required fields of the manifest, with the type of each.

    Raises:
        LosslineError: the manifest is missing, does not mark the folder as complete, or is damaged.
    """
    if not is_complete(folder):
        raise LosslineError(f"{folder}: no complete {what} (interrupted?); run `lossline-jax prepare` to make it")
    return read_json(folder / MANIFEST, fields, mend_of(folder))


def mend_of(folder: epath.Path) -> str:
    """Return the part of a message that says how to replace a damaged prepared folder."""
    return f"delete {folder} and run `lossline-jax prepare`"


def check_sha256(path: epath.Path, expected: str) -> None:
    """Check a file of a prepared folder against the digest in the folder's manifest.

    Args:
        path: file to check.
        expected: SHA-256 as hex digits.

    Raises:
        LosslineError: the file is missing, or its content is not what the manifest describes.
    """
    if not path.exists():
        raise LosslineError(f"{path}: missing; {mend_of(path.parent)}")
    if file_sha256(path) != expected:
        raise LosslineError(f"{path}: damaged (wrong SHA-256); {mend_of(path.parent)}")


@contextlib.contextmanager
def staged_folder(folder: epath.Path) -> Iterator[epath.Path]:
    """Yield a temporary folder that replaces `folder` when the block ends without an error.

    The block must write `manifest.json` last. An object store cannot rename folders, so there the block writes in
    place, and only the manifest says that the folder is complete.

    Args:
        folder: final path of the folder.

    Raises:
        LosslineError: the disk refuses a write (full, read-only). Nothing is left behind.
    """
    if is_remote(folder):
        yield folder
        return
    part = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.part"
    make_folder(part)
    try:
        with held(part):
            yield part
            _move(part, folder)
    except OSError as error:
        raise LosslineError(f"{folder}: {cannot_write(error)}") from error
    finally:
        if part.exists():
            part.rmtree()


def _move(part: epath.Path, folder: epath.Path) -> None:
    if folder.exists() and not is_complete(folder):
        folder.rmtree()
    try:
        part.rename(folder)
    except OSError:
        # A folder with content is never replaced. Another process was faster, and has made the same folder.
        if not is_complete(folder):
            raise
