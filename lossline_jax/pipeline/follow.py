"""Score the checkpoints of runs while other processes train them."""

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
    """Score saved checkpoints and write the losses table, again and again until all runs have ended.

    The function also waits for runs that have not begun, and for runs whose checkpoints another process scores. An
    error of one run does not stop the work on the next run.

    Args:
        runner: the runner, which has opened the runs.
        runs: the runs to follow.
        poll_seconds: pause between two looks for new checkpoints, in seconds.
        info: called with a line of text when the table has grown, and once for each new error.

    Returns:
        The errors of runs that could not be trained or scored, by run id.
    """
    waiting = list(runs)
    failures: dict[str, LosslineError] = {}
    written = -1  # rows that were added before the table was last written; -1: not written yet
    while waiting:
        # Before the scoring: a run that saves its last checkpoint and ends after this line is scored in the next round.
        ended = [run for run in waiting if runner.context(run).will_add_no_checkpoints()]
        busy, new_failures = _score_saved(runner, waiting)
        for run_id, failure in new_failures.items():
            if str(failure) != str(failures.get(run_id)):
                info(f"left out: {failure}")
        failures |= new_failures
        waiting = [run for run in waiting if run not in ended or run.run_id in busy]
        num_added = runner.scorers.num_added
        if num_added > written or not waiting:
            summary = from_main_process(lambda: write_losses(runner.opened, runner.imported)) or "no checkpoint yet"
            written = num_added
            info(f"{summary}; waiting for {len(waiting)} of {len(runs)} runs" if waiting else summary)
        if waiting:
            time.sleep(poll_seconds)
    return failures | _failed_trainings(runner, runs)


def _score_saved(runner: StudyRunner, runs: Sequence[RunConfig]) -> tuple[set[str], dict[str, LosslineError]]:
    """Score the saved checkpoints of each run.

    Returns:
        The ids of the runs that another process is scoring, and the errors by run id.
    """
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
