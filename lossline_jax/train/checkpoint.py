"""Checkpoints on disk. The only file that knows orbax.

    checkpoints/<step>/params/     orbax: model parameters by name
    checkpoints/<step>/opt/        orbax: optimiser moments; its counters are the step
    checkpoints/<step>/meta.json   position, fingerprints, and size and SHA-256 of every file above

meta.json is written last and atomically: a folder without it is no checkpoint but what a killed process left.
A checkpoint that does not match its meta.json is refused by name; nothing falls back to an older one.
"""

import contextlib
import hashlib
import logging
import sys
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from lossline_jax.config.serialise import from_json, to_json
from lossline_jax.distributed.processes import from_main_process, is_main_process
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.logs import but_for_closed_loops
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.storage.disk import CURES, error_number, reason
from lossline_jax.storage.files import absolute, make_folder, path_inside
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import (
    FORMAT,
    META_FILE,
    CheckpointMeta,
    CheckpointRecord,
    checkpoint_steps,
    read_checkpoint,
    write_checkpoint,
)
from lossline_jax.train.state import TrainState, abstract_params

HASH_BLOCK = 1 << 24  # bytes
_NEWER = f"orbax-checkpoint {ocp.__version__} with jax {jax.__version__}, try newer ones"


def load_checkpoint_params(run_dir: RunDir, step: int, model: Model, mesh: Mesh, *, fsdp: bool | None = None) -> Params:
    """The parameters after `step` updates, without the optimiser state, placed on any mesh.

    Raises:
        RunFailed: there is no such checkpoint, or it is damaged.
        LosslineError: its parameters are not those of `model`.
    """
    with Checkpointer(run_dir) as checkpointer:
        return checkpointer.restore_params(step, abstract_params(model, mesh, fsdp))


class Checkpointer:
    """Writes and reads the checkpoints of one run; a context manager. One writer at a time (rundir).

    Args:
        run_dir: of the run.
        keep: how many of the newest to keep; None: all.
        cadence: steps whose checkpoints are kept; any other, made on SIGTERM, goes once a newer one is whole.
            None: every step is.
    """

    def __init__(self, run_dir: RunDir, keep: int | None = None, cadence: Collection[int] | None = None):
        if keep is not None and keep < 1:
            raise LosslineError(f"execution.keep_checkpoints: {keep} keeps nothing to resume from; give 1 or more")
        self._run_dir = run_dir
        self._keep = keep
        self._cadence = cadence
        self._orbax = ocp.Checkpointer(ocp.CompositeCheckpointHandler())

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._orbax.close()

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return checkpoint_steps(self._run_dir)

    def latest(self) -> int | None:
        """The newest complete checkpoint."""
        return max(self.steps(), default=None)

    def folder(self, step: int) -> epath.Path:
        return self._run_dir.checkpoint(step)

    def save(self, step: int, state: TrainState, meta: CheckpointMeta) -> None:
        """Write a checkpoint and wait until it is whole; a step that has one already is left as it is.

        Every process calls this; process 0 writes what is not an array.
        """
        if from_main_process(lambda: step in self.steps()):
            return
        self._save(step, {"params": state.params, "opt": _moments(state.opt_state)}, meta)

    def save_params(self, step: int, params: Params, meta: CheckpointMeta) -> None:
        """A checkpoint of parameters alone: of weights from elsewhere, which have no optimiser state.

        One of the same step goes before it is written.
        """
        (self.folder(step) / META_FILE).unlink(missing_ok=True)
        self._save(step, {"params": params}, meta)

    def _save(self, step: int, items: dict[str, Any], meta: CheckpointMeta) -> None:
        make_folder(self._run_dir.checkpoints)
        folder = self.folder(step)
        saves = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        try:
            with _quiet():
                self._orbax.save(absolute(folder), ocp.args.Composite(**saves), force=True)
        except (ValueError, OSError) as error:  # TensorStore's are ValueErrors
            raise self._not_saved(step, error) from error
        if is_main_process():
            write_checkpoint(self._run_dir, CheckpointRecord(meta, _digests(folder)))
            self._delete_superseded()

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of a checkpoint, on the devices of `abstract`, whichever mesh wrote it.

        Raises:
            RunFailed: the checkpoint is damaged.
            LosslineError: it does not hold what `abstract` describes.
        """
        from_main_process(lambda: self._verify(step, ("params", "opt")))
        items = self._read(step, {"params": abstract.params, "opt": _moments(abstract.opt_state)})

        def count() -> jax.Array:  # each its own: the state is donated, and no buffer can be twice
            return jax.device_put(jnp.asarray(step, jnp.int32), abstract.step.sharding)

        opt_state = jax.tree.map(lambda _, leaf: count() if leaf is None else leaf, abstract.opt_state, items["opt"])
        return TrainState(count(), items["params"], opt_state)

    def restore_params(self, step: int, abstract: Params) -> Params:
        """The parameters of a checkpoint alone. Raises as `restore` does."""
        from_main_process(lambda: self._verify(step, ("params",)))
        return self._read(step, {"params": abstract})["params"]

    def read_meta(self, step: int) -> CheckpointMeta:
        """The meta of a checkpoint.

        Raises:
            RunFailed: it is missing or damaged.
        """
        return from_json(CheckpointMeta, from_main_process(lambda: to_json(self._record(step).meta)), META_FILE)

    def discard_incomplete(self) -> None:
        """Delete what a killed process left half-written. Only for the writer of the run."""
        if self._run_dir.checkpoints.exists():
            for folder in self._run_dir.checkpoints.iterdir():
                if folder.is_dir() and not (folder / META_FILE).exists():
                    folder.rmtree()

    def _delete_superseded(self) -> None:
        steps = self.steps()
        too_many = set(steps[: -self._keep]) if self._keep else set()
        for step in steps[:-1]:
            if step in too_many or (self._cadence is not None and step not in self._cadence):
                (self.folder(step) / META_FILE).unlink()  # first: a kill in between leaves no half checkpoint
                self.folder(step).rmtree()

    def _record(self, step: int) -> CheckpointRecord:
        """Read meta.json, or raise what is wrong with it."""
        if step not in self.steps():
            raise RunFailed(f"{self.folder(step)}: no complete checkpoint; this run has steps {self.steps()}")
        try:
            record = read_checkpoint(self._run_dir, step)
        except LosslineError as error:
            raise self._damaged(step, f"{META_FILE} is not readable") from error
        if record.meta.format != FORMAT or record.meta.step != step:
            raise self._damaged(step, f"{META_FILE} says format {record.meta.format}, step {record.meta.step}")
        return record

    def _verify(self, step: int, items: tuple[str, ...]) -> None:
        """Compare the files of `items` with meta.json: zarr chunks carry no checksum of their own."""
        folder = self.folder(step)
        for name, digest in self._record(step).files.items():
            if "/" not in name or name.split("/")[0] in items:
                path = path_inside(folder, name, folder / META_FILE)
                if not path.exists():
                    raise self._damaged(step, f"{name} is missing")
                if _digest(path) != digest:
                    raise self._damaged(step, f"{name} has changed since it was written")

    def _read(self, step: int, abstract: dict[str, Any]) -> Any:
        restores = {name: ocp.args.StandardRestore(item) for name, item in abstract.items()}
        try:  # orbax takes absolute paths only
            return self._orbax.restore(absolute(self.folder(step)), ocp.args.Composite(**restores))
        except (ValueError, KeyError, OSError) as error:  # TensorStore's are ValueErrors
            raise self._not_read(step, abstract, error) from error

    def _not_read(self, step: int, abstract: dict[str, Any], error: Exception) -> LosslineError:
        """Another model's checkpoint, a disk that refuses, or a fault that has nothing to do with either."""
        is_of_disk = error_number(error) is not None
        if not is_of_disk and any(
            _stored_shapes(self.folder(step) / name) != _shapes(item) for name, item in abstract.items()
        ):
            return LosslineError(
                f"{self.folder(step)}: holds other parameters than this model's ({reason(error)}); "
                "use the model config that the run was trained with"
            )
        cure = _cure(error, f"the model and the files are sound; {_NEWER}")
        return LosslineError(f"{self.folder(step)}: cannot be read ({reason(error)}); {cure}")

    def _not_saved(self, step: int, error: Exception) -> LosslineError:
        """A full disk, another refusal of the disk, or a fault that has nothing to do with the disk."""
        older = max((s for s in self.steps() if s < step), default=0)
        cure = _cure(error, f"not the disk's fault: {_NEWER}")
        resume = f"the same command goes on from step {older}"
        return LosslineError(f"{self.folder(step)}: cannot be saved ({reason(error)}); {cure}; {resume}")

    def _damaged(self, step: int, what: str) -> RunFailed:
        older = [s for s in self.steps() if s < step]
        rest = f"resume from step {older[-1]}" if older else "start the run again"
        return RunFailed(f"{self.folder(step)}: damaged checkpoint, {what}; delete this folder to {rest}")


def _cure(error: Exception, otherwise: str) -> str:
    """Tell what to do about an error of the disk; `otherwise` where it is none of the disk's."""
    number = error_number(error)
    return otherwise if number is None else CURES.get(number, "see to the cause")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax and asyncio from printing, with its stack, what they raise as well.

    What is lost is told by the error of the save. Writes that are still under way then complain later: a command
    drops that too (`logs.drop_late_complaints`), a library call leaves its process as it was.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, print_error = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = but_for_closed_loops(print_error)
    try:
        yield
    finally:
        sys.unraisablehook = print_error
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _moments(opt_state: Any) -> Any:
    """Without the counters, which all say what the step says: every leaf costs orbax the same, however small."""
    return jax.tree.map(lambda leaf: leaf if leaf.ndim else None, opt_state)


def check_same_run(meta: CheckpointMeta, expected: CheckpointMeta, folder: epath.Path) -> None:
    """Refuse to continue a run with another config or other data than it was begun with.

    Raises:
        LosslineError: naming what differs.
    """
    mend = "restore what it was begun with, or train into another folder"
    for name, what in (("run_fingerprint", "config"), ("data_fingerprint", "training data")):
        if getattr(meta, name) != getattr(expected, name):
            raise LosslineError(
                f"{folder}: this run was begun with another {what} (fingerprint {getattr(meta, name)}, now "
                f"{getattr(expected, name)}); {mend}"
            )
    if meta.next_global_example != expected.next_global_example:
        raise LosslineError(
            f"{folder}: stands at sequence {meta.next_global_example}, but step {meta.step} of this config "
            f"is at {expected.next_global_example}; {mend}"
        )


def _stored_shapes(folder: epath.Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that orbax wrote into `folder`, by their path in the tree."""
    return _shapes(ocp.PyTreeCheckpointHandler().metadata(absolute(folder)).tree)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the leaves by their path; a tuple and a dict of the same keys are alike, as orbax stores them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def _digests(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """By path inside `folder`."""
    digests: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            digests |= {f"{path.name}/{name}": digest for name, digest in _digests(path).items()}
        else:
            digests[path.name] = _digest(path)
    return digests


def _digest(path: epath.Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file, read in blocks."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
