"""Name the runs that a comparison sets aside, and withdraw verdicts that rest on a run in doubt."""

from collections.abc import Sequence, Set
from dataclasses import replace

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.fit.compare.far_run import FarRun
from lossline_jax.fit.compare.verdict import verdict_of


def without_far_runs(
    comparison: FactorComparison,
    with_all: FactorComparison,
    in_doubt: Sequence[FactorComparison],
    far: Sequence[FarRun],
    *,
    used: Set[str],
) -> FactorComparison:
    """Name the runs that lie far off, and say what the verdict is with them.

    A verdict that does not hold without the runs in doubt becomes `cannot tell`.

    Args:
        comparison: the comparison without the runs that are set aside.
        with_all: the comparison with all runs.
        in_doubt: the comparisons without runs in doubt, one for each set of `runs_in_doubt`. May be empty.
        far: the runs that are far from the line of their own setting.
        used: runs of the settings that the factor compares. Other far runs are named only where they change a verdict.
    """
    levels = tuple(
        _level_without_far_runs(level, with_all.levels[k], [rest.levels[k] for rest in in_doubt])
        for k, level in enumerate(comparison.levels)
    )
    changed = any(level.verdict != old.verdict for level, old in zip(levels, with_all.levels, strict=True))
    named = [run for run in far if changed or used & set(run.run_ids)]
    if not named:
        return comparison
    aside = [run for run in named if run.sure]
    doubtful = [run for run in named if not run.sure]
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
    run_ids = tuple(dict.fromkeys(run_id for run in named for run_id in run.run_ids))
    return replace(comparison, verdict=verdict, note=note, levels=levels, far_runs=run_ids)


def _level_without_far_runs(level: LevelGap, with_all: LevelGap, in_doubt: Sequence[LevelGap]) -> LevelGap:
    """Say what the verdict of a level is with all runs, and withdraw it where it rests on a run in doubt."""
    notes = []
    if with_all.verdict != level.verdict:
        notes.append(f"with all runs: {with_all.verdict}{_gap_text(with_all)}")
    changed = next((rest for rest in in_doubt if rest.verdict != level.verdict), None)
    if changed is not None:
        notes.append(f"with the runs in doubt: {level.verdict}, without: {changed.verdict}{_gap_text(changed)}")
    note = "; ".join(part for part in (*notes, level.note) if part)
    return replace(level, verdict=level.verdict if changed is None else "cannot tell", note=note)


def _gap_text(level: LevelGap) -> str:
    return "" if level.gap is None else f", gap {level.gap:+.4f}"
