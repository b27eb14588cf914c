"""Names written beside their lines, where they hide nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from lossline_jax.report.figures.plot import Drawn, Marks

GLYPH_WIDTH = 0.66  # of the font size, on average and bold; DejaVu Sans is wide, so other fonts fit too
# Where a name may begin, seen from a point of its line, in font sizes: nearest first.
OFFSETS = tuple((dx, dy) for dy in (0.0, 1.0, -1.0, 1.8, -1.8, 3.0, -3.0, 5.0, -5.0) for dx in (0.9, -0.9))


@dataclass(frozen=True)
class LineName:
    """A name and the points (data coordinates) of the line it belongs to, with their runs."""

    text: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    run_ids: tuple[str, ...] = ()


def place_names(axes: Axes, names: Sequence[LineName], size: float = 8.0) -> Drawn:
    """Write each name near a point of its line, at the candidate that covers least and is nearest to it.

    The limits of `axes` must be final. Boxes are estimated in points from the figure's size, so nothing has
    to be drawn to measure.
    """
    width, height = _size_in_points(axes)
    to_points = _scaler(axes, width, height)
    lines = [to_points(name.x, name.y) for name in names]
    taken = [*lines, *(to_points(*line.get_data()) for line in axes.get_lines())]
    boxes: list[tuple[float, float, float, float]] = []
    drawn = {}
    for k, name in enumerate(names):
        others = lines[:k] + lines[k + 1 :]
        length = GLYPH_WIDTH * size * len(name.text)
        candidates = [
            _box(x + dx * size, y + dy * size, length, size, dx < 0) for x, y in lines[k] for dx, dy in OFFSETS
        ]
        best = min(
            candidates,
            key=lambda box, line_points=lines[k], others=others: (
                _cost(box, np.concatenate(taken), boxes, width, height) + _strangeness(box, line_points, others, size)
            ),
        )
        boxes.append(best)
        axes.text(
            best[0] / width,
            (best[1] + best[3]) / 2 / height,
            name.text,
            color=name.colour,
            fontsize=size,
            fontweight="bold",
            va="center",
            transform=axes.transAxes,
            gid=f"name-{k}",
        )
        drawn[f"name-{k}"] = Marks(name.run_ids)
    return drawn


def _size_in_points(axes: Axes) -> tuple[float, float]:
    width, height = axes.figure.get_size_inches() * 72
    box = axes.get_position()
    return box.width * width, box.height * height


def _scaler(axes: Axes, width: float, height: float):
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    x_of = np.log if axes.get_xscale() == "log" else np.asarray

    def to_points(x, y):
        x, low, high = x_of(np.asarray(x, float)), x_of(x0), x_of(x1)
        return np.column_stack([(x - low) / (high - low) * width, (np.asarray(y, float) - y0) / (y1 - y0) * height])

    return to_points


def _box(x: float, y: float, length: float, size: float, to_the_left: bool):
    left = x - length if to_the_left else x
    return left, y - 0.6 * size, left + length, y + 0.6 * size


def _cost(box, taken: np.ndarray, boxes, width: float, height: float) -> float:
    left, low, right, high = box
    outside = max(0, -left) + max(0, right - width) + max(0, -low) + max(0, high - height)
    covered = ((taken > [left - 4, low - 3]) & (taken < [right + 4, high + 3])).all(axis=1).sum()
    crossed = sum(left < b[2] and b[0] < right and low < b[3] and b[1] < high for b in boxes)
    return 50.0 * outside + 1.0 * covered + 100.0 * crossed


def _strangeness(box, line_points: np.ndarray, others: Sequence[np.ndarray], size: float) -> float:
    """How far a name is from its own line, in font sizes, and whether another line is nearer."""
    left, low, right, high = box

    def distance(points: np.ndarray) -> float:
        nearest = np.clip(points, [left, low], [right, high])
        return float(np.hypot(*(points - nearest).T).min())

    away = distance(line_points)
    return 0.2 * away / size + 3.0 * any(distance(points) < 1.3 * away for points in others)
