"""Measure the course of a gap: its size at both ends of the common support, and its change between them.

Training goes from high to low x. The start of the course is the highest common x, and its far end the lowest one.
A mean gap hides this course: a gap that fades and a gap that grows can have the same mean.
Read `measure_course` first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.special

from lossline_jax.fit.compare.course_runs import (
    PARTS,
    degree_of_course,
    noises_of_course,
    ranges_on,
    runs_on,
    values_at,
)
from lossline_jax.fit.compare.draws import draws_interval, reference_draws, run_draws
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.compare.setting_line import MatchedPair, SettingLine

CourseWord = Literal["fades", "grows", "crosses", "stays", ""]

SIGNIFICANCE = 0.05  # probability, by convention, of the test of "no change"
IN_THE_MIDDLE = ("middle", "bend")  # parts of a course that need its middle


@dataclass(frozen=True)
class GapCourse:
    """The course of a gap from the start of training to the lowest common loss.

    Intervals are 90%, by bootstrap of runs. They are None where no setting was repeated.
    """

    word: CourseWord  # empty: unclear
    x: tuple[float, float]  # the start (highest common x) and the far end (lowest common x); means over pairs
    start: float
    start_interval: tuple[float, float] | None
    far: float
    far_interval: tuple[float, float] | None
    change: float  # far - start
    change_interval: tuple[float, float] | None
    p: float | None  # of "no change", Student's t
    middle: float | None = None  # at the x between both ends; None: a result from before it was measured
    middle_interval: tuple[float, float] | None = None
    bends: bool = False  # True: the change is surely small, but the middle surely is beyond the margin of both ends


@dataclass(frozen=True, eq=False)
class LineCourse:
    """The courses of a level: over all its pairs, and of each pair."""

    whole: GapCourse
    pairs: tuple[GapCourse | None, ...]  # None: no run of the pair spans the support
    agrees: bool  # False: two pairs surely have gaps, or changes, of opposite signs


@dataclass(frozen=True, eq=False)
class _PairCourse:
    """One pair, measured and drawn. Arrays and mappings are by part of the course."""

    x: tuple[float, float]
    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]  # empty: no setting was repeated
    noises: Mapping[str, Noise]  # empty: as for `draws`
    num_runs: int
    num_reference_runs: int

    @property
    def weight(self) -> float:
        return 1 / (1 / self.num_runs + 1 / self.num_reference_runs)


def measure_course(
    pairs: Sequence[MatchedPair], cells: Sequence[SettingLine], floor: float, margin: float, *, seed: int
) -> LineCourse | None:
    """Measure the course of the gap of a level.

    A parabola is fitted to y - reference line(x) of each run of the level. Its values are taken at the highest and at
    the lowest x that all runs of both settings reach, and between them. They are averaged over runs, and then over
    pairs as the gap is. A parabola needs five points of each run; with fewer points it is a straight line.

    The noise of each part is measured like the noise floor. The same parabola is fitted to the residuals of each
    repeated run about the line of its own setting, on the same support. So noise that turns a line counts as such.

    These are the words. The first that holds is given:

    - `crosses`: the change is significant. The gaps at both ends are above the noise floor, and surely of opposite
      sign.
    - `grows`, `fades`: the change is significant. The mean of both ends surely is not zero. The gap grows if the change
      has the sign of that mean, and it fades if it has the opposite sign.
    - `stays`: the 90% interval of the change lies within the margin, and the course does not bend. It bends where the
      90% interval of the gap in the middle, minus the mean of both ends, lies wholly beyond the margin.

    A change is significant if its p is below 5%, its 90% interval excludes zero and it is above the noise floor.
    A level has no word where two of its pairs surely have gaps, or changes, of opposite signs.

    Args:
        pairs: the matched pairs that have a gap.
        cells: settings whose repeated runs tell the noise.
        floor: the noise floor of the gap.
        margin: the margin within which a gap does not matter.
        seed: seed of the bootstrap.

    Returns:
        The course. None: no pair has runs that span the support.
    """
    # The middle has a generator of its own, so that the intervals of the ends are those of earlier versions.
    at_ends, in_middle = (np.random.Generator(np.random.PCG64([seed, number])) for number in (2, 3))
    measured = [_measure_pair(pair, cells, (at_ends, in_middle)) for pair in pairs]
    known = [item for item in measured if item is not None]
    if not known:
        return None
    parts = [None if item is None else _parts([item]) for item in measured]
    known_parts = [part for part in parts if part is not None]
    agrees = _agree(known_parts)
    whole = _course(known_parts[0] if len(known) == 1 else _parts(known), floor, margin)
    return LineCourse(
        whole=whole if agrees else replace(whole, word=""),
        pairs=tuple(None if part is None else _course(part, floor, margin) for part in parts),
        agrees=agrees,
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """The values and intervals of a course, by part."""

    x: tuple[float, float]
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float] | None]
    p: float | None

    def sure_sign(self, name: str) -> int:
        """Return the sign of an interval that excludes zero. 0: it does not."""
        low, high = self.intervals[name] or (0.0, 0.0)
        return int(low > 0) - int(high < 0)

    def changes(self, floor: float) -> bool:
        """Tell whether the change is significant and larger than the noise floor."""
        significant = self.p is not None and self.p < SIGNIFICANCE and self.sure_sign("change") != 0
        return significant and abs(self.values["change"]) > floor

    def change_is_small(self, margin: float) -> bool:
        """Tell whether the change surely lies within the margin."""
        change = self.intervals["change"]
        return change is not None and all(abs(end) < margin for end in change)

    def bends(self, margin: float) -> bool:
        """Tell whether the gap in the middle surely differs from the mean of both ends by more than the margin."""
        bend = self.intervals["bend"]
        return bend is not None and (bend[0] > margin or bend[1] < -margin)


def _measure_pair(
    pair: MatchedPair, cells: Sequence[SettingLine], generators: tuple[np.random.Generator, np.random.Generator]
) -> _PairCourse | None:
    """Measure the course of one pair. None: no run of one of the settings spans the support."""
    reference, other = pair.reference, pair.other
    support = (max(reference.x.min(), other.x.min()), min(reference.x.max(), other.x.max()))
    runs, reference_ranges = runs_on(other, support), ranges_on(reference, support)
    if not runs or not reference_ranges:
        return None
    ranges = [(other.x[mask].min(), other.x[mask].max()) for mask in runs] + reference_ranges
    far, start = max(low for low, _ in ranges), min(high for _, high in ranges)
    if not far < start:
        return None
    degree = degree_of_course(runs, other.x)
    distances = np.full(other.x.size, np.nan)
    inside = np.any(runs, axis=0)
    distances[inside] = other.y[inside] - reference.fit.predict(x=other.x[inside])
    values_R3 = np.array([values_at(other.x[mask], distances[mask], (start, far), degree) for mask in runs])
    noises = noises_of_course(cells, support, degree)
    values = {name: float(values_R3.mean(axis=0) @ weights) for name, weights in PARTS.items()}
    draws = {}
    if noises:
        moved_R3 = None
        if reference.resamples is not None:
            places = np.array([start, (start + far) / 2, far])
            moved_R3 = reference.resamples.curves({"x": places}) - reference.fit.predict(x=places)
        for name, weights in PARTS.items():
            source = generators[name in IN_THE_MIDDLE]
            level = run_draws(noises[name], len(runs), source)
            moved = None if moved_R3 is None else moved_R3 @ np.array(weights)
            draws[name] = values[name] + level - reference_draws(moved, noises[name], len(reference_ranges), source)
    return _PairCourse((float(start), float(far)), values, draws, noises, len(runs), len(reference_ranges))


def _agree(pairs: Sequence[_Parts]) -> bool:
    """Tell whether no two pairs surely have gaps, or changes, of opposite signs."""
    return all(len({pair.sure_sign(name) for pair in pairs} - {0}) < 2 for name in ("mean of ends", "change"))


def _parts(pairs: Sequence[_PairCourse]) -> _Parts:
    """Return the means over some pairs."""
    weights = np.array([pair.weight for pair in pairs])
    weights /= weights.sum()
    values = {name: float(weights @ [pair.values[name] for pair in pairs]) for name in PARTS}
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(PARTS)
    p = None
    if all(pair.draws for pair in pairs):
        variances = weights**2 * [pair.noises["change"].floor ** 2 / pair.weight for pair in pairs]
        freedoms = [pair.noises["change"].degrees_of_freedom for pair in pairs]
        # The noises of pairs share runs, so their degrees of freedom are not added.
        freedom = float(np.average(freedoms, weights=variances if np.all(variances > 0) else None))
        for name in PARTS:
            intervals[name] = draws_interval(weights @ np.array([pair.draws[name] for pair in pairs]), freedom)
        if variances.sum() > 0:
            p = float(2 * scipy.special.stdtr(freedom, -abs(values["change"]) / np.sqrt(variances.sum())))
    x = (float(weights @ [pair.x[0] for pair in pairs]), float(weights @ [pair.x[1] for pair in pairs]))
    return _Parts(x, values, intervals, p)


def _course(parts: _Parts, floor: float, margin: float) -> GapCourse:
    """Return the course with its word."""
    return GapCourse(
        word=_word(parts, floor, margin),
        x=parts.x,
        start=parts.values["start"],
        start_interval=parts.intervals["start"],
        far=parts.values["far"],
        far_interval=parts.intervals["far"],
        change=parts.values["change"],
        change_interval=parts.intervals["change"],
        p=parts.p,
        middle=parts.values["middle"],
        middle_interval=parts.intervals["middle"],
        bends=parts.change_is_small(margin) and parts.bends(margin),
    )


def _word(parts: _Parts, floor: float, margin: float) -> CourseWord:
    """Return the word of `measure_course` that holds."""
    if parts.changes(floor):
        if parts.sure_sign("start") * parts.sure_sign("far") < 0 and all(
            abs(parts.values[name]) > floor for name in ("start", "far")
        ):
            return "crosses"
        if mean := parts.sure_sign("mean of ends"):
            return "grows" if mean == parts.sure_sign("change") else "fades"
    return "stays" if parts.change_is_small(margin) and not parts.bends(margin) else ""
