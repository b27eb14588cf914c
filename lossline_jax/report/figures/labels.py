"""Write the name of each line beside the line, where the name covers as little as possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from lossline_jax.report.figures.plot import Drawn, Marks
from lossline_jax.report.figures.svg import POINTS_PER_INCH

FONT_SIZE = 8.0  # points
GLYPH_WIDTH = 0.66  # mean width of a bold letter, in font sizes; DejaVu Sans is wide, so narrower fonts fit too
# Candidate starts of a name, relative to a point of its line, in font sizes: the nearest first.
OFFSETS = tuple((dx, dy) for dy in (0.0, 1.0, -1.0, 1.8, -1.8, 3.0, -3.0, 5.0, -5.0) for dx in (0.9, -0.9))


Box = tuple[float, float, float, float]  # left, low, right, high; in points from the lower left corner of the axes
ToPoints = Callable[[ArrayLike, ArrayLike], np.ndarray]  # data coordinates x and y, (n,) each, to points, (n, 2)


@dataclass(frozen=True)
class LineName:
    """A name, the points of the line that it belongs to (data coordinates), and the runs of the line."""

    text: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    run_ids: tuple[str, ...] = ()


def place_names(axes: Axes, names: Sequence[LineName]) -> Drawn:
    """Write each name near a point of its line, at the candidate that covers least and is nearest to the line.

    The limits of `axes` must be final. Boxes are estimated in points from the figure's size, so no trial drawing is
    needed to measure a name.

    Args:
        axes: the axes to write into. All lines are drawn already.
        names: the names. An earlier name gets its box first.
    """
    width, height = area = _size_in_points(axes)
    to_points = _scaler(axes, area)
    lines = [to_points(name.x, name.y) for name in names]
    taken = np.concatenate([*lines, *(_drawn_points(line, to_points) for line in axes.get_lines())]).T.copy()
    boxes: list[Box] = []
    drawn = {}
    for k, name in enumerate(names):
        other_lines = lines[:k] + lines[k + 1 :]
        length = GLYPH_WIDTH * FONT_SIZE * len(name.text)
        candidates = [
            _box(x + dx * FONT_SIZE, y + dy * FONT_SIZE, length=length if dx >= 0 else -length)
            for x, y in lines[k]
            for dx, dy in OFFSETS
        ]
        costs = [_cost(box, taken, boxes, area) + _distance_cost(box, lines[k], other_lines) for box in candidates]
        best = candidates[costs.index(min(costs))]
        boxes.append(best)
        axes.text(
            best[0] / width,
            (best[1] + best[3]) / 2 / height,
            name.text,
            color=name.colour,
            fontsize=FONT_SIZE,
            fontweight="bold",
            va="center",
            transform=axes.transAxes,
            gid=f"name-{k}",
        )
        drawn[f"name-{k}"] = Marks(name.run_ids)
    return drawn


def _drawn_points(line: Line2D, to_points: ToPoints) -> np.ndarray:
    """Return the points that a line covers, (n, 2): its own points, and points between them where they are joined."""
    corners = to_points(line.get_xdata(), line.get_ydata())
    if line.get_linestyle() == "None" or len(corners) < 2:
        return corners
    distance = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    along = np.arange(0.0, distance[-1], FONT_SIZE / 2)
    return np.column_stack([np.interp(along, distance, corners[:, axis]) for axis in (0, 1)])


def _size_in_points(axes: Axes) -> tuple[float, float]:
    """Return the width and height of the axes, points."""
    figure = axes.figure
    if not isinstance(figure, Figure):
        raise TypeError("place_names: the axes belong to a subfigure, which has no size in inches; use a whole figure")
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    box = axes.get_position()
    return box.width * width, box.height * height


def _scaler(axes: Axes, area: tuple[float, float]) -> ToPoints:
    """Return the map from data coordinates to points. The vertical axis is linear."""
    width, height = area
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    scale = np.log if axes.get_xscale() == "log" else np.asarray

    def to_points(x: ArrayLike, y: ArrayLike) -> np.ndarray:
        scaled, low, high = scale(np.asarray(x, float)), scale(x0), scale(x1)
        return np.column_stack(
            [(scaled - low) / (high - low) * width, (np.asarray(y, float) - y0) / (y1 - y0) * height]
        )

    return to_points


def _box(x: float, y: float, *, length: float) -> Box:
    """Return the box of a name that starts at (x, y). A negative length: the name ends there."""
    left = min(x, x + length)
    return left, y - 0.6 * FONT_SIZE, left + abs(length), y + 0.6 * FONT_SIZE


def _cost(box: Box, taken: np.ndarray, boxes: Sequence[Box], area: tuple[float, float]) -> float:
    """Return the cost of a box outside the axes (per point), over drawn points (each), and over other names (each).

    `taken` has the drawn points as (2, n).
    """
    left, low, right, high = box
    width, height = area
    outside = max(0, -left) + max(0, right - width) + max(0, -low) + max(0, high - height)
    x, y = taken
    covered = np.count_nonzero((x > left - 4) & (x < right + 4) & (y > low - 3) & (y < high + 3))
    crossed = sum(left < b[2] and b[0] < right and low < b[3] and b[1] < high for b in boxes)
    return 50.0 * outside + 1.0 * covered + 100.0 * crossed


def _distance_cost(box: Box, line_points: np.ndarray, other_lines: Sequence[np.ndarray]) -> float:
    """Return the cost of the distance between a name and its line, higher where another line is about as near."""
    left, low, right, high = box

    def distance(points: np.ndarray) -> float:
        nearest = np.clip(points, [left, low], [right, high])
        return float(np.hypot(*(points - nearest).T).min())

    away = distance(line_points)
    return 0.2 * away / FONT_SIZE + 3.0 * any(distance(points) < 1.3 * away for points in other_lines)
