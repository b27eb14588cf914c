"""Format the plan of a study: runs, parameters, tokens, FLOPs and chip hours. This file needs no jax."""

from lossline_jax.distributed.chips import PLANNED_CHIPS
from lossline_jax.formatting import human_count, text_table
from lossline_jax.plan.plan import RunPlan, StudyPlan

_HEADER = (
    "#",
    "differs from the base in",
    "params",
    "non-emb",
    "steps",
    "tokens",
    "FLOPs",
    "state",
    "run id",
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
            "params: total, embeddings included; state: parameters, gradients and two moments, float32",
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
        f"{human_count(run.state_bytes)}B",
        run.run_id,
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
