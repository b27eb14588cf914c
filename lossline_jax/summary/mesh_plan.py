"""What the runs of a study take on a mesh of named chips: memory of a device, time, cost. No jax."""

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.tokenizers.build import planned_vocab_size
from lossline_jax.distributed.chips import SECONDS_PER_HOUR, chip_named
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import text_table
from lossline_jax.plan import choose_layout, estimates

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


def mesh_plan_text(study: StudyConfig, chip_name: str, devices: int, utilisation: float) -> str:
    """One line a run.

    Raises:
        LosslineError: an unknown chip, a mesh that does not fit the devices, or rows that it does not divide.
    """
    chip = chip_named(chip_name)
    if devices < 1:
        raise LosslineError(f"--devices: {devices} is not a number of chips; give 1 or more")
    rows, hours, misfits = [], 0.0, []
    for index, run in enumerate(study.runs):
        vocab_size = planned_vocab_size(run.tokenizer)
        layout = choose_layout.layout(run, vocab_size, study.execution, devices, chip)
        memory = estimates.memory(run, vocab_size, layout)
        computing, sending = estimates.step_seconds(run, vocab_size, layout, chip, utilisation)
        seconds = max(computing, sending or 0.0)
        mine = seconds * run.num_steps / SECONDS_PER_HOUR
        fits = memory.total <= chip.hbm_bytes * choose_layout.FITTING_SHARE
        if not fits:
            misfits.append((index, run))
        hours += mine
        parts = (memory.parameters, memory.optimiser, memory.gradients, memory.activations, memory.workspace)
        rows.append(
            [
                index,
                *(f"{part / 1e9:.2f}" for part in (*parts, memory.total)),
                "yes" if fits else "no",
                f"{layout.rows} x {run.context_length}",
                layout.microbatch,
                layout.remat,
                f"{seconds:.3g}",
                "computing" if seconds == computing else "sending",
                f"{mine:.3g}",
                f"{mine * devices * chip.dollars_per_hour:,.0f}",
            ]
        )
    room = chip.hbm_bytes * choose_layout.FITTING_SHARE
    return "\n".join(
        [
            f"on {devices} x {chip.name}: estimates, of each device; {room / 1e9:.1f} GB of "
            f"{chip.hbm_bytes / 1e9:.1f} may be filled ({choose_layout.FITTING_SHARE:.0%})",
            "",
            text_table(HEADER, rows),
            "",
            f"one run after another: {hours:,.0f} hours, {hours * devices:,.0f} chip-hours, "
            f"${hours * devices * chip.dollars_per_hour:,.0f} on demand; training alone, at {utilisation:.0%} of peak",
            *(_mend(index, run, study, chip) for index, run in misfits),
        ]
    )


def _mend(index: int, run: RunConfig, study: StudyConfig, chip) -> str:
    least = choose_layout.smallest_devices(run, planned_vocab_size(run.tokenizer), study.execution, chip)
    if least is None:
        return f"run {index} fits on no number of them; try --execution.remat full or more --execution.model-parallel"
    return f"run {index} fits on {least} of them at least"
