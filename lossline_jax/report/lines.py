"""The lines of Figure 1: the points of each level, and the curve that was fitted to them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.fit.study_fits import StudyFits
from lossline_jax.report.points import Unit, pair
from lossline_jax.report.runs import BASE, SEVERAL, Run
from lossline_jax.report.style import Style


@dataclass(frozen=True)
class Curve:
    """A fitted curve with its band, all (n,)."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    meaning: str  # of the band


@dataclass(frozen=True, eq=False)
class Line:
    """One level of a factor in one unit."""

    factor: str
    name: str
    style: Style
    points: pd.DataFrame  # run_id, step, tokens_seen, x, y
    curve: Curve | None
    named_in_panel: bool  # its name is written beside it: its style alone does not tell it from its siblings

    @property
    def is_base(self) -> bool:
        return self.factor == BASE


def read_lines(fits: StudyFits, long: pd.DataFrame, runs: Mapping[str, Run], unit: Unit) -> list[Line]:
    """A line a level, the base first. Levels without a single point on both axes are left out, and so are settings
    that differ from the base in several factors."""
    curves = {(line.factor or BASE, line.level or BASE): _curve(line) for line in fits.lines_in(unit.key)}
    points = pair(long, fits.x, fits.y, unit)
    levels: dict[tuple[str, str], list[Run]] = {}
    for run in runs.values():
        if run.factor == SEVERAL and fits.base_label is not None:
            continue
        levels.setdefault((run.factor, run.level), []).append(run)
    siblings = [factor for factor, _ in levels]
    lines = []
    for (factor, level), members in levels.items():
        own = points[points["run_id"].isin([run.run_id for run in members])]
        if len(own):
            named = siblings.count(factor) > 1 and factor not in (BASE, "seed")
            lines.append(Line(factor, members[0].name, members[0].style, own, curves.get((factor, level)), named))
    return lines


def _curve(line) -> Curve | None:
    band = line.band
    if band is None:
        return None
    meaning = f"{band.level:.0%}, {band.method}"
    return Curve(*(np.asarray(v) for v in (band.x, band.estimate, band.lower, band.upper)), meaning)
