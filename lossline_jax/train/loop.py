"""A training run, from its newest checkpoint to its end."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.serialise import fingerprint, from_json, to_json
from lossline_jax.distributed.batch_rows import my_rows, place_batch
from lossline_jax.distributed.devices import hardware_of
from lossline_jax.distributed.preemption import StopRequest
from lossline_jax.distributed.processes import from_first, is_first
from lossline_jax.distributed.watchdog import Watchdog
from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError
from lossline_jax.models.accounting import train_flops_per_token
from lossline_jax.storage.files import make_folder
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import CheckpointMeta, RunResult, read_result, write_result
from lossline_jax.train.checkpoint import Checkpointer, check_same_run
from lossline_jax.train.monitor.monitor import Watch
from lossline_jax.train.monitor.profiler import profiled, traced_steps
from lossline_jax.train.monitor.timer import Clock
from lossline_jax.train.state import Model, Params, TrainState, init_state
from lossline_jax.train.step import TrainStep, train_program

RunConfig = Any  # study.RunConfig: the study stands above this room
BatchSource = Any  # data.batches.BatchSource: check_epochs, fingerprint, iterate (to be closed)
OnCheckpoint = Callable[[int, Params], Mapping[str, float] | None]


def train_run(
    run: RunConfig,
    *,
    model: Model,
    source: BatchSource,
    run_dir: RunDir,
    execution: ExecutionConfig,
    mesh: Mesh,
    on_checkpoint: OnCheckpoint | None = None,
    show_progress: bool = True,
    profile_steps: int = 0,
) -> RunResult:
    """Train a run to its last step, continuing from its newest checkpoint bit for bit; once finished, return.

    Every process of the mesh calls this. The caller holds `run_lock.sole_writer`.

    Args:
        run: what to train.
        model: of `model.build_model`.
        source: its batch k is a pure function of k.
        run_dir: gets steps.jsonl, checkpoints/, and done.json or failed.json.
        execution: how to run; may differ from restart to restart.
        mesh: of `mesh.make_mesh`.
        on_checkpoint: called with (step, parameters) after each checkpoint of `run.checkpoint_steps`, and
            again with the restored one when resuming, for a process killed between the two. The parameters
            are donated to the next step: it must not keep them. SIGTERM breaks it off. What it returns,
            losses in nats a token by evaluation set, is shown by the trackers.
        show_progress: on stderr.
        profile_steps: how many steps to trace, into `<run>/profile`.

    Raises:
        RunFailed: a loss or gradient is not finite (failed.json has the step), or the checkpoint is damaged.
        LosslineError: the run's config or data have changed since it was begun, or do not fit the mesh.
        SystemExit: code 42 after saving, on SIGTERM.
    """
    result = from_first(lambda: to_json(read_result(run_dir)))
    if result is not None:
        return _finished(run, run_dir, from_json(RunResult, result))
    source.check_epochs(run.num_steps)
    clock = Clock()
    with (
        jax.set_mesh(mesh),
        Checkpointer(run_dir, execution.keep_checkpoints, cadence=run.checkpoint_steps) as checkpointer,
        Watchdog(execution.stall_seconds) as watchdog,
        StopRequest() as stop,
    ):
        flops_per_token = train_flops_per_token(run.model, model.vocab_size, run.context_length)
        session = _Session(
            run, flops_per_token, source, run_dir, mesh, clock, checkpointer, watchdog, on_checkpoint, profile_steps
        )
        with clock.spending("setup"):
            train_step, state, start = session.set_up(model, execution)
        watchdog.progress("compiling the step")
        watch = Watch(run, flops_per_token, run_dir, start, execution, clock, mesh, show_progress)
        with contextlib.closing(watch):
            session.train(train_step, state, start, watch, stop)
    return session.finish()


@dataclass(frozen=True)
class _Session:
    """What stays the same while one process trains a run."""

    run: RunConfig
    flops_per_token: float
    source: BatchSource
    run_dir: RunDir
    mesh: Mesh
    clock: Clock
    checkpointer: Checkpointer
    watchdog: Watchdog
    on_checkpoint: OnCheckpoint | None
    profile_steps: int

    def set_up(self, model: Model, execution: ExecutionConfig) -> tuple[TrainStep, TrainState, int]:
        """The step, the state to begin from, and the number of steps that it has behind it."""
        run = self.run
        train_step, optimiser, abstract = train_program(run, model, execution, self.mesh)
        start = from_first(self.checkpointer.latest)
        if start is None:
            state = init_state(model, optimiser, run.seed, abstract)
        else:
            meta = self.checkpointer.read_meta(start)
            check_same_run(meta, self.meta(start), self.checkpointer.folder(start))
            state = self.checkpointer.restore(start, abstract)
            self.clock.add_earlier(meta.seconds)
        if is_first():
            make_folder(self.run_dir.root)
            self.run_dir.failed_file.unlink(missing_ok=True)
            self.checkpointer.discard_incomplete()
        return train_step, state, start or 0

    def train(self, train_step: TrainStep, state: TrainState, start: int, watch: Watch, stop: StopRequest) -> None:
        """Steps `start + 1` to the last one."""
        if start in self.run.checkpoint_steps:
            self._offer(start, state, watch, stop)
        share = my_rows(self.mesh)
        batches = self.source.iterate(start, share.index, share.count)
        with contextlib.closing(batches):  # its threads read ahead
            for step in self._steps(start, watch):
                with self.clock.spending("input"):
                    batch = place_batch(next(batches), self.mesh)
                first_call = self.clock.spending("compile") if step == start + 1 else contextlib.nullcontext()
                with first_call, jax.transfer_guard("disallow"):
                    state, metrics = train_step(state, batch)
                watch.dispatched(step, metrics)
                self.watchdog.progress(f"step {step}")
                self._keep(step, state, watch, stop)

    def _steps(self, start: int, watch: Watch) -> Iterator[int]:
        """The numbers of the steps to do, traced where that was asked for."""
        run, count = self.run, self.profile_steps
        traced = traced_steps(start, run.num_steps, count, run.checkpoint_steps)
        return profiled(range(start + 1, run.num_steps + 1), traced, count, watch.settle, self.run_dir.profile)

    def _keep(self, step: int, state: TrainState, watch: Watch, stop: StopRequest) -> None:
        """Save a step that is to be kept, then score it; leave between the two if the machine is wanted back.

        Scoring takes longer than an engine waits. The run that resumes offers the step again.
        """
        due, stopping = step in self.run.checkpoint_steps, stop.noted()
        if due or stopping:
            watch.settle()  # first: the state of a diverged run is never saved
            watch.flush()
            self.watchdog.progress(f"saving step {step}")
            with self.clock.spending("checkpoint"):
                self.checkpointer.save(step, state, self.meta(step))
            stopping = stopping or stop.noted()  # a save takes its time
        if stopping:  # at the last step too: the caller may have other runs to go on with
            raise SystemExit(RESTART_EXIT_CODE)
        if due:
            self._offer(step, state, watch, stop)

    def meta(self, step: int) -> CheckpointMeta:
        """What a checkpoint of this run says of itself at `step`."""
        hardware = hardware_of(self.mesh)
        return CheckpointMeta(
            step=step,
            next_global_example=step * self.run.batch_size,
            data_fingerprint=self.source.fingerprint,
            run_fingerprint=fingerprint(self.run),
            seconds=self.clock.seconds(),
            num_devices=hardware.num_devices,
            device_kind=hardware.device_kind,
        )

    def finish(self) -> RunResult:
        """Write done.json."""
        tokens, seconds = self.run.num_steps * self.run.tokens_per_step, self.clock.seconds()
        stepping, hardware = max(seconds["train"] + seconds["input"], 1e-3), hardware_of(self.mesh)
        result = RunResult(
            run_fingerprint=fingerprint(self.run),
            step=self.run.num_steps,
            tokens=tokens,
            tokens_per_second=round(tokens / stepping, 1),
            wall_seconds=seconds["wall"],
            compile_seconds=seconds["compile"],
            seconds=seconds,
            num_devices=hardware.num_devices,
            device_kind=hardware.device_kind,
            num_processes=hardware.num_processes,
            mfu=hardware.mfu(self.flops_per_token * tokens, stepping),
        )
        if is_first():
            write_result(self.run_dir, result)
        return result

    def _offer(self, step: int, state: TrainState, watch: Watch, stop: StopRequest) -> None:
        """Score a step that was saved; told to stop, break off, since the run that resumes offers it again."""
        if self.on_checkpoint is not None:
            self.watchdog.progress(f"scoring step {step}")
            with stop.leaving_at_once(), self.clock.spending("evaluate"):
                losses = self.on_checkpoint(step, state.params)
            if losses:
                watch.evaluated(step, losses)


def _finished(run: RunConfig, run_dir: RunDir, result: RunResult) -> RunResult:
    if result.run_fingerprint != fingerprint(run):
        raise LosslineError(
            f"{run_dir.done_file}: another config was trained here (fingerprint {result.run_fingerprint}, "
            f"now {fingerprint(run)}); restore that config, or train into another folder"
        )
    return result
