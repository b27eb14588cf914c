"""Report the steps of a run, one step late, so that the devices never wait for the host."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax

from lossline_jax.distributed.devices import hardware_of, peak_memory_bytes
from lossline_jax.distributed.processes import is_main_process
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.storage.run_records import write_failure
from lossline_jax.storage.step_log import StepLog
from lossline_jax.train.job import TrainingJob
from lossline_jax.train.monitor.progress_bar import ProgressBar
from lossline_jax.train.monitor.timer import RunTimer
from lossline_jax.train.monitor.trackers import open_trackers
from lossline_jax.train.step import StepMetrics

# Names of the log of every run. An objective or an algorithm has other names for its own sums.
LOGGED = frozenset(
    (
        *("step", "tokens_seen", "loss_nats_per_token", "learning_rate", "grad_norm", "step_seconds"),
        *("input_wait_seconds", "tokens_per_second", "mfu", "memory_bytes", "time", "checksum"),
    )
)


class StepMonitor:
    """A monitor that checks the loss of every step, logs some steps, and shows progress.

    Args:
        job: the job. Its folder gets steps.jsonl, and failed.json on a loss that is not finite. The first and the
            last step always get a row in steps.jsonl.
        clock: the timer of the run.
        start: number of steps done before.
        show: whether to show progress on stderr.

    Raises:
        LosslineError: execution.log_every is below 1.
    """

    def __init__(self, job: TrainingJob, clock: RunTimer, start: int, show: bool) -> None:
        run, run_dir, execution = job.run, job.run_dir, job.execution
        if execution.log_every < 1:
            raise LosslineError(
                f"execution.log_every: {execution.log_every} is not a valid number of steps; give 1 or more"
            )
        self._run, self._run_dir, self._log_every, self._clock = run, run_dir, execution.log_every, clock
        self._mesh, self._hardware = job.mesh, hardware_of(job.mesh)
        self._flops_per_step = job.flops_per_token * run.tokens_per_step
        writes = is_main_process()
        self._log = StepLog(run_dir, start) if writes else None
        self._trackers = open_trackers(run, run_dir, execution, self._log) if self._log else []
        self._progress = ProgressBar(run.run_id, run.num_steps, start, show and writes)
        self._pending: tuple[int, StepMetrics[jax.Array], float] | None = None
        self._begin_row(start, clock.input)

    def step_dispatched(self, step: int, metrics: StepMetrics[jax.Array]) -> None:
        """Remember a step that was sent to the devices, and report the step before it.

        Args:
            step: number of the step.
            metrics: its metrics, which the devices may still be computing.
        """
        self.wait_for_step()
        self._pending = (step, metrics, self._clock.input)  # without the wait for the batch of the next step

    def wait_for_step(self) -> None:
        """Wait for the last step that was sent to the devices, and report it.

        Raises:
            RunFailed: the loss or the gradient of the step is not finite.
        """
        if self._pending is None:
            return
        step, on_device, waited = self._pending
        self._pending = None
        metrics = jax.tree.map(float, jax.device_get(on_device))
        if not (math.isfinite(metrics.loss_nats_per_token) and math.isfinite(metrics.grad_norm)):
            self._fail(step, metrics)
        row = self._row(step, metrics, waited)
        self._progress.update(row)
        if step == 1 or step % self._log_every == 0 or step == self._run.num_steps:
            self._begin_row(step, waited)
            if self._log is not None:
                row["memory_bytes"] = peak_memory_bytes(self._mesh)
                self._log.append(row)
                for tracker in self._trackers:
                    tracker.log(row)

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        """Log the losses of a scored checkpoint, in nats per token by evaluation set."""
        for tracker in self._trackers:
            tracker.log_evaluation(step, losses)

    def flush(self) -> None:
        """Write all logged rows to disk."""
        if self._log is not None:
            self._log.flush()
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Close the progress bar and the trackers."""
        self._progress.close()
        for tracker in self._trackers:
            tracker.close()

    def _begin_row(self, after_step: int, waited: float) -> None:
        self._last_row_step, self._last_row_stepping, self._last_row_waited = after_step, self._clock.stepping, waited

    def _row(self, step: int, metrics: StepMetrics[float], waited: float) -> dict[str, Any]:
        # Mean over the steps since the last row: a single step is reported one step late, so its own time is unknown.
        steps = step - self._last_row_step
        step_seconds = (self._clock.stepping - self._last_row_stepping) / steps
        return {
            "step": step,
            "tokens_seen": step * self._run.tokens_per_step,
            "loss_nats_per_token": metrics.loss_nats_per_token,
            "learning_rate": metrics.learning_rate,
            "grad_norm": metrics.grad_norm,
            "step_seconds": round(step_seconds, 6),
            "input_wait_seconds": round((waited - self._last_row_waited) / steps, 6),  # included in step_seconds
            "tokens_per_second": round(self._run.tokens_per_step / max(step_seconds, 1e-9), 1),
            "mfu": self._hardware.mfu(self._flops_per_step, step_seconds),
            "time": round(time.time(), 3),
            **metrics.extra,
        }

    def _fail(self, step: int, metrics: StepMetrics[float]) -> None:
        self.flush()
        loss_is_finite = math.isfinite(metrics.loss_nats_per_token)
        quantity = "gradient norm" if loss_is_finite else "loss"
        value = metrics.grad_norm if loss_is_finite else metrics.loss_nats_per_token
        reason = f"{quantity} is {value} at step {step} of {self._run.num_steps}"
        if self._log is not None:
            write_failure(self._run_dir, reason, step=step, learning_rate=metrics.learning_rate)
        raise RunFailed(
            f"{self._run_dir.root}: {reason} (learning rate {metrics.learning_rate:.3g}); lower "
            "optim.learning_rate or lengthen schedule.warmup_fraction"
        )
