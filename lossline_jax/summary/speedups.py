"""Format speedups as aligned text: the verdicts first, then the speedup at single losses and budgets."""

import math
from collections.abc import Sequence

from lossline_jax.fit.speedup.speedups import ComputeComparison, FactorSpeedup, LevelSpeedup, PairSpeedup, SpeedupAt
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import NONE, p_text, ratio_text, text_table

HEADER = ("factor and level", "speedup", "90% interval", "high", "low", "p", "noise", "runs", "verdict")
COURSE_HEADER = ("level", "at", "reference needs", "level needs", "speedup", "90% interval")


def speedups_text(result: ComputeComparison) -> str:
    """Return the verdicts on every loss, the course of each speedup, and what was left out.

    Args:
        result: the speedups of a table.
    """
    result = result.as_shown()
    blocks = speedup_blocks(result.factors) or ["Nothing to compare: no factor has two levels"]
    groups = _by_loss(result.factors)
    if len(groups) == 1:
        blocks += _course(groups[0])
    elif groups:
        blocks.append("Name one loss alone to see the speedups at single losses and budgets")
    blocks.append(f"compute: {result.compute}. {result.conventions.get('points of compute', '')}".rstrip())
    if result.failures:
        blocks.append("\n".join(["Left out, or to know:", *(f"  {failure}" for failure in result.failures)]))
    return "\n\n".join(blocks)


def speedup_blocks(factors: Sequence[FactorSpeedup]) -> list[str]:
    """Return one table for each loss, with the notes of its factors and levels below it.

    Args:
        factors: the speedups of a table.
    """
    return [_verdicts(of_loss) for of_loss in _by_loss(factors)]


def _by_loss(factors: Sequence[FactorSpeedup]) -> list[list[FactorSpeedup]]:
    groups: dict[tuple[str, str], list[FactorSpeedup]] = {}
    for item in factors:
        groups.setdefault((item.loss, item.unit), []).append(item)
    return list(groups.values())


def _verdicts(factors: Sequence[FactorSpeedup]) -> str:
    first = factors[0]
    unit = f", {unit_label(first.unit)}" if first.unit else ""
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    for item in factors:
        rows.append((f"{item.factor} from {item.reference}", *[None] * (len(HEADER) - 1)))
        rows += [(f"  {level.level}", *_level_columns(level)) for level in item.levels]
        notes += [f"  {item.factor}: {_noise_text(item)}"] if _noise_text(item) else []
        notes += [f"  {item.factor}={level.level}: {level.note}" for level in item.levels if level.note]
    notes += _factor_notes(factors)
    head = f"Does it save compute? Compute of the reference / of the level at equal {first.loss}{unit}"
    curve = {"measured": "the runs' own curves", "power law": "L = E + A / C^alpha"}[first.curve]
    within = f"within {1 / first.margin:.2f} and {first.margin:.2f}"
    legend = [
        "speedup: mean over the lower half of the common losses; high, low: at the highest and the lowest of them",
        f"p: of speedup 1, corrected over all levels (Holm); no difference: surely {within}",
        f"noise: that of a run, as a share of the speedup (in logarithms); curves: {curve}",
    ]
    return "\n".join([head, text_table(HEADER, rows, whole=HEADER[1:]), *notes, *legend])


def _factor_notes(factors: Sequence[FactorSpeedup]) -> list[str]:
    """Return each note once, with all factors that have it: a run of the base concerns every factor."""
    by_note: dict[str, list[str]] = {}
    for item in factors:
        by_note.setdefault(item.note, []).append(item.factor)
    return [f"  {', '.join(names)}: {note}" for note, names in by_note.items() if note]


def _noise_text(item: FactorSpeedup) -> str:
    """Return the factor by which the compute of runs varies at equal loss; empty where nothing was repeated."""
    noises = sorted({level.noise for level in item.levels if level.noise is not None})
    if not noises:
        return ""
    factors = dict.fromkeys(times_text(math.exp(noise)) for noise in (noises[0], noises[-1]))
    return f"runs vary by a factor of {' to '.join(factors)} in compute at equal loss (standard deviation)"


def _level_columns(level: LevelSpeedup) -> tuple[object, ...]:
    if level.speedup is None:
        return (NONE, NONE, NONE, NONE, NONE, NONE, NONE, level.verdict)
    return (
        times_text(level.speedup),
        interval_text(level.interval),
        times_text(level.highest),
        times_text(level.lowest),
        p_text(level.p_holm),
        share_text(level.noise_share),
        f"{level.num_runs} vs {level.num_reference_runs}",
        level.verdict,
    )


def times_text(ratio: float | None) -> str:
    """Return a ratio as text with two digits or more, such as `1.87`, `0.064` or `12.4`; a dash for None.

    Args:
        ratio: the ratio.
    """
    return NONE if ratio is None else ratio_text(ratio)


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval of a ratio as text, such as `[1.63, 2.13]`; a dash for None.

    Args:
        interval: both ends.
    """
    return NONE if interval is None else f"[{times_text(interval[0])}, {times_text(interval[1])}]"


def share_text(share: float | None) -> str:
    """Return the noise of a run as a share of the speedup, such as `0.3`; a dash if it is not known.

    Args:
        share: noise over speedup, both in logarithms.
    """
    if share is None:
        return NONE
    return f"{share:.2f}" if share < 0.995 else f"{share:.1f}" if share < 9.95 else ">10"


def _course(factors: Sequence[FactorSpeedup]) -> list[str]:
    """Return the table of the speedups at single losses and budgets; of levels with several pairs, of each pair."""
    rows: list[tuple[object, ...]] = []
    for item in factors:
        for level in item.levels:
            if len(level.pairs) == 1:
                name = f"{item.factor} {level.level}"
                rows += [(name if not k else None, *cells) for k, cells in enumerate(_course_of(level.pairs[0]))]
            elif level.pairs:
                rows.append((f"{item.factor} {level.level}", *[None] * (len(COURSE_HEADER) - 1)))
                rows += [_of_pair(pair) for pair in level.pairs]
    if not rows:
        return []
    lines = [
        f"At single losses and budgets, {factors[0].loss}",
        text_table(COURSE_HEADER, rows, whole=COURSE_HEADER[1:]),
        "budget: of the level; beside it, what the reference needs for the same loss",
    ]
    return ["\n".join(lines)]


def _course_of(pair: PairSpeedup) -> list[tuple[object, ...]]:
    losses = [(f"loss {at.loss:.4g}", *_numbers(at)) for at in _ends_and_middle(pair.by_loss)]
    budgets = [(f"budget {at.level_compute:.2e}", *_numbers(at)) for at in _ends_and_middle(pair.by_budget)]
    return [*losses, *budgets]


def _ends_and_middle(items: Sequence[SpeedupAt]) -> list[SpeedupAt]:
    return list(items) if len(items) < 3 else [items[0], items[len(items) // 2], items[-1]]


def _numbers(at: SpeedupAt) -> tuple[object, ...]:
    return (
        f"{at.reference_compute:.2e}",
        f"{at.level_compute:.2e}",
        times_text(at.speedup),
        interval_text(at.interval),
    )


def _of_pair(pair: PairSpeedup) -> tuple[object, ...]:
    losses = "losses {:.3g}-{:.3g}".format(*pair.losses)
    return f"  {pair.matched_on}", losses, None, None, times_text(pair.speedup), interval_text(pair.interval)
