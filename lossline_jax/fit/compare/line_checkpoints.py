"""Set aside the checkpoints at which all runs of a setting lie off their own line. See `far_checkpoint`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lossline_jax.fit.compare.far_checkpoint import CheckpointCurves, FarCheckpoint, far_checkpoints
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.tables.settings import Setting


def without_far_checkpoints(
    cells: Sequence[SettingLine], base: Mapping[str, str]
) -> tuple[list[SettingLine], tuple[FarCheckpoint, ...]]:
    """Return the settings without their far checkpoints, and these checkpoints. Such a setting is fitted again.

    Args:
        cells: every setting with its points and fitted line.
        base: the reference level of each factor, for the names of settings.
    """
    numbers = [_checkpoints(cell) for cell in cells]
    curves = [
        CheckpointCurves(cell.setting.name_from(Setting({**cell.levels, **base})), cell.x, cell.y, _runs(cell), number)
        for cell, number in zip(cells, numbers, strict=True)
    ]
    kept, found = [], []
    for cell, number, far in zip(cells, numbers, far_checkpoints(curves, "y"), strict=True):
        if far is None:
            kept.append(cell)
            continue
        kept.append(cell.only(number != far.checkpoint))
        name = f"checkpoint {far.checkpoint:g}" if cell.steps is None else f"step {far.checkpoint:g}"
        found.append(replace(far, name=name, run_ids=cell.run_ids))
    return kept, tuple(found)


def _runs(cell: SettingLine) -> np.ndarray:
    return np.zeros(cell.x.size, int) if cell.runs is None else cell.runs


def _checkpoints(cell: SettingLine) -> np.ndarray:
    """Return the step of each point. Without steps, it is the place of the point among those of its run, from 1."""
    if cell.steps is not None:
        return cell.steps
    return pd.Series(_runs(cell)).groupby(_runs(cell)).cumcount().to_numpy(float) + 1
