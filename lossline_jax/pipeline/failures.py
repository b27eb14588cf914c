"""Collect the errors of failed runs while work continues with the next run, and raise them at the end."""

from collections.abc import Callable, Mapping, Sequence

from lossline_jax import logs
from lossline_jax.config.study import RunConfig
from lossline_jax.errors import LosslineError, RunFailed, RunLocked


def for_each_run(runs: Sequence[RunConfig], work: Callable[[RunConfig], None]) -> dict[str, LosslineError]:
    """Call `work` for every run, and return the errors of the runs that failed or are locked, by run id."""
    failures: dict[str, LosslineError] = {}
    for k, run in enumerate(runs):
        logs.info(f"[{k + 1}/{len(runs)}] {run.run_id}")
        try:
            work(run)
        except (RunFailed, RunLocked) as failure:
            failures[run.run_id] = failure
            if len(runs) > 1:
                logs.info(f"left out: {failure}")
    return failures


def raise_failures(failures: dict[str, LosslineError], problems: Mapping[str, str] | None = None) -> None:
    """Raise one error for all failures. Do nothing if there are none.

    Args:
        failures: errors of runs, by run id.
        problems: reasons why evaluation sets were left out, by the name of the set. Each reason is logged on its own
            line. None: no set was left out.

    Raises:
        RunLocked: other processes hold all the runs that failed.
        RunFailed: runs failed.
        LosslineError: an evaluation set was left out, or the one error of a single run.
    """
    problems = problems or {}
    reasons = list(problems.values())
    if len(failures) + len(reasons) == 1:
        raise next(iter(failures.values()), None) or LosslineError(reasons[0])
    for reason in reasons:
        logs.info(f"left out: {reason}")
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures and all(isinstance(failure, RunLocked) for failure in failures.values()):
        raise RunLocked(f"another process works on {', '.join(failures)}; run again when it is done")
    if failures:
        runs = ", ".join(failures)
        raise RunFailed(f"{len(failures)} runs failed or are busy: {runs}; `lossline-jax status` tells why")
    if reasons:
        raise LosslineError(f"{len(reasons)} evaluation sets cannot be scored: {', '.join(problems)}; see above")
