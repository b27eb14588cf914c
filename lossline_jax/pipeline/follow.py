"""Scoring the checkpoints of runs while other processes train them."""

import time
from collections.abc import Callable, Sequence

from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.processes import from_main_process
from lossline_jax.errors import LosslineError, Restart, RunFailed, RunLocked
from lossline_jax.pipeline.losses_table import write_losses
from lossline_jax.pipeline.runner import StudyRunner
from lossline_jax.storage.run_records import read_failure


def follow_runs(
    runner: StudyRunner, runs: Sequence[RunConfig], poll_seconds: float, info: Callable[[str], None]
) -> dict[str, LosslineError]:
    """Score what is saved, write the losses table if there is more in it, wait, look again; until all runs ended.

    Runs that are not begun yet are waited for, and so are those whose checkpoints another process scores. What goes
    wrong with one run stops no other.

    Args:
        poll_seconds: between two looks.
        info: gets a line whenever the table has grown, and for each thing that goes wrong.

    Returns:
        What could not be trained or scored, by run id.
    """
    waiting, failures, written = list(runs), {}, -1
    while waiting:
        # Asked before scoring: a run may save its last checkpoint and end in between.
        ended = [run for run in waiting if runner.context(run).will_add_no_checkpoints()]
        busy, new_failures = _score_saved(runner, waiting)
        for run_id, failure in new_failures.items():
            if str(failure) != str(failures.get(run_id)):
                info(f"left out: {failure}")
        failures |= new_failures
        waiting = [run for run in waiting if run not in ended or run.run_id in busy]
        num_added = runner.scorers.num_added
        if num_added > written or not waiting:
            table = from_main_process(lambda: write_losses(runner.opened, runner.imported)) or "no checkpoint yet"
            written = num_added
            info(f"{table}; waiting for {len(waiting)} of {len(runs)} runs" if waiting else table)
        if waiting:
            time.sleep(poll_seconds)
    return failures | _failed_trainings(runner, runs)


def _score_saved(runner: StudyRunner, runs: Sequence[RunConfig]) -> tuple[set[str], dict[str, LosslineError]]:
    """Score what is there of each run; returns the ids that another process is scoring, and what went wrong."""
    busy: set[str] = set()
    failures: dict[str, LosslineError] = {}
    for run in runs:
        try:
            runner.evaluate(run)
        except RunLocked:
            busy.add(run.run_id)
        except Restart:
            raise
        except LosslineError as failure:
            failures[run.run_id] = failure
    return busy, failures


def _failed_trainings(runner: StudyRunner, runs: Sequence[RunConfig]) -> dict[str, LosslineError]:
    failures = {run.run_id: read_failure(runner.context(run).directory) for run in runs}
    return {
        run_id: RunFailed(f"run {run_id}: {failure.reason}")
        for run_id, failure in failures.items()
        if failure is not None
    }
