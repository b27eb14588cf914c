"""Name what a comparison of compute sets aside, and withdraw verdicts that rest on a run in doubt."""

from collections.abc import Sequence, Set
from dataclasses import replace

from lossline_jax.fit.compare.judged import FarPart, far_parts_to_name, far_run_ids, level_without_far_runs
from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.speedup.speedups import FactorSpeedup, LevelSpeedup
from lossline_jax.fit.tables.settings import Settings
from lossline_jax.formatting import ratio_text


def without_far_compute(
    found: Sequence[FactorSpeedup],
    with_all: Sequence[FactorSpeedup],
    in_doubt: Sequence[Sequence[FactorSpeedup]],
    far: Sequence[FarPart],
    *,
    cells: Sequence[ComputeCell],
) -> list[FactorSpeedup]:
    """Name the runs and checkpoints that lie far off in each factor, and say what the verdicts are with them.

    A verdict that does not hold without the runs in doubt becomes `cannot tell`.

    Args:
        found: the speedups without the runs that are set aside.
        with_all: the speedups with all runs.
        in_doubt: the speedups without runs in doubt, one for each set of `runs_in_doubt`. May be empty.
        far: the runs that are far from the others of their setting, and the checkpoints off its curve.
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
    far: Sequence[FarPart],
    *,
    used: Set[str],
) -> FactorSpeedup:
    """Name the runs and checkpoints that one factor compares, and those that change one of its verdicts."""
    levels = tuple(
        level_without_far_runs(
            level, with_all.levels[k], [rest.levels[k] for rest in in_doubt], size_text=_speedup_text, far=far
        )
        for k, level in enumerate(item.levels)
    )
    named = far_parts_to_name(far, levels, with_all.levels, used)
    if not named:
        return item
    aside = [part for part in named if part.sure]
    doubtful = [part for part in named if not part.sure]
    parts = [*map(str, aside), "set aside"] if aside else []
    if doubtful:
        parts += [*map(str, doubtful), "not set aside, but no verdict rests on it"]
    note = "; ".join([*parts, *([item.note] if item.note else [])])
    return replace(item, note=note, levels=levels, far_runs=far_run_ids(named))


def _speedup_text(level: LevelSpeedup) -> str:
    return "" if level.speedup is None else f", speedup {ratio_text(level.speedup)}"
