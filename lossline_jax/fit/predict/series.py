"""What is predicted: one loss over a set of runs, as a function of size and tokens or of another loss."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import LosslineError

SAME_BUDGET = 0.1  # span of log C that is one level
MAX_LEVELS = 12  # more distinct budgets than this are put into as many bins of equal width in log C


@dataclass(frozen=True, eq=False)
class RunPoints:
    """Runs, or runs that nobody has trained yet. Arrays are (n,)."""

    budget: np.ndarray  # training FLOPs so far
    sizes: dict[str, np.ndarray]  # parameters by what is counted; the first is the usual one
    tokens: np.ndarray
    x: np.ndarray | None = None  # the other loss, where one loss is predicted from another
    final_budget: np.ndarray | None = None  # of the run that the row is a checkpoint of; None: every row is a run

    def __getitem__(self, rows) -> "RunPoints":
        return RunPoints(
            self.budget[rows],
            {name: size[rows] for name, size in self.sizes.items()},
            self.tokens[rows],
            None if self.x is None else self.x[rows],
            None if self.final_budget is None else self.final_budget[rows],
        )

    @property
    def run_budget(self) -> np.ndarray:
        """What splits rows into fitted and held out: checkpoints go with their run, or it would predict itself."""
        return self.budget if self.final_budget is None else self.final_budget


@dataclass(frozen=True, eq=False)
class LossSeries:
    """One loss of the runs of one group. Series of a `kind` are alike: they are judged together."""

    name: str
    kind: str
    loss: str  # what y is; series of a kind with one loss share their error
    rows: RunPoints
    y: np.ndarray

    def __getitem__(self, rows) -> "LossSeries":
        return dataclasses.replace(self, rows=self.rows[rows], y=self.y[rows])

    @property
    def is_line(self) -> bool:
        return self.rows.x is not None


def budget_levels(series: list[LossSeries]) -> np.ndarray:
    """(K,) upper edges of the levels of training budget that the series share, ascending, in FLOPs.

    Raises:
        LosslineError: a budget is missing, zero or negative.
    """
    budgets = np.concatenate([s.rows.run_budget for s in series])
    if not np.all(np.isfinite(budgets)) or np.any(budgets <= 0):
        raise LosslineError("training budgets must be positive numbers of FLOPs; a row has none")
    logs = np.unique(np.log(budgets))
    starts = [logs[0]]
    for value in logs:
        if value - starts[-1] > SAME_BUDGET:
            starts.append(value)
    if len(starts) > MAX_LEVELS:
        edges = np.linspace(logs[0], logs[-1], MAX_LEVELS + 1)[1:]
        edges = edges[np.histogram(logs, np.append(logs[0], edges))[0] > 0]
        return np.exp(edges) * (1 + 1e-9)
    last = [logs[logs < start].max() for start in starts[1:]] + [logs[-1]]
    return np.exp(last) * (1 + 1e-9)
