"""Which runs of a manifest are to be started (again), as engines take the indices of an array. No jax."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.losses.row_count import NO_SETS, count_rows
from lossline_jax.status.runs import last_row, run_status, suite_sets
from lossline_jax.storage.paths import StudyDir


@dataclass(frozen=True)
class Standing:
    """One line of a manifest: whether its run still needs a machine."""

    index: int
    run_id: str
    state: Literal["done", "running", "failed", "open"]  # open: not begun, stopped, or some row of it lacks
    reason: str = ""  # of a failed one


@dataclass(frozen=True)
class Resubmission:
    """The runs of a manifest, and which of them to start."""

    standings: tuple[Standing, ...]
    failed_too: bool

    @property
    def chosen(self) -> tuple[Standing, ...]:
        """The runs to start: those that are open, and the failed ones if they are to be tried again."""
        states = ("open", "failed") if self.failed_too else ("open",)
        return tuple(standing for standing in self.standings if standing.state in states)

    @property
    def indices(self) -> str:
        """Of the runs to start, `0,3,5-7`; empty where there is none."""
        return index_ranges([standing.index for standing in self.chosen])

    @property
    def notes(self) -> list[str]:
        """What is left out and why, a line each."""
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
    """Look at the runs of a manifest, in its order. A run is done when its training is and no row of it lacks.

    Raises:
        LosslineError: the manifest names a run that the study does not have.
    """
    suites, sets = suite_sets(folder)
    known = {run.run_id: run for run in study.runs}
    if foreign := set(run_ids) - known.keys():
        raise LosslineError(
            f"{folder.root}: the manifest has runs that the study does not have ({min(foreign)}); "
            "write it again: lossline-jax plan STUDY.py --manifest"
        )
    standings = []
    for index, run_id in enumerate(run_ids):
        run, directory = known[run_id], folder.run(run_id)
        status = run_status(run, directory, last_row(directory))
        count = count_rows(
            folder,
            run_id,
            run.checkpoint_steps,
            set_names=study.suite.set_names,
            sets=sets.get(suites.get(run_id), NO_SETS),
        )
        if status.state == "running":
            standings.append(Standing(index, run_id, "running"))
        elif status.state == "failed" or (status.state == "done" and count.reason):
            reason = status.note if status.state == "failed" else count.reason
            standings.append(Standing(index, run_id, "failed", reason))
        else:
            standings.append(Standing(index, run_id, "open" if status.state != "done" or count.lacking else "done"))
    return Resubmission(tuple(standings), failed_too)


def index_ranges(indices: Sequence[int]) -> str:
    """Ascending indices as `0,3,5-7`, the form of SLURM's --array."""
    if not indices:
        return ""
    breaks = [k + 1 for k, (left, right) in enumerate(pairwise(indices)) if right != left + 1]
    groups = [indices[a:b] for a, b in zip([0, *breaks], [*breaks, len(indices)], strict=True)]
    return ",".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)
