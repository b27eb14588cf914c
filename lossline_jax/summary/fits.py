"""Format all fits of a table as aligned text."""

from collections.abc import Sequence

from lossline_jax.fit.result import FitResult
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import text_table
from lossline_jax.summary.comparisons import failure_blocks, verdict_blocks


def fits_text(fits: StudyFits) -> str:
    """Return the verdicts, then lines and compute laws with a block for each unit, then the failures.

    Args:
        fits: the fits of a table.
    """
    fits = fits.as_shown()
    blocks = verdict_blocks(fits)
    for unit in fits.units:
        if lines := fits.lines_in(unit):
            blocks.append(f"Lines {fits.y} = K ({fits.x} - E_x)^kappa + E_y, {unit_label(unit)}")
            header = ("line", "K", "kappa", "E_x", "E_y", "rmse", "R2", "points", "runs", "status", "note")
            rows = [(line.label, *_columns(line.fit, ("K", "kappa", "E_x", "E_y"))) for line in lines]
            blocks.append(text_table(header, rows))
        if computes := [fit for fit in fits.compute_fits if fit.unit == unit]:
            blocks.append(f"Compute laws L = E + ((A/N)^(alpha/beta) + B/D)^beta, {unit_label(unit)}")
            names = ("E", "A", "B", "alpha", "beta")
            header = ("runs of", "set", *names, "rmse", "R2", "points", "runs", "status", "note")
            compute_rows = [(law.label, law.eval_set, *_columns(law.fit, names)) for law in computes]
            blocks.append(text_table(header, compute_rows))
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
        fit.note,
    )


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
