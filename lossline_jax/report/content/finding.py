"""The finding of a study as one paragraph: the factors that move the line, and those that do not."""

from collections.abc import Sequence

import pandas as pd

from lossline_jax.config.study import StudyConfig
from lossline_jax.fit.compare.comparison import LevelGap
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import p_text
from lossline_jax.report.content.points import with_unit
from lossline_jax.report.content.wording import capitalised, listed, number, signed_text
from lossline_jax.report.figures.style import factor_name
from lossline_jax.report.tables.judged import judged_table
from lossline_jax.report.tables.verdicts import (
    FactorVerdict,
    farthest,
    listed_factors,
    opposite_pairs,
)

MOST_NAMED = 3  # runs far from their line that the paragraph names
VERBS = {  # by verdict; "it" is the line
    "moves": "moves it",
    "crosses": "crosses it",
    "does not move": "does not move it",
    "cannot tell": "cannot be told",
}


def finding(judged: Sequence[FactorVerdict], x: str, y: str, nothing_because: str = "", *, progress: str = "") -> str:
    """Return the paragraph: factors that move the line and by how much, factors that do not, open questions and why.

    Args:
        judged: the factors with their comparisons, as `group_by_factor` gives them.
        x: the evaluation set of the horizontal axis.
        y: the evaluation set of the vertical axis.
        nothing_because: the reason why nothing is compared; empty where something is.
        progress: the part of an unfinished study that the table has: `3 of 7 runs are complete`. Empty: all of it.
    """
    text = _finding(judged, x, y, nothing_because)
    return f"So far ({progress}): {text}" if progress else text


def _finding(judged: Sequence[FactorVerdict], x: str, y: str, nothing_because: str) -> str:
    if nothing_because:
        return f"This study cannot tell which factor moves the line of {y} against {x}: {nothing_because}."
    if not judged:
        return f"This table draws one line of {y} against {x} and has no other level to compare with it."
    parts = (
        _moved(judged),
        _crossed(judged),
        _same(judged),
        _trends(judged),
        _open(judged),
        _left_out(judged),
        _units(judged),
        _far(judged),
    )
    return " ".join(part for part in parts if part)


def _moved(judged: Sequence[FactorVerdict]) -> str:
    movers = [item for item in judged if item.main.verdict == "moves"]
    if not movers:
        return "" if any(item.main.verdict == "crosses" for item in judged) else "No factor is seen to move the line."
    ranked_texts = []
    for item in movers:
        for level in item.levels:
            gap = item.gap(level)
            if gap.verdict == "moves":
                ranked_texts.append((-farthest(gap), f"{level.name} {_by(item, gap)}"))
    verb = "moves" if len(movers) == 1 else "move"
    texts = [text for _, text in sorted(ranked_texts)]
    return f"{capitalised(listed_factors(movers))} {verb} the line: {listed(texts)}."


def _by(item: FactorVerdict, gap: LevelGap) -> str:
    """Return `by −0.3 nats/token (14 times the noise, growing to −0.4)`.

    Where the mean hides gaps of both signs, return the lowest and the highest gap instead: `from ... to ...`. Where
    the sign depends on the level of another factor, return the gap at each of its levels.
    """
    unit = item.unit
    if interactions := [own for own in item.main.interactions_of(gap.level) if own.changes_sign]:
        strongest = min(interactions, key=lambda interaction: interaction.p)
        gaps = listed([f"{with_unit(signed_text(own.gap), unit)} with {own.level}" for own in strongest.gaps])
        return f"by {gaps} (interaction with {factor_name(strongest.other_factor)}, p {p_text(strongest.p)})"
    if ends := opposite_pairs(gap):
        low, high = (f"{with_unit(signed_text(pair.gap), unit)} ({pair.matched_on})" for pair in ends)
        return f"from {low} to {high}"
    ratio = f"{abs(gap.ratio):.0f} times the noise" if gap.ratio is not None else ""
    more = ", ".join(part for part in (ratio, _course(gap)) if part)
    return f"by {with_unit(signed_text(gap.gap), unit)}" + (f" ({more})" if more else "")


def _course(gap: LevelGap) -> str:
    """Return `fading to +0.002`; empty where the gap is not seen to change."""
    course = gap.course
    if course is None or course.word not in ("fades", "grows", "crosses"):
        return ""
    if course.word == "crosses":
        return f"going from {signed_text(course.start)} to {signed_text(course.far)}"
    return f"{'fading' if course.word == 'fades' else 'growing'} to {signed_text(course.far)}"


def _crossed(judged: Sequence[FactorVerdict]) -> str:
    """Name the levels whose mean gap hides that their line differs from the reference at both ends."""
    level_texts = []
    for item in judged:
        for level in item.levels:
            gap = item.gap(level)
            if gap.verdict == "crosses":
                ends = (gap.course.far, gap.course.start) if gap.course else [end.gap for end in gap.outer]
                low, high = (with_unit(signed_text(end), item.unit) for end in ends)
                level_texts.append(f"{level.name} ({low} at low loss, {high} at high)")
    return f"The lines of {listed(level_texts)} cross that of the reference." if level_texts else ""


def _same(judged: Sequence[FactorVerdict]) -> str:
    items = [item for item in judged if item.main.verdict == "does not move"]
    if not items:
        return ""
    margins: dict[str, float] = {}  # the largest margin of each unit
    for item in items:
        margins[item.unit] = max(margins.get(item.unit, 0.0), item.main.margin or 0.0)
    within = [with_unit(f"±{number(margin)}", unit) for unit, margin in margins.items()]
    verb = "does" if len(items) == 1 else "do"
    return f"{capitalised(listed_factors(items))} {verb} not: gaps stay within {' and '.join(within)}."


def _trends(judged: Sequence[FactorVerdict]) -> str:
    """Name the factors whose gap rises or falls with the level."""
    texts = []
    for item in judged:
        trend = item.main.trend
        if trend is not None and trend.verdict in ("rises", "falls"):
            ends = f"{signed_text(trend.slope, 4)} [{', '.join(signed_text(end, 4) for end in trend.interval)}]"
            texts.append(
                f"The gap {trend.verdict} with {factor_name(item.factor)}: "
                f"{with_unit(ends, item.unit)} per {trend.per}."
            )
    return " ".join(texts)


def _open(judged: Sequence[FactorVerdict]) -> str:
    items = [item for item in judged if item.main.verdict == "cannot tell"]
    if not items:
        return ""
    reasons = [f"{factor_name(item.factor)}{_why(item)}" for item in items]
    return f"For {listed(reasons)} this study cannot tell."


def _why(item: FactorVerdict) -> str:
    gaps = [item.gap(level) for level in item.levels]
    notes = dict.fromkeys(gap.note.split(":")[0] for gap in gaps if gap.gap is None and gap.note)
    return f" ({'; '.join(notes)})" if notes else ""


def _left_out(judged: Sequence[FactorVerdict]) -> str:
    """Name the levels without a gap of the factors that have a verdict on other levels."""
    texts = [
        f"{level.name} ({gap.note.split(':')[0]})"
        for item in judged
        if item.main.verdict != "cannot tell"
        for level in item.levels
        if (gap := item.gap(level)).gap is None and gap.note
    ]
    return f"There is no answer for {listed(texts)}." if texts else ""


def _units(judged: Sequence[FactorVerdict]) -> str:
    texts = []
    for item in judged:
        for unit, other in item.by_unit.items():
            if other.verdict != item.main.verdict:
                texts.append(f"In {unit_label(unit)} {factor_name(item.factor)} {VERBS[other.verdict]}.")
    if any(item.main.noise_source == "scatter" for item in judged):
        texts.append(
            "Nothing was repeated with another seed, so noise is only the scatter of checkpoints along a line."
        )
    return " ".join(texts)


def _far(judged: Sequence[FactorVerdict]) -> str:
    """Name the runs far from their own line, which may be bad runs. The notes of the table say more about them."""
    runs = list(dict.fromkeys(run for item in judged for run in item.main.far_runs))
    if not runs:
        return ""
    shown = [*runs[:MOST_NAMED], f"{len(runs) - MOST_NAMED} more"] if len(runs) > MOST_NAMED else runs
    whose, pronoun = ("its", "it") if len(runs) == 1 else ("their", "them")
    return f"Far from the line of {whose} own setting: {listed(shown)}. No verdict rests on {pronoun}."


def study_finding(frame: pd.DataFrame, fits: StudyFits, study: StudyConfig, progress: str = "") -> str:
    """Return the finding of a study as its page has it.

    Args:
        frame: the losses table.
        fits: the fits of the table.
        study: the study.
        progress: as for `finding`.
    """
    table = judged_table(frame, fits, study)
    x, y = table.fits.x, table.fits.y
    return finding(table.factors, x, y, missing_base(table.fits), progress=progress)


def missing_base(fits: StudyFits) -> str:
    """Return the reason why nothing is compared, or an empty text where something is compared.

    Args:
        fits: the fits of a table.
    """
    if fits.comparisons:
        return ""
    if fits.base_label is None:
        return "no base was named for the other lines to be compared with"
    reasons = [failure for failure in fits.failures if failure.startswith((fits.base_label, "nothing"))]
    return "; ".join(reasons) or "no run differs from the base in one factor"
