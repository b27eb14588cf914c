"""Fit the loss-to-loss line y = K (x - E_x)^kappa + E_y.

Each irreducible loss (E_x and E_y) is free, given, or taken from a compute law.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.arguments import require_losses
from lossline_jax.fit.curves.noise_in_x import corrected_fit, require_noise
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LEAST_SQUARES, LOG_LOG_LEAST_SQUARES
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import KAPLAN
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.solve import fit_law_many

Residual = Literal["plain", "log-log"]
OBJECTIVE_OF = {"plain": LEAST_SQUARES, "log-log": LOG_LOG_LEAST_SQUARES}  # by `Residual`
Irreducible = float | FitResult | Literal["free"]


@dataclass(frozen=True)
class TransferPrediction:
    """Losses that a fitted line predicts, one for each x."""

    x: tuple[float, ...]
    y: tuple[float | None, ...]  # None: the line has no value at this x
    below_domain: tuple[bool, ...]  # x is at or below E_x
    extrapolated: tuple[bool, ...]  # x is outside the range that was fitted


def fit_line(  # noqa: PLR0913 - three inputs; all the rest are options by keyword
    x: Any,
    y: Any,
    clusters: Sequence | np.ndarray | None = None,
    *,
    e_x: Irreducible = "free",
    e_y: Irreducible = "free",
    residual: Residual = "plain",
    noise_x: float | None = None,
    num_starts: int = 32,
    level: float | None = INTERVAL_LEVEL,
    unit: str = "nats/token",
) -> FitResult:
    """Fit the line of losses y over losses x.

    Rows at or below a given E_x are dropped and counted.

    Args:
        x: (n,) losses on the first set.
        y: (n,) losses on the second set, of the same checkpoints or of runs paired by N and D, in the unit of x.
        clusters: (n,) the label of the run of each point. None: not known.
        e_x: "free" (fitted), the irreducible loss itself, or the compute law of that loss, which gives its E.
        e_y: the same for the second set.
        residual: "plain" sums squares of y - f. "log-log" is ordinary least squares of ln(y - E_y) on ln(x - E_x), as
            arXiv 2411.12925 fits train-to-train lines; it needs both `e_x` and `e_y`.
        noise_x: standard deviation of the noise of a point in x, for a line that the noise does not make too flat
            (`noise_in_x`). The result then has no intervals; `bootstrap` gives them. None: x is taken as exact.
        num_starts: the number of starts of the search.
        level: the level of the profile intervals. None: no intervals.
        unit: the unit of the losses, for `FitResult.conventions`.

    Raises:
        LosslineError: log-log with a free irreducible loss, noise in x with a given one, a loss that is not above 0,
            or arrays that do not fit together.
    """
    for name, losses in (("x", x), ("y", y)):
        require_losses(name, losses)
    line = LineData(x, y, clusters, e_x, e_y, residual, noise_x)
    return fit_each_line([line], num_starts=num_starts, level=level, unit=unit)[0]


@dataclass(frozen=True, eq=False)
class LineData:
    """The data of one line: the arguments of `fit_line` that differ between lines."""

    x: Any  # (n,)
    y: Any  # (n,)
    clusters: Sequence | np.ndarray | None = None
    e_x: Irreducible = "free"
    e_y: Irreducible = "free"
    residual: Residual = "plain"
    noise_x: float | None = None


def fit_each_line(
    lines: Sequence[LineData],
    *,
    num_starts: int = 32,
    level: float | None = INTERVAL_LEVEL,
    unit: str = "nats/token",
) -> list[FitResult]:
    """Fit many lines at once. Each result is that of `fit_line`, and all of them together take much less time.

    Args:
        lines: the data of each line.
        num_starts: the number of starts of each search.
        level: the level of the profile intervals. None: no intervals.
        unit: the unit of the losses, for `FitResult.conventions`.

    Raises:
        LosslineError: as `fit_line`.
    """
    results: dict[int, FitResult] = {}
    points = [_points(line, unit) for line in lines]
    for residual, objective in OBJECTIVE_OF.items():
        chosen = [k for k, line in enumerate(lines) if line.residual == residual]
        data = [points[k] for k in chosen]
        fits = fit_law_many(SHIFTED_POWER, data, objective=objective, num_starts=num_starts, level=level, apart=True)
        results |= dict(zip(chosen, fits, strict=True))
    return [_corrected(line, results[k]) for k, line in enumerate(lines)]


def _points(line: LineData, unit: str) -> DataSet:
    """Return the points of a line, with the irreducible losses that are given."""
    if line.residual not in OBJECTIVE_OF:
        raise ArgumentError(
            "{residual}: {value!r} is not one of {known}", value=line.residual, known=tuple(OBJECTIVE_OF)
        )
    modes: dict[str, Irreducible] = {"E_x": line.e_x, "E_y": line.e_y}
    fixed = {name: _irreducible_loss(name, mode) for name, mode in modes.items() if mode != "free"}
    if line.residual == "log-log" and len(fixed) < 2:
        raise LosslineError("a log-log fit needs both e_x and e_y given; leave residual='plain' to fit them")
    if line.noise_x is not None:
        require_noise(line.noise_x)
        if fixed:
            raise ArgumentError("{noise_x}: a line with a given E_x or E_y is not corrected for it; leave one out")
    conventions = {"x": unit, "y": unit} | {name: _origin(mode) for name, mode in modes.items()}
    return DataSet({"x": line.x}, line.y, fixed, line.clusters, conventions=conventions)


def _corrected(line: LineData, fit: FitResult) -> FitResult:
    """Return the line corrected for the noise in x, if there is any."""
    if line.noise_x is None:
        return fit
    return corrected_fit(fit, np.asarray(line.x, float), np.asarray(line.y, float), line.noise_x)


def predict_transfer(fit: FitResult, x: Any) -> TransferPrediction:
    """Evaluate a fitted line at x, and mark each x that is at or below E_x.

    Args:
        fit: the fitted line.
        x: a number or an array, alone or as {"x": ...}.

    Raises:
        LosslineError: the fit has no curve, or x is not finite.
    """
    x = np.atleast_1d(SHIFTED_POWER.named(x)["x"])
    if not fit.has_curve:
        raise LosslineError(f"{fit.law}: nothing to predict with, the fit is {fit.status!r} ({fit.note})")
    if not np.all(np.isfinite(x)):
        raise LosslineError(f"{fit.law}: x must be finite to predict at")
    defined = fit.defined(x=x)
    y = np.full(x.shape, np.nan)
    y[defined] = fit.predict(x=x[defined])
    return TransferPrediction(
        x=tuple(x.tolist()),
        y=tuple(value if ok else None for value, ok in zip(y.tolist(), defined, strict=True)),
        below_domain=tuple((~defined).tolist()),
        extrapolated=tuple(fit.extrapolates(x=x).tolist()),
    )


def translate(law: FitResult, line: FitResult) -> FitResult:
    """Return the compute law of a second data set, from the law of the first and the train-to-train line between both.

    If L_0 has Kaplan's form, then L_1 = K (L_0 - E_0)^kappa + E_1 has Kaplan's form too (arXiv 2411.12925):

        A' = A K^(1 / (kappa alpha)), B' = B K^(1 / (kappa beta)), alpha' = kappa alpha, beta' = kappa beta, E' = E_1

    The compute-optimal N does not change.

    Args:
        law: the compute law of the first data set, in Kaplan's form.
        line: the line from losses of the first set to losses of the second, fitted with `e_x=law`.

    Raises:
        LosslineError: `law` does not have Kaplan's form, one of the two fits has no curve, or the line does not start
            at the law's E.
    """
    if law.law != KAPLAN.name:
        raise LosslineError(f"only a compute law of {KAPLAN.name} form translates into its own form, not {law.law!r}")
    for fit in (law, line):
        if not fit.has_curve:
            raise LosslineError(f"{fit.law}: nothing to translate, the fit is {fit.status!r} ({fit.note})")
    p, q = law.parameters, line.parameters
    if abs(q["E_x"] - p["E"]) > 1e-6 * p["E"]:
        raise LosslineError(f"the line has E_x = {q['E_x']:.6g}, the law E = {p['E']:.6g}: fit the line with e_x=law")
    translation = f"translated by K = {q['K']:.4g}, kappa = {q['kappa']:.4g}, fitted to {line.num_points} pairs"
    return dataclasses.replace(
        law,
        status=law.status if line.status == "converged" else line.status,
        note="; ".join(part for part in (translation, law.note, line.note) if part),
        parameters={
            "E": q["E_y"],
            "A": p["A"] * q["K"] ** (1 / (q["kappa"] * p["alpha"])),
            "B": p["B"] * q["K"] ** (1 / (q["kappa"] * p["beta"])),
            "alpha": q["kappa"] * p["alpha"],
            "beta": q["kappa"] * p["beta"],
        },
        intervals={},
        interval_level=None,
        objective=None,
        rmse=None,
        r_squared=None,
        share_of_starts=None,
        condition_number=None,
    )


def _irreducible_loss(name: str, mode: Irreducible) -> float:
    if isinstance(mode, str):
        raise LosslineError(f"{name}: {mode!r} is not 'free', a number or a fitted compute law")
    if not isinstance(mode, FitResult):
        return float(mode)
    if "E" not in mode.parameters:
        raise LosslineError(f"{name}: the {mode.law} fit gives no E; it is {mode.status!r} ({mode.note})")
    return mode.parameters["E"]


def _origin(mode: Irreducible) -> str:
    """Name the origin of an irreducible loss, for `FitResult.conventions`."""
    if isinstance(mode, FitResult):
        return f"from the {mode.law} law" + ("" if mode.status == "converged" else f", which is {mode.status!r}")
    return "free" if mode == "free" else "given"
