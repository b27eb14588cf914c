"""What a run reports of its steps, one step late, so that the device never waits for the host."""

import math
import time
from typing import Any

import jax

from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.processes import is_first
from lossline_jax.rundir import RunDir, write_json
from lossline_jax.train.clock import Clock
from lossline_jax.train.progress import Progress
from lossline_jax.train.step import StepMetrics
from lossline_jax.train.steplog import StepLog


class Watch:
    """Checks every step's loss, logs some of them, and shows progress.

    Args:
        run: `study.RunConfig`.
        run_dir: gets steps.jsonl, and failed.json on a non-finite loss.
        start: steps done before.
        log_every: steps between two rows; the first and last step always get one.
        clock: of the run.
        show: progress on stderr.
    """

    def __init__(self, run: Any, run_dir: RunDir, start: int, log_every: int, clock: Clock, show: bool):
        if log_every < 1:
            raise LosslineError(f"execution.log_every: {log_every} is not a number of steps; give 1 or more")
        self._run, self._run_dir, self._log_every, self._clock = run, run_dir, log_every, clock
        writes = is_first()
        self._log = StepLog(run_dir, start) if writes else None
        self._progress = Progress(run.run_id, run.num_steps, start, show and writes)
        self._pending: tuple[int, StepMetrics] | None = None
        self._row_step, self._row_training = start, clock.training

    def dispatched(self, step: int, metrics: StepMetrics) -> None:
        """Step `step` is on its way to the devices: look at the one before."""
        self.settle()
        self._pending = (step, metrics)

    def settle(self) -> None:
        """Wait for the step on its way and look at it.

        Raises:
            RunFailed: its loss or gradient is not finite.
        """
        if self._pending is None:
            return
        step, on_device = self._pending
        self._pending = None
        metrics = StepMetrics(*(float(value) for value in jax.device_get(on_device)))
        if not (math.isfinite(metrics.loss_nats_per_token) and math.isfinite(metrics.grad_norm)):
            self._fail(step, metrics)
        row = self._row(step, metrics)
        self._progress.update(step, row["loss_nats_per_token"], row["step_seconds"], row["tokens_per_second"])
        if step == 1 or step % self._log_every == 0 or step == self._run.num_steps:
            self._row_step, self._row_training = step, self._clock.training
            if self._log is not None:
                self._log.append(row)

    def flush(self) -> None:
        """Make the log whole on disk."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        self._progress.close()

    def _row(self, step: int, metrics: StepMetrics) -> dict[str, Any]:
        # Over the steps since the last row: a single step is read one step late.
        step_seconds = (self._clock.training - self._row_training) / (step - self._row_step)
        return {
            "step": step,
            "tokens_seen": step * self._run.tokens_per_step,
            "loss_nats_per_token": metrics.loss_nats_per_token,
            "learning_rate": metrics.learning_rate,
            "grad_norm": metrics.grad_norm,
            "step_seconds": round(step_seconds, 6),
            "tokens_per_second": round(self._run.tokens_per_step / max(step_seconds, 1e-9), 1),
            "time": round(time.time(), 3),
        }

    def _fail(self, step: int, metrics: StepMetrics) -> None:
        self.flush()
        finite = math.isfinite(metrics.loss_nats_per_token)
        what = "gradient norm" if finite else "loss"
        value = metrics.grad_norm if finite else metrics.loss_nats_per_token
        reason = f"{what} is {value} at step {step} of {self._run.num_steps}"
        if self._log is not None:
            failure = {
                "step": step,
                "reason": reason,
                "learning_rate": metrics.learning_rate,
                "time": time.time(),
            }
            write_json(self._run_dir.failed_file, failure)
        raise RunFailed(
            f"{self._run_dir.root}: {reason} (learning rate {metrics.learning_rate:.3g}); lower "
            "optim.learning_rate or lengthen schedule.warmup_fraction"
        )
