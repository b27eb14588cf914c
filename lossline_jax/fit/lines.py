"""Does a level of a factor move the line? Curves are compared on their common support, parameters never."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.transfer import fit_shifted_power
from lossline_jax.fit.uncertainty import Bootstrap, block_indices, bootstrap, cluster_counts

Verdict = Literal["moves", "does not move", "cannot tell"]
MARGIN_WITH_SEEDS = 2.0  # times the noise
MARGIN_WITHOUT_SEEDS = 3.0  # residual spread understates how far a second run would lie
MIN_POINTS = 3  # on the common support


@dataclass(frozen=True)
class BaseLine:
    """The line that others are compared with, and its noise."""

    fit: FitResult
    resamples: Bootstrap
    x_range: tuple[float, float]
    residual_noise: float  # standard deviation about the line, in the unit of y, free parameters counted
    seed_noise: float | None  # largest mean gap of one base run from the line of the others; None: one run


@dataclass(frozen=True)
class LineComparison:
    """The mean signed gap of some points from the base line. Gaps and noise are in `unit`."""

    factor: str
    level: str
    unit: str
    verdict: Verdict
    note: str
    gap: float | None  # mean of y - base(x) over the points on the common support; None: no support
    interval: tuple[float, float] | None  # of the gap, by bootstrap
    interval_level: float
    method: str  # how the level's points were resampled
    noise: float  # the larger of the next two
    residual_noise: float
    seed_noise: float | None
    ratio: float | None  # gap / noise
    margin: float  # a line moves where the interval lies beyond +- margin, see `compare_with_base`
    support: tuple[float, float] | None  # range of x that both have
    num_points: int  # on the common support
    num_points_outside: int
    num_runs: int | None


def fit_base_line(
    x: Any,
    y: Any,
    clusters: Sequence | None = None,
    *,
    fit: FitResult | None = None,
    num_resamples: int = 200,
    seed: int = 0,
    unit: str = "nats/token",
) -> BaseLine:
    """Fit the base line and measure its noise.

    Args:
        x, y: (n,) losses of the base runs, every seed pooled; clusters: the run of each point.
        fit: the shifted power law already fitted to these points.

    Raises:
        LosslineError: no curve could be fitted.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    fit = fit or fit_shifted_power(x, y, clusters, unit=unit)
    if not fit.has_curve:
        raise LosslineError(f"the base line cannot be fitted: {fit.status} ({fit.note})")
    keep = np.isfinite(x) & np.isfinite(y)
    labels = None if clusters is None else np.asarray(clusters)[keep]
    x, y = x[keep], y[keep]
    num_free = 4 - len(fit.fixed)
    squares = float(np.sum((y - fit.predict({"x": x})) ** 2))
    return BaseLine(
        fit=fit,
        resamples=bootstrap(fit, {"x": x}, y, clusters=labels, num_resamples=num_resamples, seed=seed),
        x_range=(float(x.min()), float(x.max())),
        residual_noise=float(np.sqrt(squares / max(x.size - num_free, 1))),
        seed_noise=_seed_noise(x, y, labels),
    )


def _seed_noise(x: np.ndarray, y: np.ndarray, labels: np.ndarray | None) -> float | None:
    gaps = []
    for run in np.unique(labels) if labels is not None else ():
        own = labels == run
        others = fit_shifted_power(x[~own], y[~own], num_starts=16, level=None)
        if not others.has_curve:
            continue
        shared = own & (x >= x[~own].min()) & (x <= x[~own].max())
        if shared.sum() >= MIN_POINTS:
            gaps.append(abs(float(np.mean(y[shared] - others.predict({"x": x[shared]})))))
    return max(gaps) if gaps else None


def compare_with_base(
    base: BaseLine,
    x: Any,
    y: Any,
    clusters: Sequence | None = None,
    *,
    factor: str = "",
    level: str = "",
    unit: str = "nats/token",
    interval_level: float = 0.9,
    seed: int = 1,
) -> LineComparison:
    """Mean signed gap of points (x, y) from the base line over the range of x that both have.

    The interval resamples both sides: the base line by its bootstrap, these points by run (one run: in blocks
    of neighbours along x). Noise is the larger of the residual spread about the base line and, where the base
    was repeated, the gap between its runs. The margin is 2 noise with repeated base runs and 3 without.
    Verdict: `moves` where the whole interval lies beyond the margin on one side, `does not move` where it
    lies within, else `cannot tell`; also `cannot tell` with fewer than three points on the common support.

    Raises:
        LosslineError: x and y differ in length.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise LosslineError(f"{factor} {level}: x has shape {x.shape}, y {y.shape}; give two equal lists")
    keep = np.isfinite(x) & np.isfinite(y)
    labels = None if clusters is None else np.asarray(clusters)[keep]
    x, y = x[keep], y[keep]
    noise = max(base.residual_noise, base.seed_noise or 0.0)
    margin = noise * (MARGIN_WITHOUT_SEEDS if base.seed_noise is None else MARGIN_WITH_SEEDS)
    shared = (x >= base.x_range[0]) & (x <= base.x_range[1])
    num_runs = None if labels is None else len(set(labels.tolist()))
    gap, interval, method, support = None, None, "", None
    if shared.any():
        x_shared, y_shared = x[shared], y[shared]
        gap = float(np.mean(y_shared - base.fit.predict({"x": x_shared})))
        draws, method = _resampled_gaps(base, x_shared, y_shared, None if labels is None else labels[shared], seed)
        interval = tuple(np.quantile(draws, [(1 - interval_level) / 2, (1 + interval_level) / 2]).tolist())
        support = (float(x_shared.min()), float(x_shared.max()))
    notes = [_support_note(base, x, shared), _repeats_note(base, num_runs)]
    return LineComparison(
        factor=factor,
        level=level,
        unit=unit,
        verdict=_verdict(interval, margin, int(shared.sum())),
        note="; ".join(note for note in notes if note),
        gap=gap,
        interval=interval,
        interval_level=interval_level,
        method=method,
        noise=noise,
        residual_noise=base.residual_noise,
        seed_noise=base.seed_noise,
        ratio=gap / noise if gap is not None and noise > 0 else None,
        margin=margin,
        support=support,
        num_points=int(shared.sum()),
        num_points_outside=int((~shared).sum()),
        num_runs=num_runs,
    )


def _resampled_gaps(base: BaseLine, x, y, labels, seed: int) -> tuple[np.ndarray, str]:
    """(R,) mean gaps with both sides drawn again, and how these points were drawn."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    gaps_Rn = y - base.resamples.curves({"x": x})
    num_resamples = gaps_Rn.shape[0]
    generator = np.random.Generator(np.random.PCG64(seed))
    codes = None if labels is None else np.unique(labels[order], return_inverse=True)[1]
    if codes is not None and codes.max() > 0:
        counts = cluster_counts(generator, int(codes.max()) + 1, num_resamples)[:, codes]
        return np.sum(counts * gaps_Rn, axis=1) / np.sum(counts, axis=1), "by run"
    indices = block_indices(generator, x.size, num_resamples)
    return np.take_along_axis(gaps_Rn, indices, axis=1).mean(axis=1), "by blocks along the line"


def _verdict(interval: tuple[float, float] | None, margin: float, num_points: int) -> Verdict:
    if interval is None or num_points < MIN_POINTS:
        return "cannot tell"
    low, high = interval
    if low > margin or high < -margin:
        return "moves"
    return "does not move" if -margin < low and high < margin else "cannot tell"


def _support_note(base: BaseLine, x: np.ndarray, shared: np.ndarray) -> str:
    if not x.size:
        return "no points"
    if not shared.any():
        low, high = base.x_range
        return f"no common support: x {x.min():.3f}-{x.max():.3f}, base {low:.3f}-{high:.3f}"
    few = shared.sum() < MIN_POINTS
    return f"only {shared.sum()} points on the common support" if few else ""


def _repeats_note(base: BaseLine, num_runs: int | None) -> str:
    notes = {None: ["runs not told apart"], 1: ["one run"]}.get(num_runs, [])
    if base.seed_noise is None:
        notes.append("base not repeated, noise from its residuals")
    return "; ".join(notes)
