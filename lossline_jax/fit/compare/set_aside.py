"""Name the runs and checkpoints that a comparison sets aside, and withdraw verdicts that rest on a run in doubt."""

from collections.abc import Sequence, Set
from dataclasses import replace

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.fit.compare.judged import FarPart, far_parts_to_name, far_run_ids, level_without_far_runs
from lossline_jax.fit.compare.verdict import verdict_of


def without_far_runs(
    comparison: FactorComparison,
    with_all: FactorComparison,
    in_doubt: Sequence[FactorComparison],
    far: Sequence[FarPart],
    *,
    used: Set[str],
) -> FactorComparison:
    """Name the runs and checkpoints that lie far off, and say what the verdict is with them.

    A verdict that does not hold without the runs in doubt becomes `cannot tell`.

    Args:
        comparison: the comparison without the runs that are set aside.
        with_all: the comparison with all runs.
        in_doubt: the comparisons without runs in doubt, one for each set of `runs_in_doubt`. May be empty.
        far: the runs that are far from the line of their own setting, and the checkpoints that are.
        used: runs of the settings that the factor compares. Other far runs are named only where they change a verdict.
    """
    levels = tuple(
        level_without_far_runs(
            level, with_all.levels[k], [rest.levels[k] for rest in in_doubt], size_text=_gap_text, far=far
        )
        for k, level in enumerate(comparison.levels)
    )
    named = far_parts_to_name(far, levels, with_all.levels, used)
    if not named:
        return comparison
    aside = [part for part in named if part.sure]
    doubtful = [part for part in named if not part.sure]
    verdict = verdict_of(levels)
    parts = []
    if aside:
        pronoun = "it" if len(aside) == 1 else "them"
        too = " too" if with_all.verdict == verdict else ""
        parts += [*map(str, aside), f"set aside; with {pronoun}{too}: {with_all.verdict}"]
    if doubtful:
        verdicts = list(dict.fromkeys(rest.verdict for rest in in_doubt))
        outcome = f"not set aside; with all: {comparison.verdict}, without: {' or '.join(verdicts)}"
        parts += [*map(str, doubtful), outcome]
    note = "; ".join([*parts, *([comparison.note] if comparison.note else [])])
    return replace(comparison, verdict=verdict, note=note, levels=levels, far_runs=far_run_ids(named))


def _gap_text(level: LevelGap) -> str:
    return "" if level.gap is None else f", gap {level.gap:+.4f}"
