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
from dataclasses import dataclass
from typing import Any, TypeVar

from etils import epath

from lossline_jax.config import from_json
from lossline_jax.disk import cannot_write
from lossline_jax.errors import LosslineError
from lossline_jax.leftovers import hold
from lossline_jax.seal import NotAsWritten, seal, unseal
from lossline_jax.text import utf8

T = TypeVar("T")
MEND = "restore it from a copy, or delete it to have it made again"


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    root: epath.Path

    @property
    def claim_file(self) -> epath.Path:
        """The configuration and the data that this folder belongs to."""
        return self.root / "claim.json"

    @property
    def lock_file(self) -> epath.Path:
        return self.root / "lock"

    @property
    def steps_file(self) -> epath.Path:
        """One JSON object a logged training step."""
        return self.root / "steps.jsonl"

    @property
    def tensorboard(self) -> epath.Path:
        """The same rows as event files."""
        return self.root / "tensorboard"

    @property
    def profile(self) -> epath.Path:
        """Traces of some steps, where they were asked for."""
        return self.root / "profile"

    @property
    def checkpoints(self) -> epath.Path:
        return self.root / "checkpoints"

    @property
    def done_file(self) -> epath.Path:
        return self.root / "done.json"

    @property
    def failed_file(self) -> epath.Path:
        return self.root / "failed.json"


@dataclass(frozen=True)
class ModelDir(RunDir):
    """Paths of a model that was trained elsewhere: model.json, tokenizer.json and checkpoints/."""

    @property
    def model_file(self) -> epath.Path:
        """What the model is, and what its rows in a losses table say of it."""
        return self.root / "model.json"

    @property
    def tokenizer_file(self) -> epath.Path:
        return self.root / "tokenizer.json"

    @property
    def elsewhere_file(self) -> epath.Path:
        """In a study: which folder has the checkpoints, if this one has not."""
        return self.root / "elsewhere.json"

    @property
    def suite_file(self) -> epath.Path:
        """In a study: the prepared suite that the model is scored on."""
        return self.root / "suite.json"


@dataclass(frozen=True)
class StudyDir:
    """Paths of one study."""

    root: epath.Path

    @property
    def study_file(self) -> epath.Path:
        return self.root / "study.json"

    @property
    def prepared(self) -> epath.Path:
        return self.root / "prepared"

    @property
    def prepared_file(self) -> epath.Path:
        """What was prepared, for which study, and which suite each run is scored on."""
        return self.prepared / "prepared.json"

    @property
    def corpora(self) -> epath.Path:
        return self.prepared / "corpora"

    @property
    def tokenizers(self) -> epath.Path:
        return self.prepared / "tokenizers"

    @property
    def stores(self) -> epath.Path:
        return self.prepared / "stores"

    @property
    def suites(self) -> epath.Path:
        return self.prepared / "suites"

    def run(self, run_id: str) -> RunDir:
        return RunDir(self.root / "runs" / run_id)

    @property
    def imported(self) -> epath.Path:
        """A folder for each model from elsewhere that is scored on the study's sets."""
        return self.root / "imported"

    def imported_model(self, run_id: str) -> ModelDir:
        return ModelDir(self.imported / run_id)

    @property
    def losses(self) -> epath.Path:
        return self.root / "losses"

    def loss_rows(self, run_id: str) -> epath.Path:
        """The rows of one run, a JSON object a line: the source that the tables are built from."""
        return self.losses / "rows" / f"{run_id}.jsonl"

    def scoring_lock(self, run_id: str) -> epath.Path:
        """Held by the one process that adds rows of a run; another may train the run meanwhile."""
        return self.losses / "rows" / f"{run_id}.lock"

    def unscored_file(self, run_id: str) -> epath.Path:
        """Why checkpoints of a run could not be scored; absent where all could."""
        return self.losses / "unscored" / f"{run_id}.json"

    @property
    def losses_csv(self) -> epath.Path:
        return self.losses / "losses.csv"

    @property
    def losses_parquet(self) -> epath.Path:
        return self.losses / "losses.parquet"

    @property
    def fits_file(self) -> epath.Path:
        return self.root / "fits" / "fits.json"

    @property
    def report(self) -> epath.Path:
        return self.root / "report"

    @property
    def report_file(self) -> epath.Path:
        return self.report / "report.html"


def is_remote(path: epath.Path) -> bool:
    """Whether the path is in an object store (`gs://...`) and not on a disk of this machine."""
    return "://" in str(path)


def absolute(path: epath.Path) -> epath.Path:
    """The path without reference to the working folder, for libraries that ask for it."""
    return path if is_remote(path) else path.resolve()


def inside(folder: epath.Path, name: Any, source: epath.Path) -> epath.Path:
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
            found = f"{name!r} is {content[name]!r:.40}" if name in content else f"it has no {name!r}"
            raise LosslineError(f"{path}: damaged ({found}); {mend}")
    return content


def read_record(cls: type[T], path: epath.Path, mend: str = MEND) -> T:
    """Read a dataclass that was written with `to_json`. Raises as `read_json`, or by the field that does not fit."""
    content = read_json(path, mend=mend)
    try:
        return from_json(cls, content, str(path))
    except LosslineError as error:
        raise LosslineError(f"{error}; {mend}") from error


def read_reason(path: epath.Path) -> str:
    """Why something failed, as `failed.json` or `unscored/<run>.json` tells. Raises as `read_json`."""
    return read_json(path, {"reason": str})["reason"]
