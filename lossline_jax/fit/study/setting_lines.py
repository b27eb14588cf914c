"""Fit a line to every setting of a table, in one unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.compare.absent import AbsentSetting
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.study.noise_notes import with_noise_note
from lossline_jax.fit.study.read_settings import StudyTable
from lossline_jax.fit.study.results import LineFit
from lossline_jax.fit.study.table_lines import FittedGroup, LineOptions, LinePoints, fit_groups
from lossline_jax.fit.tables.columns import (
    COUNT_EACH_TIME,
    RUN,
    X,
    Y,
    names_of_runs,
    paired_points,
    require_several_values,
)
from lossline_jax.fit.tables.other_unit import require_one_unit_of_repetitions
from lossline_jax.fit.tables.settings import SETTING, Setting, differences
from lossline_jax.losses.cells import as_numbers

BASE = "base"  # label of the line of the base


@dataclass(frozen=True, eq=False)
class SettingLines:
    """The lines of all settings in one unit."""

    unit: str
    lines: tuple[LineFit, ...]  # of settings with points, the base first
    cells: tuple[SettingLine, ...]  # the same lines with their points, without settings that have no usable losses
    absent: tuple[AbsentSetting, ...] = ()  # those settings, with the reason


def fit_setting_lines(table: StudyTable, unit: str, num_resamples: int, seed: int) -> tuple[SettingLines, list[str]]:
    """Fit the lines in one unit.

    Args:
        table: the table by settings.
        unit: loss column; "" for a wide table.
        num_resamples: resamples of each bootstrap.
        seed: seed of the bootstraps.

    Returns:
        The lines, and notes on the settings and checkpoints that have none.

    Raises:
        LosslineError: no checkpoint has both losses, all points have one x, or a run is in another unit than its
            repetitions.
    """
    points = paired_points(table.frame, table.x, table.y, (), unit=unit)
    _require_one_unit(points, table.x, table.y)
    groups, absent = _groups(points, table)
    options = LineOptions(num_resamples=num_resamples, seed=seed)
    fitted, unfitted = fit_groups([group for group, _ in groups], table.x, table.y, unit, options=options)
    setting_of = {id(group): setting for group, setting in groups}
    cells = [item.cell(setting_of[id(item.group)]) for item in fitted]
    empty = [
        AbsentSetting(setting_of[id(item.group)], f"{item.line.label}: no losses in this unit")
        for item, cell in zip(fitted, cells, strict=True)
        if not cell.x.size
    ]
    notes = [item.reason for item in (*absent, *empty)] + _notes_on_points(points, fitted) + list(unfitted.values())
    have_lines = {id(item.group) for item in fitted}
    bad = [
        AbsentSetting(setting, unfitted[k]) for k, (group, setting) in enumerate(groups) if id(group) not in have_lines
    ]
    lines = tuple(with_noise_note(item) for item in fitted)
    return SettingLines(unit, lines, tuple(cell for cell in cells if cell.x.size), (*absent, *empty, *bad)), notes


def _require_one_unit(points: pd.DataFrame, x: str, y: str) -> None:
    """Raise LosslineError for a run in another unit than its repetitions, and where all points have one x."""
    for _, rows in points.loc[points[SETTING] >= 0].groupby(SETTING):
        if rows.loc[:, RUN].notna().all():
            losses = {name: as_numbers(rows.loc[:, column])[0] for name, column in ((x, X), (y, Y))}
            require_one_unit_of_repetitions(losses, names_of_runs(rows, RUN))
    x_loss, y_loss = (as_numbers(points.loc[:, column])[0] for column in (X, Y))
    require_several_values(x_loss, y_loss, x)


def _groups(points: pd.DataFrame, table: StudyTable) -> tuple[list[tuple[LinePoints, Setting]], list[AbsentSetting]]:
    """Return the points of each setting, the base first, and the settings without points."""
    groups: list[tuple[LinePoints, Setting]] = []
    absent: list[AbsentSetting] = []
    labels: set[str] = set()
    for k, setting in sorted(enumerate(table.settings), key=lambda item: len(item[1].differing(table.base))):
        differing = setting.differing(table.base)
        label = ", ".join(f"{name}={setting.levels[name]}" for name in differing) or BASE
        if label in labels:  # two settings have the same label where their sizes count as equal: name the sizes too
            differing = differences(setting.levels, table.base.levels)
            label = ", ".join(f"{name}={setting.levels[name]}" for name in differing)
        labels.add(label)
        rows = points.loc[points[SETTING] == k]
        if rows.empty:
            absent.append(AbsentSetting(setting, f"{label}: no checkpoint has both {table.x!r} and {table.y!r}"))
            continue
        level = ", ".join(setting.levels[name] for name in differing)
        groups.append((LinePoints(label, "+".join(differing), level, dict(setting.levels), rows), setting))
    return groups, absent


def _notes_on_points(points: pd.DataFrame, fitted: Sequence[FittedGroup]) -> list[str]:
    """Return notes on checkpoints that are repeated, contradict each other, or have no loss."""
    notes = []
    if repeated := sum(item.num_repeated for item in fitted):
        notes.append(f"{repeated} of {len(points)} checkpoints {COUNT_EACH_TIME}")
    if contradicting := _num_contradicting(points):
        notes.append(f"{contradicting} of {len(points)} checkpoints (run and step) occur again with other losses")
    if dropped := sum(item.line.fit.num_dropped for item in fitted):
        notes.append(f"{dropped} of {len(points)} checkpoints have a missing loss: left out")
    return notes


def _num_contradicting(points: pd.DataFrame) -> int:
    """Count the points that share run and step with another point but have other losses.

    A log that was continued after a restart has such points.
    """
    if "step" not in points.columns:
        return 0
    known = points.loc[points[[RUN, "step", X, Y]].notna().all(axis=1)]
    return int(known.duplicated(subset=[RUN, "step"]).sum() - known.duplicated(subset=[RUN, "step", X, Y]).sum())
