"""Prepared folders that are whole or absent: made aside, then renamed; the manifest is written last."""

import contextlib
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.disk import cannot_write
from lossline_jax.storage.files import is_remote, make_folder, read_json
from lossline_jax.storage.leftovers import held

MANIFEST = "manifest.json"


def is_complete(folder: epath.Path) -> bool:
    """Whether `folder` has a manifest that calls it complete."""
    manifest = folder / MANIFEST
    return manifest.exists() and read_json(manifest, mend=mend_of(folder)).get("complete") is True


def read_folder_manifest(folder: epath.Path, what: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Args:
        what: is prepared there, for messages.
        fields: that the manifest must have, with the type of each.

    Raises:
        LosslineError: it is absent or not complete, so the folder is half made; or it is damaged.
    """
    if not is_complete(folder):
        raise LosslineError(f"{folder}: no complete {what} (half made?); run `lossline-jax prepare` to make it")
    return read_json(folder / MANIFEST, fields, mend_of(folder))


def mend_of(folder: epath.Path) -> str:
    """Return the words that tell how to replace a damaged prepared folder."""
    return f"delete {folder} and run `lossline-jax prepare`"


def check_sha256(path: epath.Path, expected: str) -> None:
    """Raise LosslineError if a file of a prepared folder is not there, or is not what its manifest describes."""
    if not path.exists():
        raise LosslineError(f"{path}: missing; {mend_of(path.parent)}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise LosslineError(f"{path}: damaged (wrong SHA-256); {mend_of(path.parent)}")


@contextlib.contextmanager
def staged_folder(folder: epath.Path) -> Iterator[epath.Path]:
    """A new folder to write into that takes the place of `folder` when the block ends well.

    The block writes `manifest.json` last: an object store has no rename of folders, so there the block
    writes in place and the manifest alone says that all is there.

    Raises:
        LosslineError: the disk refuses (full, read-only); nothing is left behind.
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
    if folder.exists():
        if is_complete(folder):
            return  # another process was faster: both made the same
        folder.rmtree()
    part.rename(folder)
