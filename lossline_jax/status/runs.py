"""State, progress, time left and cost of each run, read from the study's folder alone. No jax."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.distributed.chips import SECONDS_PER_HOUR
from lossline_jax.formatting import human_seconds
from lossline_jax.losses.row_count import SuiteSets, read_suite_sets
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import lock_holder
from lossline_jax.storage.run_records import newest_checkpoint, read_failure, read_result
from lossline_jax.storage.step_log import read_step_log as read_step_rows

State = Literal["running", "failed", "done", "stopped", "pending"]


@dataclass(frozen=True)
class Cost:
    """The device time of a run over all its restarts, up to its end or its newest checkpoint."""

    chip_hours: float  # wall time x devices
    device_kind: str  # jax's name of the devices


@dataclass(frozen=True)
class RunStatus:
    """The status of one run, as the run's folder shows it."""

    run_id: str
    state: State
    note: str  # failed: why; done: the wall time; stopped: the time since the last step; running: where
    step: int  # the last logged step
    num_steps: int
    loss_nats_per_token: float | None  # of that step; None: no step is logged
    tokens_per_second: float | None  # None: the run is not running, or has not logged a step
    seconds_left: float | None  # of training, at that speed; None: the speed is not known


def run_status(run: RunConfig, directory: RunDir, last: dict | None) -> RunStatus:
    """Return the status of a run.

    Args:
        run: the run.
        directory: the run's folder.
        last: the last row of the step log, as `last_row` reads it. None: no step is logged.
    """
    state, note = _run_state(run, directory, last)
    step = run.num_steps if state == "done" else last["step"] if last else 0
    speed = last["tokens_per_second"] if last and state == "running" else None
    return RunStatus(
        run_id=run.run_id,
        state=state,
        note=note,
        step=step,
        num_steps=run.num_steps,
        loss_nats_per_token=last["loss_nats_per_token"] if last else None,
        tokens_per_second=speed,
        seconds_left=run.tokens_per_step * (run.num_steps - step) / speed if speed else None,
    )


def last_row(directory: RunDir) -> dict | None:
    """Return the last row of the run's step log. None: no step is logged."""
    logged = read_step_rows(directory)
    return logged[-1] if logged else None


def log_note(run: RunConfig, directory: RunDir, last: dict | None) -> str:
    """Return the end of a note about a finished run whose step log has missing rows; else an empty text.

    Args:
        run: the run.
        directory: the run's folder.
        last: the last row of the step log. None: no step is logged.
    """
    logged = last["step"] if last else 0
    if logged == run.num_steps or not directory.done_file.exists():
        return ""
    return f"; {directory.steps_file.name} has no rows after step {logged}, restore it from a copy"


def _run_state(run: RunConfig, directory: RunDir, last: dict | None) -> tuple[State, str]:
    """Return the state of a run and its note. A held lock means that the run is running."""
    if (holder := lock_holder(directory.lock_file)) is not None:
        if holder.host and not holder.is_of_this_machine:
            return "running", f"on {holder.host}, last heartbeat {human_seconds(holder.age_seconds)} ago"
        return "running", "" if last else "starting"
    if (failure := read_failure(directory)) is not None:
        return "failed", failure.reason
    if (result := read_result(directory)) is not None:
        return "done", human_seconds(result.wall_seconds) + log_note(run, directory, last)
    if last is None:
        return "pending", ""
    age = max(0.0, time.time() - last["time"])  # negative where the clock of one of the two machines was changed
    return "stopped", f"last step {human_seconds(age)} ago; the same command resumes it"


def study_seconds_left(study: StudyConfig, statuses: Sequence[RunStatus]) -> float | None:
    """Return the seconds of training left in all runs that are neither done nor failed.

    Args:
        study: the study.
        statuses: the status of each run, in the order of the study.

    Returns:
        Seconds at the summed speed of the running runs. None: no run is running.
    """
    speed = sum(status.tokens_per_second or 0.0 for status in statuses)
    left = sum(
        run.tokens_per_step * (run.num_steps - status.step)
        for run, status in zip(study.runs, statuses, strict=True)
        if status.state not in ("done", "failed")
    )
    return left / speed if speed else None


def failed_runs(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Return why each failed run failed, by run id. Failed runs have no rows in the losses table and are not fitted."""
    failures = {run.run_id: read_failure(folder.run(run.run_id)) for run in study.runs}
    return {run_id: failure.reason for run_id, failure in failures.items() if failure is not None}


def run_cost(directory: RunDir) -> Cost | None:
    """Return the cost of a run until now. None: it has no checkpoint yet, or its devices were not recorded."""
    record = read_result(directory) or newest_checkpoint(directory)
    if record is None or record.wall_seconds is None or record.num_devices is None or record.device_kind is None:
        return None
    return Cost(record.wall_seconds * record.num_devices / SECONDS_PER_HOUR, record.device_kind)


def sets_of_runs(folder: StudyDir) -> dict[str, SuiteSets]:
    """Return the evaluation sets that each run is scored on, by run id. It is empty before `prepare`.

    Args:
        folder: the study's folder.
    """
    prepared = folder.prepared_file.exists()
    suites = read_json(folder.prepared_file, {"suites": dict})["suites"] if prepared else {}
    sets = {suite: read_suite_sets(folder, suite) for suite in set(suites.values())}
    return {run_id: sets[suite] for run_id, suite in suites.items()}
