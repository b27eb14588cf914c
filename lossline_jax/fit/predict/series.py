"""Hold the points to predict: one loss over a set of runs, as a function of size and tokens or of another loss."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import LosslineError

SAME_BUDGET = 0.1  # natural log of a ratio of FLOPs: budgets within this span are one level. A convention
MAX_LEVELS = 12  # levels of budget at most, a convention; more budgets are put into this many equal bins of log C


@dataclass(frozen=True, eq=False)
class RunPoints:
    """Runs that were trained, or runs to predict. Arrays are (n,)."""

    budget: np.ndarray  # training FLOPs so far
    sizes: dict[str, np.ndarray]  # parameters, by what is counted; the first count is the usual one
    tokens: np.ndarray  # training tokens so far
    x: np.ndarray | None = None  # the other loss; None: the loss is predicted from size and tokens
    final_budget: np.ndarray | None = None  # FLOPs of the run that the row is a checkpoint of; None: every row is a run

    def __getitem__(self, rows: np.ndarray) -> "RunPoints":
        return RunPoints(
            self.budget[rows],
            {name: size[rows] for name, size in self.sizes.items()},
            self.tokens[rows],
            None if self.x is None else self.x[rows],
            None if self.final_budget is None else self.final_budget[rows],
        )

    @property
    def run_budget(self) -> np.ndarray:
        """The budgets that divide rows into fitted and held out ones.

        Checkpoints go with their run. A run would otherwise predict itself.
        """
        return self.budget if self.final_budget is None else self.final_budget

    def other_loss(self) -> np.ndarray:
        """Return the losses that y is predicted from.

        Raises:
            LosslineError: the rows have only size and tokens.
        """
        if self.x is None:
            raise LosslineError("these rows have no other loss; give x to predict one loss from another")
        return self.x


@dataclass(frozen=True, eq=False)
class LossSeries:
    """One loss of the runs of one group. Series of the same `kind` are alike: their errors are pooled."""

    name: str
    kind: str
    loss: str  # the name of the loss `y`; series of one kind with the same loss share their error
    rows: RunPoints
    y: np.ndarray  # (n,) losses

    def __getitem__(self, rows: np.ndarray) -> "LossSeries":
        return dataclasses.replace(self, rows=self.rows[rows], y=self.y[rows])

    @property
    def is_line(self) -> bool:
        """True where the loss is predicted from another loss; False: from size and tokens."""
        return self.rows.x is not None


def budget_levels(series: list[LossSeries]) -> np.ndarray:
    """Return (K,) upper edges of the levels of training budget that the series share, ascending, in FLOPs.

    Args:
        series: all series of a table.

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
