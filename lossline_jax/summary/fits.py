"""Format all fits of a table as aligned text."""

from collections.abc import Iterable, Sequence

from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import text_table
from lossline_jax.summary.comparisons import failure_blocks, verdict_blocks
from lossline_jax.summary.speedups import speedup_blocks


def fits_text(fits: StudyFits) -> str:
    """Return the verdicts and speedups, then lines and compute laws with a block for each unit, then the failures.

    Args:
        fits: the fits of a table.
    """
    fits = fits.as_shown()
    blocks = [*verdict_blocks(fits), *speedup_blocks(fits.speedups)]
    for unit in fits.units:
        if lines := fits.lines_in(unit):
            blocks.append(f"Lines {fits.y} = K ({fits.x} - E_x)^kappa + E_y, {unit_label(unit)}")
            header = ("line", "K", "kappa", "E_x", "E_y", "rmse", "R2", "points", "runs", "status")
            rows = [(line.label, *_columns(line.fit, ("K", "kappa", "E_x", "E_y"))) for line in lines]
            notes = fit_notes((line.label, line.fit.note) for line in lines)
            blocks.append("\n".join([text_table(header, rows), *notes]))
        if computes := [fit for fit in fits.compute_fits if fit.unit == unit]:
            named = [(f"{law.label} on {law.eval_set}", law.fit) for law in computes]
            kind, kind_lines = interval_kinds(named)
            blocks.append(f"Compute laws L = E + ((A/N)^(alpha/beta) + B/D)^beta, {unit_label(unit)}   ({kind})")
            names = ("E", "A", "B", "alpha", "beta")
            header = ("runs of", "set", *names, "rmse", "R2", "points", "runs", "status")
            compute_rows = [(law.label, law.eval_set, *_columns(law.fit, names)) for law in computes]
            notes = fit_notes((name, fit.note) for name, fit in named)
            blocks.append("\n".join([text_table(header, compute_rows), *kind_lines, *notes]))
    blocks += failure_blocks(fits)
    return "\n\n".join(blocks)


def _columns(fit: FitResult, names: Sequence[str]) -> tuple[object, ...]:
    return (
        *(parameter_text(fit, name) for name in names),
        "-" if fit.rmse is None else f"{fit.rmse:.4f}",
        "-" if fit.r_squared is None else f"{fit.r_squared:.4f}",
        fit.num_points,
        "-" if fit.num_runs is None else fit.num_runs,
        fit.status,
    )


def interval_kinds(named_fits: Iterable[tuple[str, FitResult]]) -> tuple[str, list[str]]:
    """Return the kind of the intervals in words, and one line for each kind if the fits have several.

    Args:
        named_fits: name and fit of each law. A fit without intervals is of no kind.
    """
    kinds = [(name, fit.conventions.get(INTERVALS, "profile likelihood")) for name, fit in named_fits if fit.intervals]
    if not kinds:
        return "no intervals", []
    if len({kind for _, kind in kinds}) == 1:
        return f"intervals: {kinds[0][1]}", []
    return "intervals: see below", fit_notes((name, f"intervals: {kind}") for name, kind in kinds)


def fit_notes(named_notes: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line for each different note, with the names of the fits that have it.

    Args:
        named_notes: name and note of each fit. An empty note has no line.
    """
    names: dict[str, list[str]] = {}
    for name, note in named_notes:
        if note:
            names.setdefault(note, []).append(name)
    return [f"  {', '.join(of_note)}: {note}" for note, of_note in names.items()]


def parameter_text(fit: FitResult, name: str) -> str:
    """Return a parameter with its interval, or a dash where the fit has no such parameter.

    Args:
        fit: the fit.
        name: name of the parameter.
    """
    if name not in fit.parameters:
        return "-"
    interval = fit.intervals.get(name)
    return f"{fit.parameters[name]:.4g}" + ("" if interval is None else " [{:.3g}, {:.3g}]".format(*interval))
