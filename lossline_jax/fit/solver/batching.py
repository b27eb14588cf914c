"""Gather lanes into blocks of few shapes. A lane is one descent: a row of search coordinates with its data.

The lane is the last axis, so that a compiled program does only elementwise work on vectors of lanes. Points are padded
with weight 0 to one of few lengths, and all blocks have the same number of lanes. So a few compiled programs serve all
data sets. Blocks of very long lanes have fewer lanes, so that they fit into the cache of a processor.
Letters of shapes: B lanes, n points, P parameters.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.fit.solver.problem import Problem

BLOCK = 64  # lanes of a compiled program; a choice
MOST_CELLS = 2**17  # lanes x points of a block, at most; a choice. Points beyond 2048 leave room for fewer lanes
FEWEST_LANES = 4  # lanes of the block of the longest data sets; a choice
BOUNDS = ("lower", "upper", "start_lower", "start_upper")  # fields of `Problem` (with `_P`), in search coordinates


@dataclass(frozen=True, eq=False)
class FitTask:
    """The lanes of one problem: one descent from each start.

    Args:
        problem: the problem that all lanes minimise.
        start_BP: the start of each lane, in search coordinates.
        free_BP: False holds a coordinate at its start, for profiles. None: `Problem.free_P` holds for all lanes.
        weights_Bn: the multiplicity of each point, for the bootstrap, times the weights of the problem. None: 1.
        cluster_n: the column of `weights_Bn` that each point has, which keeps that table small. None: one for each.
        y_Bn: another y for each lane, for the residual bootstrap. None: the y of the problem.
    """

    problem: Problem
    start_BP: np.ndarray
    free_BP: np.ndarray | None = None
    weights_Bn: np.ndarray | None = None
    cluster_n: np.ndarray | None = None
    y_Bn: np.ndarray | None = None


def padded_length(num_points: int) -> int:
    """Return the smallest of 32, 64, 96, 128, 192, 256, ... that is not below the number of points."""
    length = 32
    while length < num_points:
        length = length * 3 // 2 if length >= 64 and length & (length - 1) == 0 else 1 << length.bit_length()
    return length


def block_lanes(length: int) -> int:
    """Return the number of lanes of a block whose points are padded to `length`."""
    fitting = MOST_CELLS // length // FEWEST_LANES * FEWEST_LANES
    return min(BLOCK, max(FEWEST_LANES, fitting))


@dataclass(frozen=True, eq=False)
class TaskPool:
    """The tasks whose points are padded to the same length. Their lanes have consecutive numbers from 0."""

    length: int  # the padded number of points
    numbers: tuple[int, ...]  # position of each task among all tasks of the call
    tasks: tuple[FitTask, ...]
    task_B: np.ndarray  # position of each lane's task in `tasks`
    lane_B: np.ndarray  # row of each lane in its task

    @property
    def block_lanes(self) -> int:
        """The number of lanes of a block."""
        return block_lanes(self.length)

    def starts(self) -> np.ndarray:
        """Return the (P, B) starts, clipped to the bounds."""
        rows = [np.clip(t.start_BP, t.problem.lower_P, t.problem.upper_P) for t in self.tasks]
        return np.concatenate(rows).T.copy()

    def lanes_of_task(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each task among all tasks of the call, and the lanes of the task."""
        ends = np.cumsum([task.start_BP.shape[0] for task in self.tasks])[:-1]
        return zip(self.numbers, np.split(np.arange(self.task_B.size), ends), strict=True)

    def block(self, queue: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Gather the data of the next block of lanes.

        Args:
            queue: numbers of the lanes that wait.

        Returns:
            The first lanes of the queue, as many as a block has; these lanes with the first repeated to a full block;
            and the data of the full block.
        """
        lanes = queue[: self.block_lanes]
        padded = np.concatenate([lanes, np.full(self.block_lanes - lanes.size, lanes[0])])
        return lanes, padded, self._gather(padded)

    @functools.cached_property
    def _columns(self) -> dict[str, Any]:
        """The data of each task, with tasks on the last axis. Padding repeats the first point with weight 0."""
        problems = [task.problem for task in self.tasks]
        inputs = {name: self._stacked([p.inputs[name] for p in problems]) for name in problems[0].law.inputs}
        weights = self._stacked([p.weights_n for p in problems])
        weights[np.arange(self.length)[:, None] >= [p.num_points for p in problems]] = 0.0
        columns = {"inputs": inputs, "y": self._stacked([p.y_n for p in problems]), "weights": weights}
        columns |= {key: np.stack([getattr(p, f"{key}_P") for p in problems], axis=1) for key in BOUNDS}
        return columns | {"free": np.stack([p.free_P for p in problems], axis=1)}

    def _gather(self, lanes: np.ndarray) -> dict[str, Any]:
        """Return the data of some lanes, with lanes on the last axis."""
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
                weights = task.weights_Bn[lane_B[at]]
                data["weights"][:n, at] *= (weights if task.cluster_n is None else weights[:, task.cluster_n]).T
            if task.free_BP is not None:
                data["free"][:, at] &= task.free_BP[lane_B[at]].T
        return data

    def _stacked(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return a (length, rows) table of rows that are at most `length` long. Padding repeats the first entry."""
        table = np.empty((self.length, len(rows)))
        for k, row in enumerate(rows):
            table[: row.size, k], table[row.size :, k] = row, row[0]
        return table


def pools(tasks: Sequence[FitTask], length_of: Callable[[int], int] = padded_length) -> Iterator[TaskPool]:
    """Yield pools of the tasks whose points are padded to the same length.

    Args:
        tasks: the tasks.
        length_of: a function from a number of points to the padded number.
    """
    by_length: dict[int, list[int]] = {}
    for number, task in enumerate(tasks):
        by_length.setdefault(length_of(task.problem.num_points), []).append(number)
    for length, numbers in by_length.items():
        pooled = tuple(tasks[k] for k in numbers)
        sizes = [task.start_BP.shape[0] for task in pooled]
        task_B = np.repeat(np.arange(len(pooled)), sizes)
        lane_B = np.concatenate([np.arange(size) for size in sizes])
        yield TaskPool(length, tuple(numbers), pooled, task_B, lane_B)
