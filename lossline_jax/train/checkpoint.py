"""Checkpoints on disk. No other file uses orbax.

    checkpoints/<step>/params/     orbax: model parameters by name
    checkpoints/<step>/opt/        orbax: optimiser moments; its counters equal the step and are not stored. Only the
                                   newest checkpoints keep them (storage/moments.py)
    checkpoints/<step>/meta.json   position, fingerprints, and size and SHA-256 of every file above

meta.json is written last and atomically. A folder without meta.json was left by a killed process and is no checkpoint.
A checkpoint that does not match its meta.json is refused, with its name in the message. The code never falls back to
an older checkpoint. Read `Checkpointer` first.
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
from lossline_jax.storage.moments import (
    has_moments,
    old_moments,
    remove_moments,
    remove_unlisted_moments,
    steps_with_moments,
)
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

HASH_BLOCK = 1 << 24  # bytes read at once: 16 MiB
_TRY_NEWER = f"orbax-checkpoint {ocp.__version__} with jax {jax.__version__}, try newer ones"


def load_checkpoint_params(run_dir: RunDir, step: int, model: Model, mesh: Mesh, *, fsdp: bool | None = None) -> Params:
    """Load the parameters after `step` updates onto any mesh, without the optimiser state.

    Args:
        run_dir: folder of the run.
        step: step of the checkpoint.
        model: the model that the checkpoint must hold.
        mesh: the mesh.
        fsdp: as for `sharding.uses_fsdp`.

    Raises:
        RunFailed: the checkpoint is missing or damaged.
        LosslineError: its parameters are not those of `model`.
    """
    with Checkpointer(run_dir) as checkpointer:
        return checkpointer.restore_params(step, abstract_params(model, mesh, fsdp))


class Checkpointer:
    """A context manager that writes and reads the checkpoints of one run. The caller holds the run's lock to write.

    Args:
        run_dir: folder of the run.
        keep: number of the newest checkpoints to keep. None: all.
        cadence: steps whose checkpoints are kept. A checkpoint of another step, which SIGTERM caused, is deleted once
            a newer one is complete. None: the checkpoints of all steps are kept.
        keep_moments: number of the newest checkpoints that keep their moments. None: all.

    Raises:
        LosslineError: `keep` or `keep_moments` is below 1.
    """

    def __init__(
        self,
        run_dir: RunDir,
        keep: int | None = None,
        cadence: Collection[int] | None = None,
        *,
        keep_moments: int | None = None,
    ) -> None:
        for field, number in (("keep_checkpoints", keep), ("keep_moments", keep_moments)):
            if number is not None and number < 1:
                raise LosslineError(f"execution.{field}: {number} keeps nothing to resume from; give 1 or more")
        self._run_dir = run_dir
        self._keep = keep
        self._keep_moments = keep_moments
        self._cadence = cadence
        self._orbax = ocp.Checkpointer(ocp.CompositeCheckpointHandler())

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close orbax's checkpointer."""
        self._orbax.close()

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, in ascending order."""
        return checkpoint_steps(self._run_dir)

    def latest(self) -> int | None:
        """Return the step of the newest complete checkpoint. None: there is no checkpoint."""
        return max(self.steps(), default=None)

    def latest_with_moments(self) -> int | None:
        """Return the newest step that the run can continue from. None: no complete checkpoint has moments.

        Raises:
            RunFailed: a checkpoint that is at least as new is damaged.
        """
        return next((step for step in reversed(self.steps()) if has_moments(self._record(step))), None)

    def folder(self, step: int) -> epath.Path:
        """Return the folder of a checkpoint, which need not exist."""
        return self._run_dir.checkpoint(step)

    def save(self, step: int, state: TrainState, meta: CheckpointMeta) -> None:
        """Write a checkpoint and wait until it is complete. A checkpoint of the step with moments is left as it is.

        Every process calls this method. Process 0 writes meta.json.

        Args:
            step: number of updates done.
            state: the state after them.
            meta: the rest of what meta.json holds, besides the digests of the files.

        Raises:
            LosslineError: the checkpoint cannot be written.
        """
        if from_main_process(lambda: self._is_saved(step)):
            return
        items = {"params": state.params, "opt": _moments(state.opt_state)}
        self._save(step, items if state.extra is None else {**items, "extra": state.extra}, meta)

    def save_params(self, step: int, params: Params, meta: CheckpointMeta) -> None:
        """Write a checkpoint without optimiser state, of weights from elsewhere.

        An existing checkpoint of the same step is deleted first.

        Args:
            step: number of updates that made the parameters.
            params: the parameters.
            meta: the rest of what meta.json holds, besides the digests of the files.

        Raises:
            LosslineError: the checkpoint cannot be written.
        """
        self._unmark(step)
        self._save(step, {"params": params}, meta)

    def _is_saved(self, step: int) -> bool:
        """Return True if the step has a checkpoint with moments. A checkpoint without them is no longer complete."""
        if step in self.steps():
            if has_moments(self._record(step)):
                return True
            self._unmark(step)
        return False

    def _unmark(self, step: int) -> None:
        """Delete meta.json before the rest, so that a kill cannot leave half a checkpoint with it."""
        (self.folder(step) / META_FILE).unlink(missing_ok=True)

    def _save(self, step: int, items: dict[str, Any], meta: CheckpointMeta) -> None:
        make_folder(self._run_dir.checkpoints)
        folder = self.folder(step)
        saves = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        try:
            with _quiet():
                self._orbax.save(absolute(folder), ocp.args.Composite(**saves), force=True)
        except (ValueError, OSError) as error:  # TensorStore raises ValueError
            raise self._not_saved(step, error) from error
        if is_main_process():
            write_checkpoint(self._run_dir, CheckpointRecord(meta, _digests(folder)))
            self._delete_superseded()

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Load the state of a checkpoint onto the devices of `abstract`. Any mesh may have written the checkpoint.

        Args:
            step: step of the checkpoint.
            abstract: the state as `abstract_state` returns it.

        Raises:
            RunFailed: the checkpoint is damaged.
            LosslineError: the checkpoint holds other arrays than `abstract` describes.
        """
        expected = {"params": abstract.params, "opt": _moments(abstract.opt_state)}
        if abstract.extra is not None:
            expected["extra"] = abstract.extra
        from_main_process(lambda: self._verify(step, tuple(expected)))
        items = self._read(step, expected)

        def count() -> jax.Array:  # one buffer per counter: the state is donated, and no buffer can be donated twice
            return jax.device_put(jnp.asarray(step, jnp.int32), abstract.step.sharding)

        opt_state = jax.tree.map(lambda _, leaf: count() if leaf is None else leaf, abstract.opt_state, items["opt"])
        return TrainState(count(), items["params"], opt_state, items.get("extra"))

    def restore_params(self, step: int, abstract: Params) -> Params:
        """Load the parameters of a checkpoint.

        Args:
            step: step of the checkpoint.
            abstract: the parameters as `abstract_params` returns them.

        Raises:
            RunFailed: the checkpoint is damaged.
            LosslineError: the checkpoint holds other arrays than `abstract` describes.
        """
        from_main_process(lambda: self._verify(step, ("params",)))
        return self._read(step, {"params": abstract})["params"]

    def read_meta(self, step: int) -> CheckpointMeta:
        """Return the metadata of a checkpoint.

        Raises:
            RunFailed: the checkpoint is missing or damaged.
        """
        return from_json(CheckpointMeta, from_main_process(lambda: to_json(self._record(step).meta)), META_FILE)

    def discard_incomplete(self) -> None:
        """Delete incomplete checkpoints and moments that a killed process left. The caller holds the run's lock."""
        if self._run_dir.checkpoints.exists():
            for folder in self._run_dir.checkpoints.iterdir():
                if folder.is_dir() and not (folder / META_FILE).exists():
                    folder.rmtree()
        remove_unlisted_moments(self._run_dir)

    def _delete_superseded(self) -> None:
        steps = self.steps()
        too_many = set(steps[: -self._keep]) if self._keep else set()
        for step in steps[:-1]:
            if step in too_many or (self._cadence is not None and step not in self._cadence):
                self._unmark(step)
                self.folder(step).rmtree()
        if self._keep_moments is not None:
            for step in old_moments(self._run_dir, self._keep_moments):
                remove_moments(self._run_dir, step)

    def _record(self, step: int) -> CheckpointRecord:
        """Read meta.json of a checkpoint, and check that it belongs to this step and format."""
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
        except (ValueError, KeyError, OSError) as error:  # TensorStore raises ValueError
            raise self._not_read(step, abstract, error) from error

    def _not_read(self, step: int, abstract: dict[str, Any], error: Exception) -> LosslineError:
        """Explain a failed read: the checkpoint is of another model, the disk refuses, or orbax has a fault."""
        disk_refuses = error_number(error) is not None
        if not disk_refuses and any(
            _stored_shapes(self.folder(step) / name) != _shapes(item) for name, item in abstract.items()
        ):
            return LosslineError(
                f"{self.folder(step)}: holds other parameters than this model's ({reason(error)}); "
                "use the model config that the run was trained with"
            )
        cure = _cure(error, f"the model and the files are sound; {_TRY_NEWER}")
        return LosslineError(f"{self.folder(step)}: cannot be read ({reason(error)}); {cure}")

    def _not_saved(self, step: int, error: Exception) -> LosslineError:
        """Explain a failed save: the disk is full, the disk refuses for another reason, or orbax has a fault."""
        older = max((s for s in steps_with_moments(self._run_dir) if s < step), default=0)
        cure = _cure(error, f"the disk is not the cause: {_TRY_NEWER}")
        resume = f"the same command continues from step {older}"
        return LosslineError(f"{self.folder(step)}: cannot be saved ({reason(error)}); {cure}; {resume}")

    def _damaged(self, step: int, what: str) -> RunFailed:
        older = [s for s in steps_with_moments(self._run_dir) if s < step]
        rest = f"resume from step {older[-1]}" if older else "start the run again"
        return RunFailed(f"{self.folder(step)}: damaged checkpoint, {what}; delete this folder to {rest}")


def _cure(error: Exception, otherwise: str) -> str:
    """Return what to do about an error of the disk. Return `otherwise` if the disk did not cause the error."""
    number = error_number(error)
    return otherwise if number is None else CURES.get(number, "fix the cause")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Stop orbax and asyncio from printing the stacks of errors that they also raise.

    No information is lost, because the error of the save has it. Writes that are still running then print errors
    later. A command drops those too (`logs.drop_late_complaints`); a library call does not change its process.
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
    """Return the optimiser state without the counters that equal the step, which optax names `count`.

    Every array costs orbax the same time, however small it is.
    """
    return jax.tree.map_with_path(lambda path, leaf: None if _is_step_count(path) else leaf, opt_state)


def _is_step_count(path: tuple) -> bool:
    return isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "count"


def _stored_shapes(folder: epath.Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays that orbax wrote into `folder`, by their path in the tree."""
    return _shapes(ocp.PyTreeCheckpointHandler().metadata(absolute(folder)).tree)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the leaves, by path. A tuple and a dict of the same keys are alike, as in orbax."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def _digests(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Return the digest of every file under `folder`, by its path inside `folder`."""
    digests: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            digests |= {f"{path.name}/{name}": digest for name, digest in _digests(path).items()}
        else:
            digests[path.name] = _digest(path)
    return digests


def _digest(path: epath.Path) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
