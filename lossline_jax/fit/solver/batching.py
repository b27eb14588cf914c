"""Lanes: rows of search coordinates with their data, gathered into blocks of few shapes.

The lane is the last axis, so that everything a compiled program does is elementwise work on vectors of lanes.
Points are padded to few lengths with weight 0, and lanes dealt out in blocks of one width: few programs serve all
data sets. Letters: B lanes, n points, P parameters.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.solver.problem import Problem

BLOCK = 64  # lanes of a compiled program
BOUNDS = ("lower", "upper", "start_lower", "start_upper")  # of search coordinates


@dataclass(frozen=True, eq=False)
class FitTask:
    """Lanes of one problem.

    Args:
        start_BP: where each lane starts, in search coordinates.
        free_BP: False holds a coordinate at its start (profiles); None: as the problem says.
        weights_Bn: multiplicity of each point (bootstrap), times the weights of the problem; None: 1.
        y_Bn: another y for each lane (residual bootstrap); None: the problem's.
    """

    problem: Problem
    start_BP: np.ndarray
    free_BP: np.ndarray | None = None
    weights_Bn: np.ndarray | None = None
    y_Bn: np.ndarray | None = None


def padded_length(num_points: int) -> int:
    """The next of 16, 32, 64, 96, 128, 192, 256, ..."""
    length = 16
    while length < num_points:
        length = length * 3 // 2 if length >= 64 and length & (length - 1) == 0 else 1 << length.bit_length()
    return length


@dataclass(frozen=True, eq=False)
class TaskPool:
    """All lanes of the tasks whose points are padded to one length, numbered through."""

    length: int
    numbers: tuple[int, ...]  # of the tasks among all
    tasks: tuple[FitTask, ...]
    task_B: np.ndarray  # position in `tasks` of each lane
    lane_B: np.ndarray  # row in its task of each lane

    def starts(self) -> np.ndarray:
        """(P, B) starts, within the bounds."""
        rows = [np.clip(t.start_BP, t.problem.lower_P, t.problem.upper_P) for t in self.tasks]
        return np.concatenate(rows).T.copy()

    def lanes_of_task(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number of each task among all, and its lanes."""
        ends = np.cumsum([task.start_BP.shape[0] for task in self.tasks])[:-1]
        return zip(self.numbers, np.split(np.arange(self.task_B.size), ends), strict=True)

    def block(self, queue: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict]:
        """The first lanes of the queue; the same with its first repeated to a full block; and their data."""
        lanes = queue[:BLOCK]
        padded = np.concatenate([lanes, np.full(BLOCK - lanes.size, lanes[0])])
        return lanes, padded, self._gather(padded)

    @functools.cached_property
    def _columns(self) -> dict:
        """The data of each task, tasks last; points beyond a problem's own repeat its first with weight 0."""
        problems = [task.problem for task in self.tasks]
        inputs = {name: self._stacked([p.inputs[name] for p in problems]) for name in problems[0].law.inputs}
        weights = self._stacked([p.weights_n for p in problems])
        weights[np.arange(self.length)[:, None] >= [p.num_points for p in problems]] = 0.0
        columns = {"inputs": inputs, "y": self._stacked([p.y_n for p in problems]), "weights": weights}
        columns |= {key: np.stack([getattr(p, f"{key}_P") for p in problems], axis=1) for key in BOUNDS}
        return columns | {"free": np.stack([p.free_P for p in problems], axis=1)}

    def _gather(self, lanes: np.ndarray) -> dict:
        """The data of some lanes, lanes last."""
        task_B, lane_B = self.task_B[lanes], self.lane_B[lanes]
        data = {key: column[:, task_B] for key, column in self._columns.items() if key != "inputs"}
        data["inputs"] = {name: column[:, task_B] for name, column in self._columns["inputs"].items()}
        for number in np.unique(task_B):
            task = self.tasks[number]
            if task.y_Bn is None and task.weights_Bn is None and task.free_BP is None:
                continue
            at, n = np.flatnonzero(task_B == number), task.problem.num_points
            if task.y_Bn is not None:
                data["y"][:, at] = self._stacked(task.y_Bn[lane_B[at]])
            if task.weights_Bn is not None:
                data["weights"][:n, at] *= task.weights_Bn[lane_B[at]].T
            if task.free_BP is not None:
                data["free"][:, at] &= task.free_BP[lane_B[at]].T
        return data

    def _stacked(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """(length, rows) of rows of any length up to that."""
        table = np.empty((self.length, len(rows)))
        for k, row in enumerate(rows):
            table[: row.size, k], table[row.size :, k] = row, row[0]
        return table


def pools(tasks: Sequence[FitTask]) -> Iterator[TaskPool]:
    """Tasks by the length that their points are padded to."""
    by_length: dict[int, list[int]] = {}
    for number, task in enumerate(tasks):
        by_length.setdefault(padded_length(task.problem.num_points), []).append(number)
    for length, numbers in by_length.items():
        chosen = tuple(tasks[k] for k in numbers)
        sizes = [task.start_BP.shape[0] for task in chosen]
        task_B = np.repeat(np.arange(len(chosen)), sizes)
        yield TaskPool(length, tuple(numbers), chosen, task_B, np.concatenate([np.arange(size) for size in sizes]))
