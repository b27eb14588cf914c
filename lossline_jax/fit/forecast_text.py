"""Fits of laws, predictions and backtests as plain aligned text for the terminal."""

from collections.abc import Sequence

import numpy as np

from lossline_jax.fit.backtest import Backtest
from lossline_jax.fit.curves import Law
from lossline_jax.fit.forecast import Forecast, Prediction
from lossline_jax.fit.law_fits import LawFits
from lossline_jax.fit.laws.published import PUBLISHED, PUBLISHED_UNITS
from lossline_jax.text import shown, text_table


def law_text(law: Law) -> str:
    """What there is to know about a law before fitting it."""
    rows = []
    for p in law.parameters:
        upper = f"from the {p.below} of the data" if p.below else f"{p.upper:g}"
        rows.append((p.name, p.unit, f"{p.lower:g}", upper, "yes" if p.linear else ""))
    lines = [f"{law.name}: {law.formula}", *(f"  {name}: {meaning}" for name, meaning in law.inputs.items())]
    lines += [f"loss: {law.loss.name}", f"source: {law.source}", *([f"note: {law.note}"] if law.note else [])]
    return "\n".join([*lines, "", text_table(("parameter", "unit", "from", "to", "linear"), rows), *_published(law)])


def _published(law: Law) -> list[str]:
    """A block of the values that papers give for the law, with the units that they hold in."""
    if law.name not in PUBLISHED:
        return []
    labels = PUBLISHED[law.name]
    rows = [(label, *(f"{values[name]:.6g}" for name in law.names)) for label, values in labels.items()]
    return ["", f"published values, for {PUBLISHED_UNITS[law.name]}", text_table(("from", *law.names), rows)]


def law_fits_text(found: LawFits) -> str:
    """Parameters with their intervals, a row a group and output; then what failed."""
    names = list(dict.fromkeys(name for each in found.fits for name in each.fit.parameters))
    header = ("group", "output", *names, "rmse", "R2", "points", "starts at best", "status", "note")
    rows = []
    for each in found.fits:
        fit = each.fit
        rows.append(
            (
                each.label,
                each.output,
                *(_parameter(fit, name) for name in names),
                "-" if fit.rmse is None else f"{fit.rmse:.4g}",
                "-" if fit.r_squared is None else f"{fit.r_squared:.4f}",
                fit.num_points,
                "-" if fit.share_of_starts is None else f"{fit.share_of_starts:.0%}",
                fit.status,
                fit.note,
            )
        )
    counted = ", ".join(f"{name} = {column}" for name, column in found.inputs.items())
    rows_are = f"runs are those of column {shown(found.runs)}" if found.runs else "rows count as independent runs"
    said = f"{rows_are}; intervals: 90%, of the profile likelihood unless the note says otherwise"
    blocks = [f"{found.law}: {found.formula}   ({shown(counted)}; {said})", text_table(header, rows)]
    return "\n\n".join([*blocks, *_listed("Not fitted", found.failures)])


def predictions_text(found: Forecast, predictions: Sequence[Prediction], notes: Sequence[str]) -> str:
    """A row a prediction, with how its interval was come by."""
    rows = [
        (
            p.series,
            f"{p.estimate:.4f}",
            "none" if p.lower is None else f"[{p.lower:.4f}, {p.upper:.4f}]",
            "?" if np.isnan(p.reach) else f"{p.reach:.3g}x",
            p.note,
        )
        for p in predictions
    ]
    header = ("series", "predicted", f"{found.level:.0%} interval", "beyond the largest budget", "note")
    kinds = [f"{kind}: {_weights(weights)}" for kind, weights in found.weights.items()]
    counts = [f"{kind}: {number} errors of held-out budgets" for kind, number in found.num_folds.items()]
    blocks = [text_table(header, rows), "Predictors and their weights\n" + "\n".join(f"  {line}" for line in kinds)]
    counts = counts or ["nothing: three budgets and nine errors of held-out runs are the least"]
    blocks.append("Intervals from\n" + "\n".join(f"  {line}" for line in counts))
    return "\n\n".join([*blocks, *_listed("Notes", notes)])


def backtest_text(found: Backtest) -> str:
    """Means a kind and loss, then each predictor alone, the weights, and what was left out."""
    low, high = found.predicted
    span = f"{low:.3g}" if high / low < 1.01 else f"{low:.3g} to {high:.3g}"
    title = f"Fitted up to {found.up_to:.3g} FLOPs, predicted {span} ({low / found.up_to:.3g}x further)"
    rows = []
    for kind in dict.fromkeys(score.kind for score in found.scores):
        of_kind = [score for score in found.scores if score.kind == kind]
        for loss in dict.fromkeys(score.loss for score in of_kind):
            own = [score for score in of_kind if score.loss == loss]
            members = {name for score in own for name in score.errors_of_members}
            alone = {n: np.mean([s.errors_of_members[n] for s in own if n in s.errors_of_members]) for n in members}
            best = min(alone, key=alone.get) if alone else "-"
            covered = [score for score in own if score.coverage is not None]
            rows.append(
                (
                    kind,
                    loss,
                    len(own),
                    f"{np.mean([score.error for score in own]):.2%}",
                    f"{np.max([score.error for score in own]):.2%}",
                    f"{np.mean([score.coverage for score in covered]):.0%}" if covered else "-",
                    f"{np.mean([score.width for score in covered]):.1%}" if covered else "-",
                    f"{best} {alone[best]:.2%}" if alone else "-",
                )
            )
    interval = f"in {found.level:.0%} interval"
    header = ("from", "loss", "series", "mean error", "largest", interval, "width", "best alone")
    weights = [f"  {kind}: {_weights(each)}" for kind, each in found.weights.items()]
    blocks = [title, text_table(header, rows), "Weights, from the largest budget fitted\n" + "\n".join(weights)]
    return "\n\n".join([*blocks, *_listed("Notes", found.notes)])


def _parameter(fit, name: str) -> str:
    if name not in fit.parameters:
        return "-"
    low, high = fit.intervals.get(name, (None, None))
    interval = "" if low is None else f" [{low:.3g}, {high:.3g}]"
    return f"{fit.parameters[name]:.4g}{interval}"


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())


def _listed(title: str, lines: Sequence[str], most: int = 20) -> list[str]:
    """A block of lines, none where there are none."""
    if not lines:
        return []
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return ["\n".join([f"{title}:", *(f"  {shown(line)}" for line in lines[:most]), *more])]
