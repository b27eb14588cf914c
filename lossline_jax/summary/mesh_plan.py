"""Format the plan of a study on a mesh of named chips: memory of a device, time and cost. This file needs no jax."""

from lossline_jax.formatting import text_table
from lossline_jax.plan.choose_layout import FITTING_SHARE
from lossline_jax.plan.plan import MeshPlan, MeshRunPlan

HEADER = (
    "#",
    "params GB",
    "optimiser",
    "gradients",
    "activations",
    "workspace",
    "sum GB",
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
            text_table(HEADER, [_cells(run) for run in plan.runs]),
            "",
            f"one run after another: {plan.hours:,.0f} hours, {chip_hours:,.0f} chip-hours, "
            f"${chip_hours * chip.dollars_per_hour:,.0f} on demand; training alone, at {plan.utilisation:.0%} of peak",
            *(_remedy(run) for run in plan.runs if not run.fits),
        ]
    )


def _cells(run: MeshRunPlan) -> list[object]:
    memory, layout = run.memory, run.layout
    parts = (memory.parameters, memory.optimiser, memory.gradients, memory.activations, memory.workspace)
    return [
        run.index,
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


def _remedy(run: MeshRunPlan) -> str:
    """Return advice for a run that does not fit on the mesh."""
    if run.fewest_devices is None:
        advice = "try --execution.remat full or more --execution.model-parallel"
        return f"run {run.index} fits on no number of these devices; {advice}"
    return f"run {run.index} fits on {run.fewest_devices} or more of these devices"
