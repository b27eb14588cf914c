"""Compare settings by power laws that are fitted to all of them together, on the losses that both curves reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.speedup.cell import ComputeCell, Displacement, why_unusable
from lossline_jax.fit.speedup.grids import budget_losses, loss_grid, with_mean_of_lower_half
from lossline_jax.fit.speedup.measured_curves import no_common_losses
from lossline_jax.fit.speedup.power_law import PowerFit, fit_power_laws, freedom_of
from lossline_jax.fit.speedup.power_problem import ALPHA_RANGE

MIN_POINTS = 3  # points of a setting that a curve needs; with given parameters two would do. A convention


@dataclass(frozen=True)
class GroupNote:
    """The reservations about the curves of one group of settings."""

    own: str = ""  # the parameter that the settings do not share, because their exponents differ; "": they share both
    misfit: float | None = None  # see `power_problem.misfit`


def note_on_groups(groups: Sequence[GroupNote]) -> str:
    """Return the reservations about all groups of a factor in words.

    Args:
        groups: one note for each group.
    """
    parts = []
    if owns := [group.own for group in groups if group.own]:
        where = "" if len(groups) == 1 else f" in {len(owns)} of {len(groups)} groups of settings"
        parts.append(f"the levels do not share one curve{where}: each has its own {' or '.join(sorted(set(owns)))}")
    if misfits := [group.misfit for group in groups if group.misfit is not None]:
        upto = "up to " if len(misfits) > 1 else ""
        parts.append(
            f"the curves miss their points by {upto}{miss_text(max(misfits))}, which the intervals do not include"
        )
    return "; ".join(parts)


def miss_text(misfit: float) -> str:
    """Return a misfit in words.

    Args:
        misfit: a distance in ln(compute).
    """
    if misfit < np.log(2):
        return f"{100 * misfit:.2g}% of compute"
    factor = f"{np.exp(misfit):.2g}" if misfit < np.log(1000) else "over 1000"
    return f"a factor of {factor} in compute"


def why_no_power_law(cell: ComputeCell) -> str:
    """Return the reason why no power law can be fitted to a setting. Empty: it can.

    Args:
        cell: the setting.
    """
    num_budgets = np.unique(cell.log_compute).size
    if num_budgets < 2:
        return "all its points have one budget: a curve needs several"
    if cell.loss.size < MIN_POINTS:
        return f"it has {cell.loss.size} points: a curve needs {MIN_POINTS}"
    if not np.polyfit(cell.log_compute, np.log(cell.loss), 1)[0] < 0:
        return "its loss does not fall with compute"
    return ""


def power_displacements(
    reference: ComputeCell, levels: Sequence[ComputeCell], fix: Mapping[str, float], share: Sequence[str] | None
) -> tuple[list[Displacement | str], GroupNote]:
    """Return the displacement of each level from the reference, and what to know of the fit.

    A text in place of a displacement is the reason why there is none.

    Args:
        reference: the setting of the reference level.
        levels: settings of other levels that are equal to it in all other factors.
        fix: given values of E and alpha.
        share: the parameters that the settings share; see `fit_power_laws`.

    Raises:
        ArgumentError: a given E is not below every loss.
    """
    unusable = [why_unusable(reference, level) for level in levels]
    if reference.unusable:
        return list(unusable), GroupNote()
    if why := why_no_power_law(reference):
        return [bad or f"no curve of the reference: {why}" for bad in unusable], GroupNote()
    reasons = [bad or _no_curve(level) for bad, level in zip(unusable, levels, strict=True)]
    usable = [level for level, why in zip(levels, reasons, strict=True) if not why]
    if not usable:
        return list(reasons), GroupNote()
    smallest = min(float(cell.loss.min()) for cell in (reference, *usable))
    if fix.get("E", 0.0) >= smallest:
        raise ArgumentError(
            "{fix}: E={value:g} is not below the smallest loss, {smallest:.4g}; give a smaller one",
            value=fix["E"],
            smallest=smallest,
        )
    fit, own = fit_power_laws([reference, *usable], fix, share)
    cells = [reference, *usable]
    numbers = iter(range(1, len(cells)))
    found = [why or _displacement(fit, cells, next(numbers)) for why in reasons]
    return found, GroupNote(own, fit.misfit)


def _no_curve(cell: ComputeCell) -> str:
    return f"no curve: {why}" if (why := why_no_power_law(cell)) else ""


def _ends(fit: PowerFit, cells: Sequence[ComputeCell], k: int) -> tuple[float, float]:
    """Return the lowest and the highest loss of a curve within the compute of its points."""
    x = cells[k].log_compute
    return float(fit.loss(k, x.max())), float(fit.loss(k, x.min()))


def _displacement(fit: PowerFit, cells: Sequence[ComputeCell], k: int) -> Displacement | str:
    if min(fit.alpha[0], fit.alpha[k]) <= 1.001 * ALPHA_RANGE[0]:
        return "no curve: the loss hardly falls with compute"
    ends = [_ends(fit, cells, n) for n in (0, k)]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if not low < high:
        return no_common_losses(ends[1], ends[0])

    def curves(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return fit.log_compute(0, losses), fit.log_compute(k, losses)

    by_loss = loss_grid(low, high, curves)
    losses = np.concatenate([by_loss, budget_losses(low, high, curves)])
    reference, level = curves(losses)
    values = with_mean_of_lower_half(reference - level, by_loss.size)
    gradient = with_mean_of_lower_half((fit.gradient(0, losses) - fit.gradient(k, losses)).T, by_loss.size).T
    settings = (0, k)
    freedom = freedom_of(fit, settings)
    shifts = fit.run_shifts[np.isin(fit.run_settings, settings)]
    variance = fit.variance(gradient)
    unknown = np.full(values.size, np.nan)
    return Displacement(
        losses=losses,
        num_by_loss=by_loss.size,
        reference_log_compute=reference,
        level_log_compute=level,
        bounds=(low, high),
        values=values,
        level_squares=unknown,
        level_freedom=0,
        reference_squares=unknown,
        reference_freedom=0,
        num_runs=cells[k].num_runs,
        num_reference_runs=cells[0].num_runs,
        variance=unknown if variance is None else variance,
        freedom=0.0 if variance is None else freedom,
        noise=None if variance is None else float(np.sqrt(shifts @ shifts / freedom)),
        misfit=fit.misfit,
        parameters={
            "E of the reference": float(fit.E[0]),
            "E": float(fit.E[k]),
            "alpha of the reference": float(fit.alpha[0]),
            "alpha": float(fit.alpha[k]),
        },
    )
