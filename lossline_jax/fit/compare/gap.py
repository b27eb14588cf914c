"""Measure the mean signed gap between two lines over their common support, with a bootstrap interval.

Read `measure_gap` first. Its interval draws whole runs again on both sides: the level and the reference line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossline_jax.fit.compare.course import GapCourse
from lossline_jax.fit.compare.draws import NUM_DRAWS, draws_interval, reference_draws, run_draws
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.compare.setting_line import MatchedPair, SettingLine
from lossline_jax.fit.direction import falls_with_x
from lossline_jax.fit.resampling import block_indices
from lossline_jax.fit.tables.other_unit import as_if_in_another_unit
from lossline_jax.fit.tables.settings import pair_names

MIN_POINTS = 3  # points of a level on the common support of a pair; fewer give no gap. A convention
MISFIT_IN_NOISE = 3.0  # noise floors; a reference line that misses its own points by more gets a note. A convention
LEVEL_MISFIT_IN_NOISE = 5.0  # the same for a level. Its line is not used for the gap, so only a gross misfit is told
OUTER_SHARE = 1 / 3  # share of the points on the support that each of its two ends has
BY_RUN = "bootstrap by run"
BY_BLOCK = "bootstrap of blocks along the line"


@dataclass(frozen=True)
class PairGap:
    """The gap of one matched pair of settings: a level and the reference level, all other factors equal."""

    matched_on: str  # the levels that distinguish this pair from other pairs: `code, mamba2`
    gap: float
    interval: tuple[float, float] | None  # None: the reference line cannot be refitted to drawn runs
    num_points: int
    num_runs: int
    num_reference_runs: int
    course: GapCourse | None = None  # None: no run spans the common support

    @property
    def variance(self) -> float:
        """The variance of the gap, in units of the squared noise floor."""
        return 1 / self.num_runs + 1 / self.num_reference_runs


@dataclass(frozen=True)
class OuterGap:
    """The gap over the lowest or the highest third of the support alone."""

    support: tuple[float, float]
    gap: float
    interval: tuple[float, float] | None  # None: as for `PairGap`


@dataclass(frozen=True, eq=False)
class LineGap:
    """The gap between a level and its reference level, over all matched pairs that share support."""

    value: float | None  # None: no pair shares support
    interval: tuple[float, float] | None  # None: no value, or as for `PairGap`
    variance: float  # of the value, in units of the squared noise floor
    method: str  # what the bootstrap resampled
    note: str
    support: tuple[float, float] | None  # range of x that the pairs share; None: no pair shares support
    num_points_outside: int  # points of the level outside the support
    cells: tuple[SettingLine, ...]  # settings of the level that have a gap
    pairs: tuple[PairGap, ...]  # one for each setting in `cells`
    outer: tuple[OuterGap, ...] = ()  # lowest, then highest third; empty: a third has too few points


@dataclass(frozen=True, eq=False)
class _Part:
    """One pair on its common support."""

    pair: MatchedPair
    distances: np.ndarray  # (runs,) mean of y - reference line(x) of each run
    of_points: np.ndarray  # (n,) y - reference line(x) of each point of the level, NaN outside the support
    inside: np.ndarray  # (n,) True: the point of the level is on the support
    num_reference_runs: int  # reference runs that reach the support: other runs say little of the line there
    # (resamples, n) refitted minus fitted reference line at each point, NaN outside; None: it was not refitted
    refits: np.ndarray | None


def measure_gap(pairs: Sequence[MatchedPair], noise: Noise, seed: int) -> LineGap:
    """Measure the gap of a level from its reference level.

    The distance of a run is its mean distance from the reference line. The gap of a pair is the mean over its runs.
    The value is the mean over pairs, weighted by the inverse of their variance.

    Args:
        pairs: matched pairs of the level. Pairs whose reference has no line are left out; at least one must have it.
        noise: the variation of a run's distance between seeds.
        seed: seed of the bootstrap.
    """
    fitted = [pair for pair in pairs if not pair.reference.why_no_line]
    parts = [part for pair in fitted if (part := _on_support(pair)) is not None]
    if not parts:
        outside = sum(pair.other.x.size for pair in pairs)
        return LineGap(None, None, np.nan, "", _note(pairs, fitted, parts, noise), None, outside, (), ())
    generator = np.random.Generator(np.random.PCG64(seed))
    draws_GR = np.array([_draws(part, noise, generator) for part in parts])
    measured = tuple(
        PairGap(
            matched_on=name,
            gap=float(part.distances.mean()),
            interval=draws_interval(draws, noise.degrees_of_freedom),
            num_points=int(part.inside.sum()),
            num_runs=part.distances.size,
            num_reference_runs=part.num_reference_runs,
        )
        for name, part, draws in zip(
            pair_names([part.pair.reference.levels for part in parts]), parts, draws_GR, strict=True
        )
    )
    weights = np.array([1 / pair.variance for pair in measured])
    weights /= weights.sum()
    shared_x = np.concatenate([part.pair.other.x[part.inside] for part in parts])
    return LineGap(
        value=float(np.dot(weights, [pair.gap for pair in measured])),
        interval=(
            measured[0].interval if len(parts) == 1 else draws_interval(weights @ draws_GR, noise.degrees_of_freedom)
        ),
        variance=float(np.sum(weights**2 * [pair.variance for pair in measured])),
        method=BY_RUN if noise.repeated else BY_BLOCK,
        note=_note(pairs, fitted, parts, noise),
        support=(float(shared_x.min()), float(shared_x.max())),
        num_points_outside=sum(pair.other.x.size for pair in pairs) - shared_x.size,
        cells=tuple(part.pair.other for part in parts),
        pairs=measured,
        outer=_outer_gaps(parts, noise, np.random.Generator(np.random.PCG64([seed, 1]))),
    )


def _on_support(pair: MatchedPair) -> _Part | None:
    """Return the pair on its common support. None: fewer than three points of the level are on the support."""
    reference, other = pair.reference, pair.other
    inside = (other.x >= reference.x.min()) & (other.x <= reference.x.max())
    if inside.sum() < MIN_POINTS:
        return None
    distances = np.full(other.x.size, np.nan)
    distances[inside] = other.y[inside] - reference.fit.predict(x=other.x[inside])
    on_level = (reference.x >= other.x.min()) & (reference.x <= other.x.max())
    num_reference_runs = max(reference.run_means(reference.x, on_level).size, 1)
    refits = None
    if reference.resamples is not None:
        refits = np.full((reference.resamples.num_resamples, other.x.size), np.nan)
        x = other.x[inside]
        refits[:, inside] = reference.resamples.curves({"x": x}) - reference.fit.predict(x=x)
    return _Part(pair, other.run_means(distances, inside), distances, inside, num_reference_runs, refits)


def _outer_gaps(parts: Sequence[_Part], noise: Noise, generator: np.random.Generator) -> tuple[OuterGap, ...]:
    """Return the gaps at the lower and at the upper end of the support. The weights of pairs are as in the whole."""
    gaps = []
    for lowest in (True, False):
        thirds = [third for part in parts if (third := _third(part, lowest)) is not None]
        if not thirds:
            return ()
        weights = np.array([1 / (1 / third.distances.size + 1 / third.num_reference_runs) for third in thirds])
        weights /= weights.sum()
        x = np.concatenate([third.pair.other.x[third.inside] for third in thirds])
        gap = float(np.dot(weights, [third.distances.mean() for third in thirds]))
        draws = weights @ np.array([_draws(third, noise, generator) for third in thirds])
        gaps.append(OuterGap((float(x.min()), float(x.max())), gap, draws_interval(draws, noise.degrees_of_freedom)))
    return tuple(gaps)


def _third(part: _Part, lowest: bool) -> _Part | None:
    """Return the part at one end of its support. None: fewer than three points are there."""
    x = part.pair.other.x
    if lowest:
        inside = part.inside & (x <= np.quantile(x[part.inside], OUTER_SHARE))
    else:
        inside = part.inside & (x >= np.quantile(x[part.inside], 1 - OUTER_SHARE))
    if inside.sum() < MIN_POINTS:
        return None
    return replace(part, distances=part.pair.other.run_means(part.of_points, inside), inside=inside)


def _draws(part: _Part, noise: Noise, generator: np.random.Generator) -> np.ndarray:
    """Return (draws,) gaps with both sides drawn again.

    The reference line is refitted to drawn runs. The level's runs vary as repeated runs do.
    Where no setting was repeated, blocks of neighbouring points are drawn on both sides.
    """
    level = _level_draws(part, noise, generator)
    moved = None if part.refits is None else part.refits[:, part.inside].mean(axis=1)
    reference = reference_draws(moved, noise, part.num_reference_runs, generator)
    return part.distances.mean() + level - reference


def _level_draws(part: _Part, noise: Noise, generator: np.random.Generator) -> np.ndarray:
    """Return (draws,) deviations that the level's mean distance could have from the measured one."""
    if noise.repeated:
        return run_draws(noise, part.distances.size, generator)
    other = part.pair.other
    x, y = other.x[part.inside], other.y[part.inside]
    order = np.argsort(x, kind="stable")
    distances = (y - part.pair.reference.fit.predict(x=x))[order]
    drawn = distances[block_indices(generator, x.size, NUM_DRAWS)].mean(axis=1)
    return drawn - distances.mean()


def _note(pairs: Sequence[MatchedPair], fitted: Sequence[MatchedPair], parts: Sequence[_Part], noise: Noise) -> str:
    """Return the warnings about the gap, separated by semicolons."""
    notes: list[str] = []
    if len(fitted) < len(pairs):
        reason = next(pair.reference.why_no_line for pair in pairs if pair.reference.why_no_line)
        notes.append(f"{len(pairs) - len(fitted)} of {len(pairs)} reference lines left out: {reason}")
    if not parts:
        first = fitted[0]
        x, base = first.other.x, first.reference.x
        inside = int(np.sum((x >= base.min()) & (x <= base.max())))
        few = f"only {inside} points on the common support" if inside else "no common support"
        notes.append(f"{few}: x {x.min():.3f}-{x.max():.3f}, reference {base.min():.3f}-{base.max():.3f}")
    elif len(parts) < len(fitted):
        notes.append(f"{len(fitted) - len(parts)} of {len(fitted)} matched settings have no common support")
    for pair in fitted:
        level, base = pair.other, pair.reference
        notes.append(falls_with_x("y of this level", level.x, level.y))
        notes.append(as_if_in_another_unit((level.x, level.y), (base.x, base.y)))
    references, levels = [pair.reference for pair in fitted], [pair.other for pair in fitted]
    beyond = "; the interval does not include that"
    notes.append(_misfit(references, "the reference", MISFIT_IN_NOISE * noise.floor, beyond))
    notes.append(_misfit(levels, "this level", LEVEL_MISFIT_IN_NOISE * noise.floor))
    if noise.repeated and all(pair.other.num_runs == 1 for pair in pairs):
        notes.append("one run of this level: its noise is that of the repeated settings")
    return "; ".join(dict.fromkeys(note for note in notes if note))


def _misfit(cells: Sequence[SettingLine], side: str, smallest: float, consequence: str = "") -> str:
    """Say where the points of some setting lie farthest off its own line. Empty: by no more than `smallest`."""
    distance, (low, high) = max((cell.misfit for cell in cells), key=lambda misfit: misfit[0])
    if not distance > smallest:
        return ""
    return f"points of {side} at x {low:.3f}-{high:.3f} lie {distance:.3f} off its own line{consequence}"
