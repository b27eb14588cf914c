"""Name the runs that a comparison of compute sets aside, and withdraw verdicts that rest on a run in doubt."""

from collections.abc import Sequence, Set
from dataclasses import replace

from lossline_jax.fit.compare.far_run import FarRun
from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.speedup.speedups import FactorSpeedup, LevelSpeedup
from lossline_jax.fit.tables.settings import Settings
from lossline_jax.formatting import ratio_text


def without_far_compute(
    found: Sequence[FactorSpeedup],
    with_all: Sequence[FactorSpeedup],
    in_doubt: Sequence[Sequence[FactorSpeedup]],
    far: Sequence[FarRun],
    *,
    cells: Sequence[ComputeCell],
) -> list[FactorSpeedup]:
    """Name the runs that lie far off in each factor, and say what the verdicts are with them.

    A verdict that does not hold without the runs in doubt becomes `cannot tell`.

    Args:
        found: the speedups without the runs that are set aside.
        with_all: the speedups with all runs.
        in_doubt: the speedups without runs in doubt, one for each set of `runs_in_doubt`. May be empty.
        far: the runs that are far from the others of their setting.
        cells: every setting with all its runs.
    """
    return [
        _factor_without_far(item, with_all[k], [rest[k] for rest in in_doubt], far, used=_runs_of(item, cells))
        for k, item in enumerate(found)
    ]


def _runs_of(item: FactorSpeedup, cells: Sequence[ComputeCell]) -> frozenset[str]:
    """Return the runs of the settings that a factor compares."""
    settings = Settings(tuple(cell.setting for cell in cells))
    pairs = [pair for level in item.levels for pair in settings.pairs(item.factor, level.level, item.reference)]
    return frozenset(run for pair in pairs for k in pair for run in cells[k].run_ids)


def _factor_without_far(
    item: FactorSpeedup,
    with_all: FactorSpeedup,
    in_doubt: Sequence[FactorSpeedup],
    far: Sequence[FarRun],
    *,
    used: Set[str],
) -> FactorSpeedup:
    """Name the runs that concern one factor: those that it compares, and those that change one of its verdicts."""
    levels = tuple(
        _level_without_far(level, with_all.levels[k], [rest.levels[k] for rest in in_doubt])
        for k, level in enumerate(item.levels)
    )
    changed = any(level.verdict != old.verdict for level, old in zip(levels, with_all.levels, strict=True))
    named = [run for run in far if changed or used & set(run.run_ids)]
    if not named:
        return item
    aside = [run for run in named if run.sure]
    doubtful = [run for run in named if not run.sure]
    parts = [*map(str, aside), "set aside"] if aside else []
    if doubtful:
        parts += [*map(str, doubtful), "not set aside, but no verdict rests on it"]
    note = "; ".join([*parts, *([item.note] if item.note else [])])
    run_ids = tuple(dict.fromkeys(run_id for run in named for run_id in run.run_ids))
    return replace(item, note=note, levels=levels, far_runs=run_ids)


def _level_without_far(level: LevelSpeedup, with_all: LevelSpeedup, in_doubt: Sequence[LevelSpeedup]) -> LevelSpeedup:
    """Say what the verdict of a level is with all runs, and withdraw it where it rests on a run in doubt."""
    notes = []
    if with_all.verdict != level.verdict:
        notes.append(f"with all runs: {with_all.verdict}{_speedup_text(with_all)}")
    changed = next((rest for rest in in_doubt if rest.verdict != level.verdict), None)
    if changed is not None:
        notes.append(f"with the runs in doubt: {level.verdict}, without: {changed.verdict}{_speedup_text(changed)}")
    note = "; ".join(part for part in (*notes, level.note) if part)
    return replace(level, verdict=level.verdict if changed is None else "cannot tell", note=note)


def _speedup_text(level: LevelSpeedup) -> str:
    return "" if level.speedup is None else f", speedup {ratio_text(level.speedup)}"
