"""Format the plan of a study on a mesh of named chips: memory of a device, time and cost. This file needs no jax."""

import dataclasses
from collections.abc import Sequence

from lossline_jax.formatting import text_table
from lossline_jax.plan.choose_layout import FITTING_SHARE
from lossline_jax.plan.plan import MeshPlan, MeshRunPlan
from lossline_jax.status.resubmit import index_ranges

HEADER = (
    "#",
    "params",
    "moments",
    "grads",
    "activ.",
    "work",
    "sum",
    "fits",
    "rows x tokens",
    "at once",
    "remat",
    "step s",
    "bound by",
    "hours",
    "dollars",
)


def mesh_plan_text(plan: MeshPlan) -> str:
    """Return one line for each run, the sum, and advice for each run that does not fit.

    Args:
        plan: the plan of the study on the mesh.
    """
    chip = plan.chip
    chip_hours = plan.hours * plan.devices
    return "\n".join(
        [
            f"on {plan.devices} x {chip.name}: estimates, of each device; {plan.fillable_bytes / 1e9:.1f} GB of "
            f"{chip.hbm_bytes / 1e9:.1f} may be filled ({FITTING_SHARE:.0%})",
            "",
            text_table(HEADER, [_cells(runs) for runs in _groups(plan)]),
            "",
            f"one run after another: {plan.hours:,.0f} hours, {chip_hours:,.0f} chip-hours, "
            f"${chip_hours * chip.dollars_per_hour:,.0f} at ${chip.dollars_per_hour:.2f} a chip-hour; training "
            f"alone, at {plan.utilisation:.0%} of peak",
            "memory in GB; hours and dollars: of one run; runs of equal shape share a line",
            *(_remedy(runs) for runs in _groups(plan) if not runs[0].fits),
        ]
    )


def _groups(plan: MeshPlan) -> list[list[MeshRunPlan]]:
    """Return the runs that cost the same, in one list for each cost."""
    groups: dict[MeshRunPlan, list[MeshRunPlan]] = {}
    for run in plan.runs:
        groups.setdefault(dataclasses.replace(run, index=0, run_id=""), []).append(run)
    return list(groups.values())


def _indices(runs: Sequence[MeshRunPlan]) -> str:
    return index_ranges([run.index for run in runs])


def _cells(runs: Sequence[MeshRunPlan]) -> list[object]:
    run = runs[0]
    memory, layout = run.memory, run.layout
    parts = (memory.parameters, memory.optimiser, memory.gradients, memory.activations, memory.workspace)
    return [
        _indices(runs),
        *(f"{part / 1e9:.2f}" for part in (*parts, memory.total)),
        "yes" if run.fits else "no",
        f"{layout.rows} x {run.context_length}",
        layout.microbatch,
        layout.remat,
        f"{run.seconds_a_step:.3g}",
        "computing" if run.is_bound_by_computing else "sending",
        f"{run.hours:.3g}",
        f"{run.dollars:,.0f}",
    ]


def _remedy(runs: Sequence[MeshRunPlan]) -> str:
    """Return advice for runs of equal shape that do not fit on the mesh."""
    run, name = runs[0], f"run {_indices(runs)}"
    if run.fewest_devices is None:
        advice = "try --execution.remat full or more --execution.model-parallel"
        return f"{name} fits on no number of these devices; {advice}"
    return f"{name} fits on {run.fewest_devices} or more of these devices"
