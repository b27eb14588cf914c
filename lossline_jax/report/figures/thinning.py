"""Draw a part of the checkpoints of a large table, so that its page stays light enough to scroll.

A page with all points of a small table is best, and this is what small tables get. The curves, the counts and the
limits of the axes of a large table are those of all its points.
"""

import numpy as np
import pandas as pd

MOST_CHECKPOINTS = 800  # of a table whose checkpoints are all drawn. A choice: such a page has about 6 MB
FEWEST_OF_RUN = 5  # checkpoints of each run that are drawn at least. A choice


def most_of_run(long: pd.DataFrame) -> int | None:
    """Return the number of checkpoints of each run that are drawn. None: all of them.

    Args:
        long: the losses table as `as_long` gives it.
    """
    checkpoints = long[["run_id", "step"]].drop_duplicates()
    if len(checkpoints) <= MOST_CHECKPOINTS:
        return None
    return max(FEWEST_OF_RUN, MOST_CHECKPOINTS // len(set(checkpoints["run_id"])))


def to_draw(points: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """Return the points to draw: some of each run, spread evenly from its first to its last, and its extremes.

    The extremes are the points with the lowest and the highest x and y. They are drawn besides, so that no outlier is
    lost.

    Args:
        points: columns run_id, x and y, in the order of training within a run.
        most: points of each run besides the extremes, as `most_of_run` gives them. None: all points are drawn.
    """
    if most is None or points.empty:
        return points
    kept = np.zeros(len(points), bool)
    values = points[["x", "y"]].to_numpy(float)
    for rows in points.groupby("run_id", sort=False).indices.values():
        kept[rows[np.linspace(0, rows.size - 1, min(most, rows.size)).round().astype(int)]] = True
        for column in values[rows].T:
            if np.isfinite(column).any():
                kept[rows[[np.nanargmin(column), np.nanargmax(column)]]] = True
    return points.loc[kept]


def drawn_sentence(num_drawn: int, num_points: int) -> str:
    """Return the sentence of a caption on the points that are drawn, with a space behind it. Empty: all are drawn.

    Args:
        num_drawn: the number of points that are drawn.
        num_points: the number of all points.
    """
    if num_drawn == num_points:
        return ""
    return (
        f"{num_drawn:,} of them are drawn: checkpoints of each run at even distances, and those with its lowest and "
        "highest losses. "
    )
