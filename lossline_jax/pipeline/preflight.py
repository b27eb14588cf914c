"""Checks before a run costs time: impossible settings, and a folder that belongs to another configuration.

Read `open_runs` first, then `check_claim`.
"""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lossline_jax.config.custom import code_hashes, custom_classes, custom_values, file_of, refuse_other_code
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.serialise import fingerprint, from_json, to_json
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed.batch_rows import local_rows
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.processes import from_main_process
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.experiment import errors_named_by_line
from lossline_jax.pipeline.run_context import OpenedStudy, RunContext, build_context
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import checkpoint_steps, newest_checkpoint
from lossline_jax.train.gradient import microbatches_per_device
from lossline_jax.train.monitor.monitor import LOGGED
from lossline_jax.train.optimisers.schedule import make_schedule
from lossline_jax.train.step import train_program


def open_runs(opened: OpenedStudy, runs: Sequence[RunConfig]) -> dict[str, RunContext]:
    """Build the context of every run, and check that each run can begin on these devices.

    Args:
        opened: the opened study.
        runs: the runs.

    Returns:
        The contexts, by run id.

    Raises:
        LosslineError: a run cannot be trained as it is configured. The message names the run.
    """
    for run in opened.study.runs:  # the runs of a study must all have one source
        _refuse_other_code(run, opened.folder.run(run.run_id))
    contexts, traced = {}, set()
    for run in runs:
        try:
            contexts[run.run_id] = build_context(opened, run)
            check_run(contexts[run.run_id], opened.mesh)
            program = dataclasses.replace(run, seed=0)
            if program not in traced:
                _trace_own_code(contexts[run.run_id], opened.mesh)
                traced.add(program)
        except LosslineError as error:
            raise LosslineError(f"run {run.run_id}: {error}") from error
    return contexts


def check_devices(study: StudyConfig) -> None:
    """Check that the devices fit the mesh of a study and divide the rows of its runs, before anything is written.

    Args:
        study: the study, whose devices have been started.

    Raises:
        LosslineError: they do not. The message names the run.
    """
    mesh = make_mesh(study.execution)
    for run in study.runs:
        try:
            _check_rows(run, study.execution, mesh)
        except LosslineError as error:
            raise LosslineError(f"run {run.run_id}: {error}") from error


def _check_rows(run: RunConfig, execution: ExecutionConfig, mesh: Mesh) -> None:
    local_rows(mesh)
    microbatches_per_device(run.batch_size, run.context_length, execution, mesh)


def check_run(context: RunContext, mesh: Mesh) -> None:
    """Check that a run can begin on the mesh.

    Args:
        context: the run's context.
        mesh: the mesh.

    Raises:
        LosslineError: there are too many epochs, the schedule is impossible, the mesh does not divide the rows of a
            batch, or the attention cannot run on the devices.
    """
    run = context.run
    context.source.check_epochs(run.num_steps)
    make_schedule(run.schedule, run.optim.learning_rate, run.num_steps)
    _check_rows(run, context.execution, mesh)
    if context.execution.attention != "xla":
        _trace_once(context, mesh)


def check_claim(context: RunContext) -> None:
    """Claim the folder of a run for its configuration and its data, from process 0.

    Raises:
        LosslineError: as for `claim`, in every process.
    """
    data_fingerprint = context.source.fingerprint
    from_main_process(lambda: claim(context.directory, context.run, data_fingerprint))


def claim(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Write claim.json, which records the configuration and the data that a run's folder belongs to.

    Args:
        directory: the folder of the run.
        run: the run's configuration.
        data_fingerprint: fingerprint of the run's corpora and tokenizer.

    Raises:
        LosslineError: the folder was begun with another configuration, other data or another tokenizer.
    """
    if not directory.claim_file.exists():
        _refuse_foreign_checkpoints(directory, run, data_fingerprint)
        content = {"run": to_json(run), "data_fingerprint": data_fingerprint}
        write_json(directory.claim_file, content | ({"code": code} if (code := code_hashes(run)) else {}))
        return
    stored_claim = read_json(directory.claim_file, {"run": dict, "data_fingerprint": str})
    fix = "restore it, or move the folder away to train again"
    if not _is_claimed_by(run, stored_claim["run"]):
        raise LosslineError(f"{directory.claim_file}: the configuration was changed under an existing run; {fix}")
    refuse_other_code(stored_claim.get("code", {}), run, str(directory.claim_file))
    if stored_claim["data_fingerprint"] != data_fingerprint:
        raise LosslineError(
            f"{directory.claim_file}: the corpus, its split or the tokenizer was changed under an existing run; {fix}"
        )


def _refuse_other_code(run: RunConfig, directory: RunDir) -> None:
    """Refuse a run whose own classes have another source than the one that its folder was claimed with."""
    if custom_classes(run) and directory.claim_file.exists():
        refuse_other_code(read_json(directory.claim_file).get("code", {}), run, str(directory.claim_file))


def _trace_once(context: RunContext, mesh: Mesh) -> None:
    """Trace the model. Tracing raises LosslineError if the attention cannot run on the devices."""
    run, model = context.run, context.model
    tokens_BT = jax.ShapeDtypeStruct((run.batch_size, run.context_length), jnp.int32)
    segments_BT = tokens_BT if run.data.separate_documents else None
    with jax.set_mesh(mesh):
        params = jax.eval_shape(model.init, jax.random.key(0))
        jax.eval_shape(model.hidden_states, params, tokens_BT, segments_BT)


def _trace_own_code(context: RunContext, mesh: Mesh) -> None:
    """Trace a step of a run that has classes of the study's own, so that their errors come before any work."""
    run = context.run
    own = custom_values(run)
    if not own or not all(value.has_code for value in own):
        return
    shape = (run.batch_size, run.context_length)
    ids_BT: Any = jax.ShapeDtypeStruct(shape, jnp.int32)  # shapes stand in for the arrays
    weights_BT: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
    batch = Batch(ids_BT, ids_BT, weights_BT, ids_BT if run.data.separate_documents else None)
    with errors_named_by_line(inspect.getfile(type(own[0]))), jax.set_mesh(mesh):
        program = train_program(run, context.model, context.execution, mesh)
        _, metrics = jax.eval_shape(program.step, program.abstract, batch)
    where = file_of(type(own[0]))
    for name, value in metrics.extra.items():
        if name in LOGGED:
            raise LosslineError(f"{where}: {name!r} is a name of the log of every run; give the sum another name")
        if value.shape:
            raise LosslineError(f"{where}: {name!r} has the shape {value.shape} in the log; give a single number")


def _is_claimed_by(run: RunConfig, claimed: dict[str, Any]) -> bool:
    """Return whether the claimed configuration equals the run's. Missing fields have their default values."""
    try:
        return from_json(RunConfig, claimed, classes=custom_classes(run)) == run
    except LosslineError:
        return False


def _refuse_foreign_checkpoints(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Refuse a folder without a claim whose newest checkpoint has another configuration or other data."""
    if not checkpoint_steps(directory):
        return
    meta = newest_checkpoint(directory)
    if meta is None or (meta.run_fingerprint, meta.data_fingerprint) != (fingerprint(run), data_fingerprint):
        raise LosslineError(
            f"{directory.claim_file}: missing, and the checkpoints beside it are of another configuration, corpus or "
            "tokenizer; restore it, or move the folder away to train again"
        )
