"""Go on with the other runs after one has failed, and raise what failed at the end."""

from collections.abc import Callable, Mapping, Sequence

from lossline_jax import logs
from lossline_jax.config.study import RunConfig
from lossline_jax.errors import LosslineError, RunFailed, RunLocked


def for_each_run(runs: Sequence[RunConfig], work: Callable[[RunConfig], None]) -> dict[str, LosslineError]:
    """Do `work` for every run, and return the errors of the runs that failed or are busy, by run id."""
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
    """Raise what went wrong.

    Args:
        failures: by run id.
        problems: reasons by the name of an evaluation set that was left out; each gets a line of its own.
    """
    reasons = list((problems or {}).values())
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
