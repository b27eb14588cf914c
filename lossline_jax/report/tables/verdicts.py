"""The verdicts as a table: a row for each factor, and below it a row for each of its levels, in every unit.

Read `FactorVerdict` first: it holds the comparisons of one factor in all units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.fit.compare.gap import PairGap
from lossline_jax.fit.compare.level_trend import LevelTrend
from lossline_jax.fit.compare.over_levels import notes_on_level
from lossline_jax.fit.tables.columns import PER_BYTE, unit_label
from lossline_jax.formatting import p_text
from lossline_jax.report.content.points import with_unit
from lossline_jax.report.content.wording import NONE, interval, listed, number, signed_text
from lossline_jax.report.figures.plot import swatch
from lossline_jax.report.figures.style import Style, factor_name, factor_rank
from lossline_jax.report.tables.table import Cell, Column, Table

IN_WORDS = {
    "moves": "moves the line",
    "crosses": "crosses it",
    "does not move": "does not move it",
    "cannot tell": "cannot tell",
}
COURSES = {
    "fades": "fades: the gap surely shrinks while training goes on",
    "grows": "grows: the gap surely grows while training goes on",
    "crosses": "crosses: the gap surely has opposite signs at the start and at the far end",
    "stays": "stays: the gap surely changes by less than the margin",
}
TREND_IN_WORDS = {"rises": "the gap rises", "falls": "the gap falls", "flat": "no trend", "cannot tell": "cannot tell"}
DIFFERENT = ("moves", "crosses")  # verdicts which mean that the lines differ


@dataclass(frozen=True)
class JudgedLevel:
    """One level of a factor, with its gap to the reference line in each unit."""

    level: str  # as in the fits
    name: str  # as readers see it
    by_unit: Mapping[str, LevelGap]  # by key of the unit


@dataclass(frozen=True)
class FactorVerdict:
    """One factor with its comparisons in every unit."""

    factor: str
    by_unit: Mapping[str, FactorComparison]  # by key of the unit
    levels: tuple[JudgedLevel, ...]
    unit: str  # the unit that texts use

    @property
    def main(self) -> FactorComparison:
        """The comparison in the unit that texts use."""
        return self.by_unit[self.unit]

    def gap(self, level: JudgedLevel) -> LevelGap:
        """Return the gap of a level in the unit that texts use."""
        return level.by_unit[self.unit]

    def remark(self, level: JudgedLevel) -> str:
        """Return the mean gap of a level for a key: `−0.399 nats/token`.

        A level with gaps of both signs, or whose line crosses the reference, gets two gaps: `−0.2 to 0.3 nats/token`.
        A level without a gap gets an empty text.
        """
        gap = self.gap(level)
        if ends := opposite_pairs(gap):
            return with_unit(" to ".join(signed_text(pair.gap) for pair in ends), self.unit)
        if gap.verdict == "crosses":
            return with_unit(" to ".join(signed_text(end.gap) for end in gap.outer), self.unit)
        return "" if gap.gap is None else with_unit(signed_text(gap.gap), self.unit)


def opposite_pairs(gap: LevelGap) -> tuple[PairGap, PairGap] | None:
    """Return the lowest and the highest gap among the matched pairs of a level that moves the line.

    Only pairs whose interval excludes zero count. With one run for each level there is no interval, and the note of the
    row says so. The gap itself counts then.

    Returns:
        The two pairs. None: the level does not move the line, or no two gaps have opposite signs.
    """
    sure = [pair for pair in gap.pairs if pair.interval is None or pair.interval[0] * pair.interval[1] > 0]
    if gap.verdict != "moves" or not sure:
        return None
    low, high = min(sure, key=lambda pair: pair.gap), max(sure, key=lambda pair: pair.gap)
    return (low, high) if low.gap < 0 < high.gap else None


def farthest(gap: LevelGap) -> float:
    """Return the largest absolute gap of any matched pair."""
    return max((abs(pair.gap) for pair in gap.pairs), default=0.0)


def group_by_factor(
    comparisons: Sequence[FactorComparison], names: Mapping[tuple[str, str], str]
) -> list[FactorVerdict]:
    """Group the comparisons by factor, in the order of `style.FACTOR_ORDER`.

    Texts about all factors use one unit. It is bits/byte where tokenizers are compared, because their tokens differ.
    Otherwise it is the first unit.

    Args:
        comparisons: one comparison for each factor and unit.
        names: the level as readers see it, by (factor, level).
    """
    factors: dict[str, dict[str, FactorComparison]] = {}
    for comparison in comparisons:
        factors.setdefault(comparison.factor, {})[comparison.unit] = comparison
    of_texts = PER_BYTE if PER_BYTE in factors.get("tokenizer", {}) else None
    judged = []
    for factor, by_unit in factors.items():
        levels: dict[str, dict[str, LevelGap]] = {}
        for unit, comparison in by_unit.items():
            for gap in comparison.levels:
                levels.setdefault(gap.level, {})[unit] = gap
        missing = LevelGap("", "cannot tell", "no losses in this unit")
        judged_levels = tuple(
            JudgedLevel(level, names.get((factor, level), level), {unit: gaps.get(unit, missing) for unit in by_unit})
            for level, gaps in levels.items()
        )
        unit = of_texts if of_texts in by_unit else next(iter(by_unit))
        judged.append(FactorVerdict(factor, by_unit, judged_levels, unit))
    return sorted(judged, key=lambda item: factor_rank(item.factor))


def verdicts_table(judged: Sequence[FactorVerdict], styles: Mapping[tuple[str, str], Style]) -> Table:
    """Return the table: a row for each factor with its test, and below it a row for each level with its gaps.

    Args:
        judged: the factors, as `group_by_factor` gives them.
        styles: the style of each level, by (factor, level).
    """
    units = list(dict.fromkeys(unit for item in judged for unit in item.by_unit))
    columns = [
        Column("factor", "level"),
        Column("verdict", prose=True),
        *(Column("gap", unit_label(unit), numeric=True) for unit in units),
        Column("far end", "x of both ends", numeric=True),
        Column("p", numeric=True),
        Column("detects", "gaps from", numeric=True),
        Column("runs", "vs reference", numeric=True),
    ]
    rows: list[tuple[list[Cell], str]] = []  # the cells of a row, and the note below it
    for item in judged:
        rows.append((_factor_row(item, units), item.main.note))
        for level in item.levels:
            style = styles.get((item.factor, level.level), Style(item.factor))
            rows.append((_level_row(item, level, units, style), "; ".join(notes_on_level(item.main, item.gap(level)))))
        if (trend := item.main.trend) is not None:
            rows.append((_trend_row(item, trend, units), trend.note))
    return Table(
        "Gaps between lines, and verdicts", columns, [cells for cells, _ in rows], notes=[note for _, note in rows]
    )


def noise_sentence(judged: Sequence[FactorVerdict]) -> str:
    """Return the origin of the noise and the meaning of the margin, for the text above the table."""
    known = [item.main for item in judged if item.main.noise is not None]
    repetitions = sorted({main.noise_freedom for main in known if main.noise_source != "scatter"})
    scatter = any(main.noise_source == "scatter" for main in known)
    sources = ["the scatter of checkpoints along a line"] if scatter else []
    if repetitions:
        counts = " to ".join(str(count) for count in dict.fromkeys((repetitions[0], repetitions[-1])))
        sources.append(f"{counts} repetitions of equal runs")
    source = f" It is estimated from {listed(sources)}." if sources else ""
    return f"Noise is what another seed does.{source} The margin is three times the noise."


def _factor_row(item: FactorVerdict, units: Sequence[str]) -> list[Cell]:
    main = item.main
    line = "" if main.p_line is None else f"one line: {p_text(main.p_line)}"
    return [
        Cell(factor_name(item.factor), f"from {main.reference}", tone="strong"),
        verdict_cell({unit: c.verdict for unit, c in item.by_unit.items()}, _bound(item)),
        *(_noise_cell(item.by_unit.get(unit)) for unit in units),
        Cell(),
        Cell(
            p_text(main.p_holm),
            line,
            title="Holm-corrected over factors; one line for all levels: runs exchanged",
        ),
        Cell(),
        Cell(),
    ]


def _level_row(item: FactorVerdict, level: JudgedLevel, units: Sequence[str], style: Style) -> list[Cell]:
    gap = item.gap(level)
    return [
        Cell(level.name, drawing=swatch(style)),
        verdict_cell({unit: g.verdict for unit, g in level.by_unit.items()}, _bound(item), _course_word(gap)),
        *(_gap_cell(level.by_unit.get(unit)) for unit in units),
        _far_cell(gap, item),
        Cell(p_text(gap.p)),
        Cell(number(gap.smallest_detectable_gap), title="the smallest gap found in 90% of studies of this design"),
        Cell(f"{gap.num_runs} vs {gap.num_reference_runs}", f"{gap.num_points} points", title=_pairs_title(gap)),
    ]


def _trend_row(item: FactorVerdict, trend: LevelTrend, units: Sequence[str]) -> list[Cell]:
    """Return the row of a trend over the levels: its slope in each unit, and its test."""
    trends = {unit: c.trend for unit, c in item.by_unit.items() if c.trend is not None}
    words = {TREND_IN_WORDS[other.verdict] for other in trends.values()}
    return [
        Cell("trend", f"per {trend.per}", title="slope of the gap over the levels, with runs as units"),
        Cell(" or ".join(sorted(words)), tone="strong" if trend.verdict in ("rises", "falls") else ""),
        *(
            Cell(signed_text(own.slope, 4), interval(*own.interval, 4)) if (own := trends.get(unit)) else Cell(NONE)
            for unit in units
        ),
        Cell(),
        Cell(p_text(trend.p_holm), title="of no slope, Holm-corrected over trends"),
        Cell(),
        Cell(),
    ]


def _noise_cell(comparison: FactorComparison | None) -> Cell:
    if comparison is None or comparison.noise is None:
        return Cell(NONE)
    return Cell(f"noise {number(comparison.noise)}", f"margin {number(comparison.margin)}", tone="quiet")


def _gap_cell(gap: LevelGap | None) -> Cell:
    if gap is None or gap.gap is None:
        return Cell(NONE, title="" if gap is None else gap.note)
    if gap.interval is None:
        return Cell(signed_text(gap.gap), title="no interval")
    return Cell(signed_text(gap.gap), _ends(gap.interval), title=f"90% interval, {gap.method}")


def _far_cell(gap: LevelGap, item: FactorVerdict) -> Cell:
    """Return the gap at the lowest common x, in the unit that texts use, with the x of both ends of the course.

    Its title has the whole course. A p-value stands there only where it decides the word of the course.
    """
    course, unit = gap.course, item.unit
    if course is None:
        return Cell(NONE, title="no run spans the common range of x")
    start, far = (number(x) for x in course.x)
    ends = _ends(course.far_interval)
    parts = [f"at x {far}, in {unit_label(unit)}: {signed_text(course.far)} {ends}".rstrip()]
    parts.append(f"at the start, x {start}: {signed_text(course.start)} {_ends(course.start_interval)}".rstrip())
    p = "" if course.word == "stays" else f", p {p_text(course.p)}"
    parts.append(f"change: {signed_text(course.change)} {_ends(course.change_interval)}".rstrip() + p)
    if course.word:
        margin = f", ±{number(item.main.margin)}" if course.word == "stays" else ""
        parts.append(COURSES[course.word] + margin)
    return Cell(signed_text(course.far), f"{ends}\nx {start} → {far}".lstrip(), title="\n".join(parts))


def _course_word(gap: LevelGap) -> str:
    """Return `, fades`; an empty text where the course is unclear or the verdict says the same."""
    word = "" if gap.course is None else gap.course.word
    return f", {word}" if word and word != gap.verdict else ""


def _ends(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else interval(*ends)


def _pairs_title(gap: LevelGap) -> str:
    return "\n".join(f"{pair.matched_on}: {signed_text(pair.gap)} {_ends(pair.interval)}" for pair in gap.pairs)


def _bound(item: FactorVerdict) -> str:
    """Return ` by more than 0.014 bits/byte`: the margin, since "does not move" is meant relative to the noise."""
    margin = item.main.margin
    return "" if margin is None else f" by more than {with_unit(number(margin), item.unit)}"


def verdict_cell(verdicts: Mapping[str, str], bound: str = "", course: str = "") -> Cell:
    """Return the cell of a verdict. Where the units disagree it has the verdict of each unit.

    Args:
        verdicts: the verdict in each unit.
        bound: the end of "does not move it", where the units agree.
        course: the course of the gap in the unit that texts use, where the units agree: `, fades`.
    """
    if len(set(verdicts.values())) == 1:
        verdict = next(iter(verdicts.values()))
        text = IN_WORDS[verdict] + (bound if verdict == "does not move" else "") + course
    else:
        text = "; ".join(f"{IN_WORDS[verdict]} in {unit_label(unit)}" for unit, verdict in verdicts.items())
    return Cell(text, tone="strong" if set(verdicts.values()) <= set(DIFFERENT) else "")


def listed_factors(items: Sequence[FactorVerdict]) -> str:
    """Return the names of the factors: `data, size and optimiser`."""
    return listed([factor_name(item.factor) for item in items])
