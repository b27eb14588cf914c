"""Decide the verdicts of the levels of a table on one loss. The rules are in the docstring of `compare_compute`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.compare.holm import holm
from lossline_jax.fit.speedup.cell import Displacement
from lossline_jax.fit.speedup.noise_pool import Errors, Matched, NoisePool, errors_of_level
from lossline_jax.fit.speedup.power_curves import miss_text
from lossline_jax.fit.speedup.speedups import ComputeVerdict, LevelSpeedup, PairSpeedup, SpeedupAt
from lossline_jax.fit.tables.settings import pair_names

FAR_MISFIT = 10.0  # noises of a run: curves that miss their points by more, and by more than the speedup, tell nothing
SIGNIFICANT = 0.05  # probability, by convention, of the test of each level


@dataclass(frozen=True, eq=False)
class MeasuredLevel:
    """The pairs of one level of a factor, before the verdict."""

    factor: str
    level: str
    matched: tuple[Matched, ...]
    note: str  # why there is nothing, or warnings
    # True: half of the runs of one side end above an earlier loss, or the compute seems to have another unit.
    no_verdict_holds: bool = False


def judge_levels(items: Sequence[MeasuredLevel], margin: float) -> list[LevelSpeedup]:
    """Return the verdict of each level.

    Args:
        items: all levels of all factors, on one loss.
        margin: a ratio above 1: a speedup whose interval lies within 1/margin and margin is no difference.
    """
    pool = NoisePool([pair for item in items for pair in item.matched])
    errors = [errors_of_level(item.matched, pool) if item.matched else None for item in items]
    corrected = holm([None if error is None else error.p for error in errors])
    return [
        _judged(item, error, p_holm, pool=pool, margin=margin)
        for item, error, p_holm in zip(items, errors, corrected, strict=True)
    ]


def _judged(
    item: MeasuredLevel, errors: Errors | None, p_holm: float | None, *, pool: NoisePool, margin: float
) -> LevelSpeedup:
    if errors is None:
        return LevelSpeedup(item.level, "cannot tell", item.note)
    lowest = item.matched[0][-1].num_by_loss - 1
    mean, interval = float(errors.values[-1]), errors.interval(-1)
    of_pairs = [errors_of_level([pair], pool) for pair in item.matched]
    pairs = tuple(
        _pair(name, pair, of_pair)
        for name, pair, of_pair in zip(
            pair_names([reference.levels for reference, *_ in item.matched]), item.matched, of_pairs, strict=True
        )
    )
    verdict = "depends" if _signs(of_pairs) == {1, -1} else _verdict(mean, interval, p_holm, margin)
    misfit = _large_misfit(item.matched, errors, margin)
    if item.no_verdict_holds or misfit:
        verdict = "cannot tell"
    level = LevelSpeedup(
        level=item.level,
        verdict=verdict,
        note=item.note,
        speedup=float(np.exp(mean)),
        interval=interval,
        p=errors.p,
        p_holm=p_holm,
        noise=errors.noise,
        noise_freedom=errors.freedom,
        noise_share=None if errors.noise is None or mean == 0 else errors.noise / abs(mean),
        highest=float(np.exp(errors.values[0])),
        highest_interval=errors.interval(0),
        lowest=float(np.exp(errors.values[lowest])),
        lowest_interval=errors.interval(lowest),
        num_runs=sum(pair.num_runs for pair in pairs),
        num_reference_runs=sum(pair.num_reference_runs for pair in pairs),
        pairs=pairs,
    )
    notes = [_unknown_noise(errors), misfit, _reversal(level), _disagreement(level, margin), item.note]
    return dataclasses.replace(level, note="; ".join(note for note in notes if note))


def _large_misfit(matched: Sequence[Matched], errors: Errors, margin: float) -> str:
    """Say that the curves miss their own points by more than they lie apart, and far beyond noise. Empty: they do not.

    Args:
        matched: the pairs of a level.
        errors: their speedup with its errors.
        margin: a ratio above 1: a smaller speedup is no difference.
    """
    largest = max((item.misfit for *_, item in matched if item.misfit is not None), default=0.0)
    if largest < max(abs(float(errors.values[-1])), np.log(margin), FAR_MISFIT * (errors.noise or 0.0)):
        return ""
    return f"the curves miss their own points by more than the speedup, {miss_text(largest)}: no verdict"


def _verdict(mean: float, interval: tuple[float, float] | None, p: float | None, margin: float) -> ComputeVerdict:
    if p is not None and p < SIGNIFICANT:
        return "saves compute" if mean > 0 else "costs compute"
    if interval is not None and interval[0] > 1 / margin and interval[1] < margin:
        return "no difference"
    return "cannot tell"


def _signs(of_pairs: Sequence[Errors]) -> set[int]:
    """Return the signs of the pairs whose own speedup is not 1 (5%, Bonferroni over pairs)."""
    strictest = SIGNIFICANT / len(of_pairs)
    return {int(np.sign(pair.values[-1])) for pair in of_pairs if pair.p is not None and pair.p < strictest}


def _unknown_noise(errors: Errors) -> str:
    if errors.noise is None:
        return "one run a level: nothing tells how another run would differ, so no interval and no test"
    if errors.p is None:
        return "the repetitions are identical: they show no noise, so no interval and no test"
    return ""


def _reversal(level: LevelSpeedup) -> str:
    """Say that the answer is the other way round at the highest common losses. Empty: it is not."""
    far, near = level.highest_interval, level.interval
    if far is None or near is None or level.highest is None:
        return ""
    if (far[1] < 1 < near[0]) or (near[1] < 1 < far[0]):
        return f"the other way round at the highest common losses: {level.highest:.3g}"
    return ""


def _disagreement(level: LevelSpeedup, margin: float) -> str:
    """Name the lowest and the highest speedup of the pairs, where they differ by more than the margin."""
    low, high = (choose(level.pairs, key=lambda pair: pair.speedup) for choose in (min, max))
    if len(level.pairs) < 2 or high.speedup < margin * low.speedup:
        return ""
    return f"from {low.speedup:.3g} ({low.matched_on}) to {high.speedup:.3g} ({high.matched_on})"


def _pair(name: str, matched: Matched, errors: Errors) -> PairSpeedup:
    item = matched[-1]
    if item.variance is None:
        errors = _with_errors_between_losses(errors, item)

    def at(k: int) -> SpeedupAt:
        return SpeedupAt(
            loss=float(item.losses[k]),
            reference_compute=float(np.exp(item.reference_log_compute[k])),
            level_compute=float(np.exp(item.level_log_compute[k])),
            speedup=float(np.exp(item.values[k])),
            interval=errors.interval(k),
        )

    budgets = [k for k in range(item.num_by_loss, item.losses.size) if np.isfinite(item.losses[k])]
    return PairSpeedup(
        matched_on=name,
        speedup=float(np.exp(item.values[-1])),
        interval=errors.interval(-1),
        losses=item.bounds,
        num_runs=item.num_runs,
        num_reference_runs=item.num_reference_runs,
        by_loss=tuple(at(k) for k in range(item.num_by_loss)),
        by_budget=tuple(at(k) for k in budgets),
        parameters=dict(item.parameters or {}),
    )


def _with_errors_between_losses(errors: Errors, item: Displacement) -> Errors:
    """Interpolate the errors at budgets between those at the losses, which other settings of the table pool too."""
    known = slice(0, item.num_by_loss)
    order = item.reference_log_compute[known]
    between = np.interp(item.reference_log_compute[item.num_by_loss :], order, errors.standard_errors[known])
    errors_of_all = np.concatenate([errors.standard_errors[known], between, errors.standard_errors[-1:]])
    return dataclasses.replace(errors, standard_errors=errors_of_all)
