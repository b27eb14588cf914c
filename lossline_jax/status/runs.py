"""How far each run is, how long it has to go and what it has cost: from the study's folder alone. No jax."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.distributed.chips import SECONDS_PER_HOUR
from lossline_jax.formatting import human_seconds
from lossline_jax.losses.row_count import read_suite_sets
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import lock_holder
from lossline_jax.storage.run_records import newest_checkpoint, read_failure, read_result
from lossline_jax.storage.step_log import read_step_log as read_step_rows
from lossline_jax.weights.registry import scored_models

State = Literal["running", "failed", "done", "stopped", "pending"]


@dataclass(frozen=True)
class Cost:
    """What a run has used of its devices, up to its end or its newest checkpoint, over all its restarts."""

    chip_hours: float  # wall time x devices
    device_kind: str  # jax's name of them


@dataclass(frozen=True)
class RunStatus:
    """One run as its folder shows it."""

    run_id: str
    state: State
    note: str  # why it failed, how long it took, since when it stands still
    step: int  # the last that was logged
    num_steps: int
    loss_nats_per_token: float | None
    tokens_per_second: float | None  # None: it is not running, or has not logged a step
    seconds_left: float | None  # of training, at that speed


def run_status(run: RunConfig, directory: RunDir, last: dict | None) -> RunStatus:
    """The status of a run whose last logged row is `last` (`last_row`)."""
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
    """The last row of the run's step log; None before the first."""
    logged = read_step_rows(directory)
    return logged[-1] if logged else None


def log_note(run: RunConfig, directory: RunDir, last: dict | None) -> str:
    """Words on the log of a run that is done, where it lacks steps, to stand at the end of a note; else nothing."""
    logged = last["step"] if last else 0
    if logged == run.num_steps or not directory.done_file.exists():
        return ""
    return f"; {directory.steps_file.name} lacks its rows after step {logged}, restore it from a copy"


def _run_state(run: RunConfig, directory: RunDir, last: dict | None) -> tuple[State, str]:
    if (writer := lock_holder(directory.lock_file)) is not None:
        if writer.host and not writer.is_of_this_machine:
            return "running", f"on {writer.host}, last sign {human_seconds(writer.age_seconds)} ago"
        return "running", "" if last else "starting"
    if (failure := read_failure(directory)) is not None:
        return "failed", failure.reason
    if (result := read_result(directory)) is not None:
        return "done", human_seconds(result.wall_seconds) + log_note(run, directory, last)
    if last is None:
        return "pending", ""
    age = max(0.0, time.time() - last["time"])  # the clock of this machine, or of that one, may have been set
    return "stopped", f"last step {human_seconds(age)} ago; the same command resumes it"


def study_seconds_left(study: StudyConfig, statuses: Sequence[RunStatus]) -> float | None:
    """Seconds of training left of all runs that may still end, at the speed of those that run; None: none runs."""
    speed = sum(status.tokens_per_second or 0.0 for status in statuses)
    left = sum(
        run.tokens_per_step * (run.num_steps - status.step)
        for run, status in zip(study.runs, statuses, strict=True)
        if status.state not in ("done", "failed")
    )
    return left / speed if speed else None


def failed_runs(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Return why each failed run failed, by run id. These have no rows in the losses table and no part in the fits."""
    failures = {run.run_id: read_failure(folder.run(run.run_id)) for run in study.runs}
    return {run_id: failure.reason for run_id, failure in failures.items() if failure is not None}


def run_cost(directory: RunDir) -> Cost | None:
    """Return what a run has cost so far.

    None: it has no checkpoint yet, or its devices were not written down.
    """
    record = read_result(directory) or newest_checkpoint(directory)
    if record is None or record.wall_seconds is None or record.num_devices is None or record.device_kind is None:
        return None
    return Cost(record.wall_seconds * record.num_devices / SECONDS_PER_HOUR, record.device_kind)


def strangers_note(study: StudyConfig, folder: StudyDir) -> str:
    """Words on runs, models and rows in the folder that the study does not know, to end a line with; else nothing."""
    known = {run.run_id for run in study.runs} | {entry.model.run_id for entry in scored_models(folder)}
    places = (folder.run("").root, "*"), (folder.imported, "*"), (folder.loss_rows("").parent, "*.jsonl")
    paths = [path for place, pattern in places for path in sorted(place.glob(pattern))]
    others = [path for path in paths if path.name.removesuffix(".jsonl") not in known and path.name[0] != "."]
    if not others:
        return ""
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"; left out, of no run or model of this study: {others[0]}{more}"


def suite_sets(folder: StudyDir) -> tuple[dict[str, str], dict]:
    """The suite that each run is scored on, by run id, and the sets of each suite; empty before `prepare`."""
    prepared = folder.prepared_file.exists()
    suites = read_json(folder.prepared_file, {"suites": dict})["suites"] if prepared else {}
    return suites, {suite: read_suite_sets(folder, suite) for suite in set(suites.values())}
