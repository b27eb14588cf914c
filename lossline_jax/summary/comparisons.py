"""Format line comparisons as aligned text: the verdicts first, then the numbers behind them."""

from collections.abc import Sequence

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.fit.compare.course import GapCourse
from lossline_jax.fit.compare.level_trend import LevelTrend
from lossline_jax.fit.compare.over_levels import notes_on_level
from lossline_jax.fit.compare.verdict import SIGNIFICANCE
from lossline_jax.fit.study.results import Comparisons, StudyFits
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import NONE, p_text, text_table

LEVEL_HEADER = ("factor and level", "gap", "90% interval", "noises", "p", "detects", "runs", "verdict")
COURSE_HEADER = ("factor and level", "start", "far end", "90% interval", "change", "90% interval", "p", "course")
COURSE_LEGEND = (
    "fades, grows: the gap surely shrinks or grows toward the far end; crosses: its ends surely have opposite signs",
    "stays: the change surely lies within the margin, which stands below this word; -: unclear",
    "p: of a change of zero, Student's t. It decides no `stays` and is left out there: the interval decides",
)


def comparisons_text(comparisons: Comparisons) -> str:
    """Return every factor and level in every unit, and the things that were not fitted or compared.

    Args:
        comparisons: the comparisons of some fits.
    """
    fits = comparisons.fits.as_shown()
    nothing = "Nothing to compare: no factor has two levels"
    return "\n\n".join([*(verdict_blocks(fits) or [nothing]), *failure_blocks(fits)])


def comparison_text(comparison: FactorComparison) -> str:
    """Return the table of one factor. Below it are the warnings that a reader needs before believing the verdict.

    Args:
        comparison: the comparison of the factor.
    """
    return _table_text(f"Does it move the line? {comparison.factor}, {unit_label(comparison.unit)}", [comparison])


def verdict_blocks(fits: StudyFits) -> list[str]:
    """Return one table for each unit, with the warnings on its verdicts below it.

    Args:
        fits: the fits of a table.
    """
    compared = [(unit, fits.comparisons_in(unit)) for unit in fits.units]
    head = f"Does it move the line? Gap of {fits.y} at equal {fits.x}"
    return [_table_text(f"{head}, {unit_label(unit)}", comparisons) for unit, comparisons in compared if comparisons]


def failure_blocks(fits: StudyFits) -> list[str]:
    """Return a block with everything that was not fitted or not compared, and why. Empty: there is nothing.

    Args:
        fits: the fits of a table.
    """
    failures_text = "\n".join(f"  {failure}" for failure in fits.failures)
    return [f"Not fitted or not compared:\n{failures_text}"] if failures_text else []


def _table_text(head: str, comparisons: Sequence[FactorComparison]) -> str:
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    for item in comparisons:
        name = f"{item.factor} from {item.reference}"
        rows.append((name, None, None, None, p_text(item.p_holm), None, None, item.verdict))
        rows += [(f"  {level.level}", *_level_columns(level)) for level in item.levels]
        rows += [_trend_row(item.trend)] if item.trend is not None else []
        notes += [f"  {item.factor}: {_noise_text(item)}"] if item.noise is not None else []
        notes += [f"  {item.factor}: {item.note}"] if item.note else []
        notes += [f"  {item.factor}: trend: {item.trend.note}"] if item.trend and item.trend.note else []
        for level in item.levels:
            notes += [f"  {item.factor}={level.level}: {note}" for note in notes_on_level(item, level)]
    table = text_table(LEVEL_HEADER, rows, whole=("verdict",))
    return "\n".join([head, table, *notes, *_legend(comparisons), *_courses(comparisons)])


def _courses(comparisons: Sequence[FactorComparison]) -> list[str]:
    """Return a table of the course of each gap, with the meaning of its words. Empty: no gap has a course."""
    rows = [
        row
        for item in comparisons
        for level in item.levels
        if level.course is not None
        for row in _course_rows(item, level.level, level.course)
    ]
    if not rows:
        return []
    return [
        "",
        "Course of each gap, from the highest common x (start) to the lowest (far end)",
        text_table(COURSE_HEADER, rows, whole=("course",)),
        *COURSE_LEGEND,
    ]


def _course_rows(item: FactorComparison, level: str, course: GapCourse) -> list[tuple[object, ...]]:
    """Return the row of a course, and below it the x of both ends, and the margin where the course stays."""
    stays = course.word == "stays" and item.margin is not None
    gaps = (
        f"{item.factor}={level}",
        f"{course.start:+.4f}",
        f"{course.far:+.4f}",
        _interval_text(course.far_interval),
        f"{course.change:+.4f}",
        _interval_text(course.change_interval),
        NONE if stays else p_text(course.p),
        course.word or NONE,
    )
    start, far = course.x
    places = ("  at x", f"{start:.4f}", f"{far:.4f}", None, None, None, None, f"±{item.margin:.4f}" if stays else None)
    return [gaps, places]


def _interval_text(interval: tuple[float, float] | None) -> str:
    return NONE if interval is None else "[{:+.4f}, {:+.4f}]".format(*interval)


def _noise_text(item: FactorComparison) -> str:
    """Return the noise of a factor, its source, and the margin within which a gap does not move the line."""
    source = {"seeds": f"{item.noise_freedom} repetitions", "scatter": "scatter along the line", "none": ""}
    margin = "" if item.margin is None else f"; a gap within ±{item.margin:.4f} does not move the line"
    return f"noise {item.noise:.4f}, {source[item.noise_source]}{margin}"


def _level_columns(level: LevelGap) -> tuple[object, ...]:
    return (
        NONE if level.gap is None else f"{level.gap:+.4f}",
        _interval_text(level.interval),
        NONE if level.ratio is None else f"{level.ratio:+.1f}",
        p_text(level.p),
        NONE if level.smallest_detectable_gap is None else f"{level.smallest_detectable_gap:.4f}",
        f"{level.num_runs}/{level.num_reference_runs}",
        level.verdict_and_course,
    )


def _trend_row(trend: LevelTrend) -> tuple[object, ...]:
    """Return the row of a trend: the slope of the gap over the levels, with its interval and p."""
    interval = "[{:+.4f}, {:+.4f}]".format(*trend.interval)
    p = p_text(trend.p_holm)
    return (f"  per {trend.per}", f"{trend.slope:+.4f}", interval, None, p, None, None, trend.verdict)


def _legend(comparisons: Sequence[FactorComparison]) -> list[str]:
    """Return the explanations of the columns that the table has."""
    notes = ["noises: gap over noise; runs: of the level / of the reference"]
    if any(item.p is not None for item in comparisons):
        notes.append("p of a factor: no gap at any level, runs as units, Holm-corrected; of a level: Student's t")
    if any(item.trend is not None for item in comparisons):
        notes.append("per ...: slope of the gap over levels that are numbers; p: no slope, Holm-corrected over trends")
    lines = [f"{item.factor} {p_text(item.p_line)}" for item in comparisons if item.p_line is not None]
    if lines:
        notes.append(f"one line serves all levels, by exchanging whole runs, p: {', '.join(lines)}")
    if any(level.smallest_detectable_gap is not None for item in comparisons for level in item.levels):
        notes.append(f"detects: the smallest gap found in 90% of studies of this design at {SIGNIFICANCE:.0%}")
    return notes
