"""Train a run from its newest checkpoint to its last step.

Read `train_run` first, then `TrainingSession.train`, which is the loop over steps.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
from etils import epath

from lossline_jax import logs
from lossline_jax.config.custom import code_hashes, refuse_other_code
from lossline_jax.config.serialise import fingerprint, from_json, to_json
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.batch_rows import local_rows, place_batch
from lossline_jax.distributed.devices import hardware_of
from lossline_jax.distributed.preemption import StopRequest
from lossline_jax.distributed.processes import compile_together, from_main_process, is_main_process
from lossline_jax.distributed.watchdog import Watchdog
from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError
from lossline_jax.models.parameters import Params
from lossline_jax.storage.files import make_folder
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import CheckpointMeta, RunResult, read_result, write_result
from lossline_jax.train.checkpoint import Checkpointer
from lossline_jax.train.job import TrainingJob
from lossline_jax.train.monitor.monitor import StepMonitor
from lossline_jax.train.monitor.profiler import profiled, traced_steps
from lossline_jax.train.monitor.timer import RunTimer
from lossline_jax.train.state import TrainState, init_state
from lossline_jax.train.step import TrainProgram, TrainStep, train_program

OnCheckpoint = Callable[[int, Params], Mapping[str, float] | None]


def train_run(
    job: TrainingJob,
    on_checkpoint: OnCheckpoint | None = None,
    *,
    show_progress: bool = True,
    profile_steps: int = 0,
) -> RunResult:
    """Train a run to its last step. The run continues bit for bit from its newest checkpoint.

    A run that is already done is not trained again. Every process of the mesh calls this function. The caller holds
    the run's lock (`run_lock.hold_run_lock`).

    Args:
        job: the run, and everything it is trained with.
        on_checkpoint: called with (step, parameters) after each checkpoint of `run.checkpoint_steps`. A resumed run
            calls it again for the restored checkpoint, because the earlier process may have been killed before or
            during the call. It must not keep the parameters, which are donated to the next step. SIGTERM interrupts
            it. It returns losses in nats per token by evaluation set, which the trackers show. None: no call.
        show_progress: whether to print progress to stderr.
        profile_steps: number of steps to trace into `<run>/profile`.

    Returns:
        The totals of the run, which done.json holds too.

    Raises:
        RunFailed: a loss or a gradient is not finite (failed.json has the step), or the checkpoint is damaged.
        LosslineError: the run's config or data have changed since the run began, or do not fit the mesh.
        SystemExit: code 42 on SIGTERM, after a checkpoint was saved.
    """
    result = _finished_result(job.run, job.run_dir)
    if result is not None:
        return result
    job.source.check_epochs(job.run.num_steps)
    clock = RunTimer()
    with (
        jax.set_mesh(job.mesh),
        _checkpointer(job) as checkpointer,
        Watchdog(job.execution.stall_seconds) as watchdog,
        StopRequest() as stop,
    ):
        with clock.spending("setup"):
            program = train_program(job.run, job.model, job.execution, job.mesh)
            start, state = _start_or_resume(job, program, checkpointer, clock)
        watchdog.progress("compiling the step")
        with contextlib.closing(StepMonitor(job, clock, start, show_progress)) as monitor:
            session = TrainingSession(
                job=job,
                clock=clock,
                checkpointer=checkpointer,
                watchdog=watchdog,
                stop=stop,
                monitor=monitor,
                on_checkpoint=on_checkpoint,
            )
            session.train(program.step, start, state, profile_steps)
    return _finish(job, clock)


def _checkpointer(job: TrainingJob) -> Checkpointer:
    """Return the writer and reader of the run's checkpoints."""
    execution = job.execution
    return Checkpointer(
        job.run_dir,
        execution.keep_checkpoints,
        cadence=job.run.checkpoint_steps,
        keep_moments=execution.keep_moments,
    )


def _start_or_resume(
    job: TrainingJob, program: TrainProgram, checkpointer: Checkpointer, clock: RunTimer
) -> tuple[int, TrainState]:
    """Return the step and the state of the newest checkpoint with moments. Without one: step 0, an initial state."""
    newest = from_main_process(checkpointer.latest_with_moments)
    if is_main_process() and (last := checkpointer.latest() or 0) > (newest or 0):
        logs.info(f"{checkpointer.folder(last)}: has no optimiser moments; training continues from step {newest or 0}")
    if newest is None:
        extra = program.algorithm.init_extra
        state = init_state(job.model, program.rule, job.run.seed, program.abstract, init_extra=extra)
    else:
        meta = checkpointer.read_meta(newest)
        _check_same_run(job.run, meta, _checkpoint_meta(job, newest, clock), checkpointer.folder(newest))
        state = checkpointer.restore(newest, program.abstract)
        clock.add_earlier(meta.seconds)
    if is_main_process():
        make_folder(job.run_dir.root)
        job.run_dir.failed_file.unlink(missing_ok=True)
        checkpointer.discard_incomplete()
    return newest or 0, state


@dataclass(frozen=True, kw_only=True)
class TrainingSession:
    """One process' work on a run, from its start or resumption until the process leaves the run."""

    job: TrainingJob
    clock: RunTimer
    checkpointer: Checkpointer
    watchdog: Watchdog
    stop: StopRequest
    monitor: StepMonitor
    on_checkpoint: OnCheckpoint | None

    def train(self, train_step: TrainStep, start: int, state: TrainState, profile_steps: int) -> None:
        """Take the steps from `start + 1` to the last one. Save and score the checkpoints that are due.

        Args:
            train_step: the jitted step.
            start: number of steps done before.
            state: the state after them.
            profile_steps: number of steps to trace.
        """
        run, mesh = self.job.run, self.job.mesh
        if start in run.checkpoint_steps:  # the earlier process may have been killed before it scored this checkpoint
            self._score(start, state)
        share = local_rows(mesh)
        batches = self.job.source.iterate(start, share.index, share.count)
        traced = traced_steps(start, run.num_steps, profile_steps, run.checkpoint_steps)
        steps = profiled(
            range(start + 1, run.num_steps + 1),
            traced,
            requested=profile_steps,
            settle=self.monitor.wait_for_step,
            folder=self.job.run_dir.profile,
        )
        with contextlib.closing(batches), contextlib.closing(steps):  # ends the reading threads, and an open trace
            for step in steps:
                with self.clock.spending("input"):
                    batch = place_batch(next(batches), mesh)
                if step == start + 1:
                    with self.clock.spending("compile"):
                        compile_together(train_step, state, batch)
                with jax.transfer_guard("disallow"):
                    state, metrics = train_step(state, batch)  # returns at once, while the devices compute
                self.monitor.step_dispatched(step, metrics)  # waits for the step before this one
                self.watchdog.progress(f"step {step}")

                due, stopping = step in run.checkpoint_steps, self.stop.requested()
                if due or stopping:
                    self._save(step, state)
                    stopping = stopping or self.stop.requested()  # SIGTERM may come during the save
                # Leave before the scoring: it takes longer than an engine waits, and the resumed run scores this
                # checkpoint. Leave after the last step too, because the caller may have more runs to train.
                if stopping:
                    raise SystemExit(RESTART_EXIT_CODE)
                if due:
                    self._score(step, state)

    def _save(self, step: int, state: TrainState) -> None:
        """Write a checkpoint after checking that the loss is finite: a diverged state is never saved."""
        self.monitor.wait_for_step()
        self.monitor.flush()
        self.watchdog.progress(f"saving step {step}")
        with self.clock.spending("checkpoint"):
            self.checkpointer.save(step, state, _checkpoint_meta(self.job, step, self.clock))

    def _score(self, step: int, state: TrainState) -> None:
        """Call `on_checkpoint` for a saved step. SIGTERM interrupts the call, and the resumed run repeats it."""
        if self.on_checkpoint is None:
            return
        self.watchdog.progress(f"scoring step {step}")
        with self.stop.leaving_at_once(), self.clock.spending("evaluate"):
            losses = self.on_checkpoint(step, state.params)
        if losses:
            self.monitor.log_evaluation(step, losses)


def _check_same_run(run: RunConfig, meta: CheckpointMeta, expected: CheckpointMeta, folder: epath.Path) -> None:
    """Refuse to continue a run with another config or other data than the run was begun with.

    Args:
        run: the run.
        meta: metadata of the checkpoint.
        expected: the metadata that this process would write at the same step.
        folder: folder of the checkpoint, for the message.

    Raises:
        LosslineError: the two differ. The message names the difference.
    """
    fix = "restore what the run was begun with, or train into another folder"
    for name, label in (("run_fingerprint", "config"), ("data_fingerprint", "training data")):
        if getattr(meta, name) != getattr(expected, name):
            raise LosslineError(
                f"{folder}: this run was begun with another {label} (fingerprint {getattr(meta, name)}, now "
                f"{getattr(expected, name)}); {fix}"
            )
    refuse_other_code(meta.code, run, str(folder))
    if meta.next_global_example != expected.next_global_example:
        raise LosslineError(
            f"{folder}: stands at sequence {meta.next_global_example}, but step {meta.step} of this config "
            f"is at {expected.next_global_example}; {fix}"
        )


def _checkpoint_meta(job: TrainingJob, step: int, clock: RunTimer) -> CheckpointMeta:
    """Return the metadata of a checkpoint that this process saves at `step`."""
    hardware = hardware_of(job.mesh)
    return CheckpointMeta(
        step=step,
        next_global_example=step * job.run.batch_size,
        data_fingerprint=job.source.fingerprint,
        run_fingerprint=fingerprint(job.run),
        seconds=clock.seconds(),
        num_devices=hardware.num_devices,
        device_kind=hardware.device_kind,
        code=code_hashes(job.run),
    )


def _finish(job: TrainingJob, clock: RunTimer) -> RunResult:
    """Write the totals of the run to done.json, and return them."""
    tokens, seconds = job.run.num_steps * job.run.tokens_per_step, clock.seconds()
    step_seconds, hardware = max(seconds["train"] + seconds["input"], 1e-3), hardware_of(job.mesh)
    result = RunResult(
        run_fingerprint=fingerprint(job.run),
        step=job.run.num_steps,
        tokens=tokens,
        tokens_per_second=round(tokens / step_seconds, 1),
        wall_seconds=seconds["wall"],
        compile_seconds=seconds["compile"],
        seconds=seconds,
        num_devices=hardware.num_devices,
        device_kind=hardware.device_kind,
        num_processes=hardware.num_processes,
        mfu=hardware.mfu(job.flops_per_token * tokens, step_seconds),
    )
    if is_main_process():
        write_result(job.run_dir, result)
    return result


def _finished_result(run: RunConfig, run_dir: RunDir) -> RunResult | None:
    """Return the totals of a run that is done. None: the run is not done.

    Raises:
        LosslineError: another config was trained in this folder.
    """
    stored_result = from_main_process(lambda: to_json(read_result(run_dir)))
    if stored_result is None:
        return None
    result = from_json(RunResult, stored_result)
    if result.run_fingerprint != fingerprint(run):
        raise LosslineError(
            f"{run_dir.done_file}: another config was trained here (fingerprint {result.run_fingerprint}, "
            f"now {fingerprint(run)}); restore that config, or train into another folder"
        )
    return result
