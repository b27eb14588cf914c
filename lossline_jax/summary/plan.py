"""Format the plan of a study: runs, parameters, tokens, FLOPs and chip hours. This file needs no jax."""

from lossline_jax.distributed.chips import PLANNED_CHIPS
from lossline_jax.formatting import human_count, text_table
from lossline_jax.plan.measured import MeasuredSpeed
from lossline_jax.plan.plan import RunPlan, StudyPlan
from lossline_jax.plan.storage_and_epochs import FEW_EPOCHS
from lossline_jax.status.resubmit import index_ranges

_HEADER = (
    "#",
    "differs from the base in",
    "params",
    "non-emb",
    "steps",
    "tokens",
    "FLOPs",
    "disk",
    "epochs",
    "run",
)


def plan_text(plan: StudyPlan) -> str:
    """Return the runs with their costs, before anything is spent.

    Args:
        plan: the plan of the study.
    """
    return "\n".join(
        [
            f"{plan.name}: {plan.question}",
            "",
            text_table(_HEADER, [_cells(run) for run in plan.runs]),
            "",
            f"{len(plan.runs)} runs, {human_count(plan.tokens)} tokens, {human_count(plan.flops)} training FLOPs; "
            f"{plan.num_checkpoints} checkpoints x {plan.num_sets} evaluation sets = {plan.num_rows} rows",
            f"{human_count(plan.checkpoint_bytes)}B of checkpoints on disk; --execution.keep-checkpoints and "
            "--execution.keep-moments change that",
            *_epochs_warning(plan),
            "params: total, embeddings included; epochs: at least, since no text has more tokens than bytes; run: the "
            "end of its id, by which every verb knows it",
            "",
            _chip_hours_text(plan),
        ]
    )


def _cells(run: RunPlan) -> list[object]:
    differences = ", ".join(f"{name}={level}" for name, level in run.differs.items())
    return [
        run.index,
        differences or ("base" if run.index == 0 else "another training setting"),
        human_count(run.parameters.total),
        human_count(run.parameters.non_embedding),
        run.steps,
        human_count(run.tokens),
        human_count(run.flops),
        f"{human_count(run.checkpoint_bytes)}B",
        None if run.fewest_epochs is None else f">={run.fewest_epochs:.2g}",
        run.run_id.rsplit("-", 1)[1],
    ]


def measured_text(speed: MeasuredSpeed) -> str:
    """Return the hours that the rest of a study takes at the speed of its finished runs.

    Args:
        speed: the measured speed.
    """
    return (
        f"at the speed of the {speed.num_done} finished runs on {speed.devices} ({speed.flops_per_second:.2g} FLOP/s): "
        f"{_hours(speed.hours_left)} hours of training for the other {speed.num_left}"
    )


def _epochs_warning(plan: StudyPlan) -> list[str]:
    """Return a line about the runs that read their text many times."""
    known = [(run.fewest_epochs, run.index) for run in plan.runs if run.fewest_epochs is not None]
    many = [(epochs, index) for epochs, index in known if epochs > FEW_EPOCHS]
    if not many:
        return []
    runs = index_ranges(sorted(index for _, index in many))
    return [
        f"warning: runs {runs} read a corpus more than {FEW_EPOCHS} times, up to {max(many)[0]:.0f} times or more; "
        "repeated text teaches less. Give them more text or fewer tokens"
    ]


def _chip_hours_text(plan: StudyPlan) -> str:
    rows = [
        [
            chip.name,
            f"{chip.peak_flops_per_second / 1e12:.0f}",
            _hours(plan.chip_hours(chip)),
            _hours(plan.chip_hours_of_largest_run(chip)),
        ]
        for chip in PLANNED_CHIPS
    ]
    return (
        f"{text_table(['chip', 'peak bf16 TFLOP/s', 'chip-hours', 'of the largest run'], rows)}\n"
        f"of training alone, if a chip does {plan.utilisation:.0%} of its peak: an assumption, set by --utilisation"
    )


def _hours(hours: float) -> str:
    if hours < 0.01:
        return "<0.01"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
