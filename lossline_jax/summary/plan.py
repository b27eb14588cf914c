"""The plan of a study as text: runs, parameters, tokens, FLOPs and chip hours. No jax."""

from collections.abc import Sequence

from lossline_jax.config.study import StudyConfig
from lossline_jax.data.tokenizers.build import planned_vocab_size
from lossline_jax.distributed.chips import ASSUMED_UTILISATION, PLANNED_CHIPS, chip_hours
from lossline_jax.formatting import human_count, text_table
from lossline_jax.models.accounting import count_parameters, train_flops_per_token

STATE_BYTES_PER_PARAMETER = 16  # float32 parameter, its gradient and two moments


def plan_text(study: StudyConfig, utilisation: float = ASSUMED_UTILISATION) -> str:
    """The runs with what they cost, before anything is spent.

    Raises:
        LosslineError: a tokenizer file that is missing, or a `utilisation` that is no share of a chip's peak.
    """
    rows, flops_of_runs, total_tokens = [], [], 0
    for index, run in enumerate(study.runs):
        vocab_size = planned_vocab_size(run.tokenizer)
        params = count_parameters(run.model, vocab_size)
        tokens = run.num_steps * run.tokens_per_step
        flops = tokens * train_flops_per_token(run.model, vocab_size, run.context_length)
        flops_of_runs.append(flops)
        total_tokens += tokens
        memory = params.total * STATE_BYTES_PER_PARAMETER
        changed = ", ".join(f"{k}={v}" for k, v in run.factors.items() if v != study.base.factors[k])
        rows.append(
            [
                index,
                changed or ("base" if index == 0 else "another training setting"),
                human_count(params.total),
                human_count(params.non_embedding),
                run.num_steps,
                human_count(tokens),
                human_count(flops),
                f"{human_count(memory)}B",
                run.run_id,
            ]
        )
    header = [
        "#",
        "differs from the base in",
        "params",
        "non-emb",
        "steps",
        "tokens",
        "FLOPs",
        "state",
        "run id",
    ]
    total_flops, sets = sum(flops_of_runs), len(study.suite.set_names)
    checkpoints = sum(len(run.checkpoint_steps) for run in study.runs)
    return "\n".join(
        [
            f"{study.name}: {study.question}",
            "",
            text_table(header, rows),
            "",
            f"{len(study.runs)} runs, {human_count(total_tokens)} tokens, {human_count(total_flops)} training FLOPs; "
            f"{checkpoints} checkpoints x {sets} evaluation sets = {checkpoints * sets} rows",
            "params: total, embeddings included; state: parameters, gradients and two moments, float32",
            "",
            _chip_hours_text(flops_of_runs, utilisation),
        ]
    )


def _chip_hours_text(flops_of_runs: Sequence[float], utilisation: float) -> str:
    rows = [
        [
            chip.name,
            f"{chip.peak_flops_per_second / 1e12:.0f}",
            _hours(chip_hours(sum(flops_of_runs), chip, utilisation)),
            _hours(chip_hours(max(flops_of_runs), chip, utilisation)),
        ]
        for chip in PLANNED_CHIPS
    ]
    return (
        f"{text_table(['chip', 'peak bf16 TFLOP/s', 'chip-hours', 'of the largest run'], rows)}\n"
        f"of training alone, if a chip does {utilisation:.0%} of its peak: an assumption, set by --utilisation"
    )


def _hours(hours: float) -> str:
    if hours < 0.01:
        return "<0.01"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
