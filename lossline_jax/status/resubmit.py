"""Choose the runs of a manifest that must be started or started again, as indices of an array job. No jax."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.losses.row_count import NO_SETS, count_rows
from lossline_jax.status.runs import last_row, run_status, sets_of_runs
from lossline_jax.storage.paths import StudyDir


@dataclass(frozen=True)
class Standing:
    """One line of a manifest with the state of its run."""

    index: int  # line of the manifest, from 0
    run_id: str
    state: Literal["done", "running", "failed", "open"]  # open: not started, stopped, or some loss row is missing
    reason: str = ""  # why the run failed


@dataclass(frozen=True)
class Resubmission:
    """The runs of a manifest, and the choice of the runs to start."""

    standings: tuple[Standing, ...]
    failed_too: bool  # failed runs are started again

    @property
    def chosen(self) -> tuple[Standing, ...]:
        """The runs to start: the open runs, and with `failed_too` the failed runs."""
        states = ("open", "failed") if self.failed_too else ("open",)
        return tuple(standing for standing in self.standings if standing.state in states)

    @property
    def indices(self) -> str:
        """The indices of the runs to start, such as `0,3,5-7`; empty if there is no run to start."""
        return index_ranges([standing.index for standing in self.chosen])

    @property
    def notes(self) -> list[str]:
        """Lines for the console: the number of runs to start, then each run that is left out and why."""
        count = Counter(standing.state for standing in self.standings)
        total = len(self.standings)
        if count["done"] == total:
            return [f"all {total} runs are done"]
        lines = [f"{len(self.chosen)} of {total} runs to start; {count['done']} are done"]
        for standing in self.standings:
            if standing.state == "running":
                lines.append(f"left out: {standing.index} {standing.run_id}: running")
            elif standing.state == "failed" and not self.failed_too:
                lines.append(
                    f"left out: {standing.index} {standing.run_id}: failed: {standing.reason} (--failed includes it)"
                )
        return lines


def resubmission(study: StudyConfig, folder: StudyDir, run_ids: Sequence[str], failed_too: bool) -> Resubmission:
    """Read the state of each run of a manifest, in the manifest's order.

    A run is done when its training is done and no loss row is missing.

    Args:
        study: the study of the manifest.
        folder: the study's folder.
        run_ids: the lines of the manifest.
        failed_too: failed runs are started again.

    Raises:
        LosslineError: the manifest names a run that the study does not have.
    """
    sets = sets_of_runs(folder)
    known = {run.run_id: run for run in study.runs}
    if unknown := set(run_ids) - known.keys():
        raise LosslineError(
            f"{folder.root}: the manifest has runs that the study does not have ({min(unknown)}); "
            "write it again: lossline-jax plan STUDY.py --manifest"
        )
    standings = []
    for index, run_id in enumerate(run_ids):
        run, directory = known[run_id], folder.run(run_id)
        status = run_status(run, directory, last_row(directory))
        run_sets = sets.get(run_id, NO_SETS)
        count = count_rows(folder, run_id, run.checkpoint_steps, set_names=study.suite.set_names, sets=run_sets)
        if status.state == "running":
            standings.append(Standing(index, run_id, "running"))
        elif status.state == "failed" or (status.state == "done" and count.reason):
            reason = status.note if status.state == "failed" else count.reason
            standings.append(Standing(index, run_id, "failed", reason))
        else:
            standings.append(Standing(index, run_id, "open" if status.state != "done" or count.lacking else "done"))
    return Resubmission(tuple(standings), failed_too)


def index_ranges(indices: Sequence[int]) -> str:
    """Return ascending indices in the form of SLURM's `--array`: `0,3,5-7`."""
    if not indices:
        return ""
    breaks = [k + 1 for k, (left, right) in enumerate(pairwise(indices)) if right != left + 1]
    groups = [indices[a:b] for a, b in zip([0, *breaks], [*breaks, len(indices)], strict=True)]
    return ",".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)
