"""The points of one setting: losses with the compute that they took, by run."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np

from lossline_jax.fit.tables.settings import Setting


@dataclass(frozen=True, eq=False)
class ComputeCell:
    """All runs of one setting on one loss."""

    setting: Setting
    loss: np.ndarray  # (n,) positive
    log_compute: np.ndarray  # (n,) natural logarithm
    runs: np.ndarray  # (n,) the run of each point
    num_left_out: int = 0  # runs of the setting that are not among them: they have too few points of falling loss
    chosen: str = ""  # words for the points, where not all of a run count: ` on the frontier`
    # Last loss minus lowest earlier loss of the runs that clearly end above an earlier loss, also of those left out.
    late_rises: Mapping[str, float] = field(default_factory=dict)
    unusable: str = ""  # why the setting has no points: a value of it is no loss. "": it has points

    @property
    def levels(self) -> Mapping[str, str]:
        """The level of each factor."""
        return self.setting.levels

    @property
    def run_ids(self) -> list[str]:
        """The runs, in the order of the table."""
        return list(dict.fromkeys(self.runs.tolist()))

    @property
    def num_runs(self) -> int:
        """The number of runs."""
        return len(self.run_ids)

    def of_run(self, run: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses and the log compute of a run, in the order of the compute.

        Args:
            run: the run.
        """
        mask = self.runs == run
        order = np.argsort(self.log_compute[mask], kind="stable")
        return self.loss[mask][order], self.log_compute[mask][order]

    def only(self, mask: np.ndarray) -> "ComputeCell":
        """Return the cell with the marked points alone.

        Args:
            mask: (n,) bool.
        """
        points = (self.loss[mask], self.log_compute[mask], self.runs[mask])
        return ComputeCell(self.setting, *points, chosen=self.chosen, unusable=self.unusable)

    def without(self, runs: Set[str]) -> "ComputeCell":
        """Return the setting without these runs.

        Args:
            runs: the runs to leave out.
        """
        if not runs & set(self.run_ids):
            return self
        rises = {run: rise for run, rise in self.late_rises.items() if run not in runs}
        return replace(self.only(~np.isin(self.runs, list(runs))), num_left_out=self.num_left_out, late_rises=rises)

    def last_points(self) -> "ComputeCell":
        """Return the cell with the point of most compute of each run, the last one where several have it."""
        keep = np.zeros(self.loss.size, bool)
        for run in self.run_ids:
            of_run = np.flatnonzero(self.runs == run)
            most = self.log_compute[of_run] >= self.log_compute[of_run].max()
            keep[of_run[most][-1]] = True  # of equal compute the last
        return self.only(keep)

    def frontier(self, tolerance: float) -> "ComputeCell":
        """Return the cell with the point of least loss at each budget.

        Args:
            tolerance: neighbouring budgets whose logarithms differ by less count as one.
        """
        order = np.argsort(self.log_compute, kind="stable")
        budget = np.cumsum(np.diff(self.log_compute[order], prepend=-np.inf) > tolerance)
        keep = np.zeros(self.loss.size, bool)
        for number in np.unique(budget):
            at_budget = order[budget == number]
            keep[at_budget[np.argmin(self.loss[at_budget])]] = True
        return replace(self.only(keep), chosen=" on the frontier")


def why_unusable(reference: ComputeCell, level: ComputeCell) -> str:
    """Return the reason why one of two settings has no usable losses. Empty: both have.

    Args:
        reference: the setting of the reference level.
        level: the setting of the level.
    """
    if level.unusable:
        return f"its setting has no usable losses: {level.unusable}"
    return reference.unusable and f"the setting of the reference has no usable losses: {reference.unusable}"


@dataclass(frozen=True, eq=False)
class Displacement:
    """The distance of two settings in log compute at equal loss, at several losses.

    The first `num_by_loss` losses go from the highest common loss to the lowest. The others belong to budgets, and are
    NaN where the settings share no budget.
    """

    losses: np.ndarray  # (m,)
    num_by_loss: int
    reference_log_compute: np.ndarray  # (m,) at each loss
    level_log_compute: np.ndarray  # (m,)
    bounds: tuple[float, float]  # lowest and highest loss that both settings reach
    values: np.ndarray  # (m + 1,) ln(speedup) at each loss, and last the mean over the lower half
    # Deviations of the runs of each side: measured curves have (m + 1,) sums of squares, with their freedom.
    level_squares: np.ndarray
    level_freedom: int
    reference_squares: np.ndarray
    reference_freedom: int
    num_runs: int
    num_reference_runs: int
    # Power laws have (m + 1,) variances of their own, with their freedom. None: measured curves.
    variance: np.ndarray | None = None
    freedom: float = 0.0
    noise: float | None = None  # deviation of a run from its power law, in ln(compute)
    parameters: dict[str, float] | None = None
    misfit: float | None = None  # how far the power laws miss their points, in ln(compute); None: not known, or chance
