"""What the terminal shows of a study: the plan before, the results after. No jax."""

import json
from collections.abc import Sequence

from lossline_jax.chips import ASSUMED_UTILISATION, PLANNED_CHIPS, chip_hours
from lossline_jax.config import to_json
from lossline_jax.data.tokenizers import planned_vocab_size
from lossline_jax.imported import ImportedModel, registered
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.rundir import StudyDir, read_record
from lossline_jax.status import last_row, report_note, run_status
from lossline_jax.study import RunConfig, StudyConfig
from lossline_jax.table import read_rows
from lossline_jax.text import text_table
from lossline_jax.units import human_count

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


def show_text(study: StudyConfig, folder: StudyDir, run_id: str | None) -> str:
    """The results of a study, or with `run_id` one run's configuration and progress."""
    if run_id is not None:
        return _show_run(study.run_by_id(run_id), folder)
    parts = [_final_losses(study, folder)]
    if not folder.fits_file.exists():
        parts.append("no fits yet: `lossline fit` makes them")
    else:
        from lossline_jax.fit.study_fits import StudyFits
        from lossline_jax.fit.text_tables import fits_text

        fits = read_record(StudyFits, folder.fits_file)
        stale = fits.run_ids - {each.run_id for each in (*study.runs, *_imported(folder))}
        parts.append("The fits are of other runs; run `lossline run` to renew them" if stale else fits_text(fits))
    return "\n\n".join([*parts, f"report: {report_note(folder)}"])


def _show_run(run: RunConfig, folder: StudyDir) -> str:
    directory = folder.run(run.run_id)
    status = run_status(run, directory, last_row(directory))
    config = json.dumps(to_json(run), indent=2, ensure_ascii=False)
    standing = f"{status.state}, step {status.step} of {run.num_steps} {status.note}".rstrip()
    return f"{run.run_id}\n{standing}\nfolder: {directory.root}\n{config}"


def _final_losses(study: StudyConfig, folder: StudyDir) -> str:
    rows = []
    last_steps = [(run.run_id, run.num_steps) for run in study.runs]
    for run_id, last in last_steps + [(each.run_id, each.steps[-1]) for each in _imported(folder)]:
        losses = {row.eval_set: row for row in read_rows(folder.loss_rows(run_id)) if row.step == last}
        cells = [f"{losses[name].bits_per_byte:.4f}" if name in losses else None for name in study.suite.set_names]
        rows.append([run_id, *cells])
    header = ["bits/byte at the last step", *study.suite.set_names]
    lacking = sum(None in cells for cells in rows)
    note = f"\nempty: no row yet, of {lacking} of {len(rows)} runs and models" if lacking else ""
    return text_table(header, rows) + note


def _imported(folder: StudyDir) -> list[ImportedModel]:
    return [entry.model for entry in registered(folder)]
