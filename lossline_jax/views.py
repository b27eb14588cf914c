"""What the terminal shows of a study: the plan before, the status meanwhile, the results after. No jax."""

import json
import time
from collections.abc import Sequence

from lossline_jax.chips import ASSUMED_UTILISATION, PLANNED_CHIPS, chip_hours
from lossline_jax.config import to_json
from lossline_jax.data.tokenizers import planned_vocab_size
from lossline_jax.imported import ImportedModel, registered
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.rowcount import NO_SETS, count_rows, read_suite_sets
from lossline_jax.rundir import RunDir, StudyDir, read_json
from lossline_jax.study import RunConfig, StudyConfig
from lossline_jax.table import read_rows
from lossline_jax.text import text_table
from lossline_jax.train.steplog import read_rows as read_step_rows
from lossline_jax.units import human_count, human_seconds
from lossline_jax.writer import find_writer

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


def status_text(study: StudyConfig, folder: StudyDir) -> str:
    """Progress of every run and its rows of the losses table, read from the study's folder alone."""
    suites = read_json(folder.prepared_file).get("suites", {}) if folder.prepared_file.exists() else {}
    sets = {suite: read_suite_sets(folder, suite) for suite in set(suites.values())}
    rows, counts = [], []
    for run in study.runs:
        directory = folder.run(run.run_id)
        step, last = last_step(directory)
        state, note = run_state(directory, last)
        mine = sets.get(suites.get(run.run_id), NO_SETS)
        count = count_rows(folder, run.run_id, run.checkpoint_steps, study.suite.set_names, mine)
        loss = f"{last['loss_nats_per_token']:.3f}" if last else None
        progress = f"{step}/{run.num_steps}"
        rows.append([run.run_id, state, progress, loss, count.text, count.noted(note, done=state == "done")])
        counts.append(count)
    done = sum(row[1] == "done" for row in rows)
    for entry in registered(folder):
        run_id, steps = entry.model.run_id, entry.model.steps
        suite = read_json(entry.home.suite_file)["suite"] if entry.home.suite_file.exists() else None
        sets[suite] = read_suite_sets(folder, suite)
        count = count_rows(folder, run_id, steps, study.suite.set_names, sets[suite])
        note = count.noted(str(entry.weights.root), done=True)
        rows.append([run_id, "imported", steps[-1], None, count.text, note])
        counts.append(count)
    table = text_table(["run", "state", "step", "loss", "rows", "note"], rows)
    problems = {reason for each in sets.values() for reason in each.problems.values()}
    left_out = "".join(f"\nleft out: {reason}" for reason in sorted(problems))
    found, expected = sum(count.found for count in counts), sum(count.expected for count in counts)
    double = sum(count.duplicates for count in counts)
    return (
        f"{table}\n{left_out}\n{done} of {len(study.runs)} runs done; {found} of {expected} rows, "
        f"{expected - found} missing, {double} double; report: {_report_note(folder)}"
    )


def last_step(directory: RunDir) -> tuple[int, dict | None]:
    """The last logged step and its row; (0, None) before the first."""
    logged = read_step_rows(directory)
    return (logged[-1]["step"], logged[-1]) if logged else (0, None)


def run_state(directory: RunDir, last: dict | None) -> tuple[str, str]:
    """One word for a run's state and a note: running, failed, done, stopped or pending."""
    if (writer := find_writer(directory.lock_file)) is not None:
        note = f"{human_count(last['tokens_per_second'])} tokens/s" if last else "starting"
        if not writer.is_of_this_machine:
            note += f" on {writer.host}, last sign {human_seconds(writer.age_seconds)} ago"
        return "running", note
    if directory.failed_file.exists():
        return "failed", read_json(directory.failed_file)["reason"]
    if directory.done_file.exists():
        return "done", human_seconds(read_json(directory.done_file)["wall_seconds"])
    if last is None:
        return "pending", ""
    return "stopped", f"last step {human_seconds(time.time() - last['time'])} ago; the same command resumes it"


def show_text(study: StudyConfig, folder: StudyDir, run_id: str | None) -> str:
    """The results of a study, or with `run_id` one run's configuration and progress."""
    if run_id is not None:
        return _show_run(study.run_by_id(run_id), folder)
    parts = [_final_losses(study, folder)]
    if folder.fits_file.exists():
        from lossline_jax.fit.study_fits import StudyFits
        from lossline_jax.fit.text_tables import fits_text

        fits = StudyFits.from_json(read_json(folder.fits_file))
        stale = fits.run_ids - {each.run_id for each in (*study.runs, *_imported(folder))}
        parts.append("The fits are of other runs; run `lossline run` to renew them" if stale else fits_text(fits))
    return "\n\n".join([*parts, f"report: {_report_note(folder)}"])


def _show_run(run: RunConfig, folder: StudyDir) -> str:
    directory = folder.run(run.run_id)
    step, last = last_step(directory)
    state, note = run_state(directory, last)
    config = json.dumps(to_json(run), indent=2, ensure_ascii=False)
    return f"{run.run_id}\n{state}, step {step} of {run.num_steps} {note}\nfolder: {directory.root}\n{config}"


def _final_losses(study: StudyConfig, folder: StudyDir) -> str:
    rows = []
    last_steps = [(run.run_id, run.num_steps) for run in study.runs]
    for run_id, last in last_steps + [(each.run_id, each.steps[-1]) for each in _imported(folder)]:
        losses = {row.eval_set: row for row in read_rows(folder.loss_rows(run_id)) if row.step == last}
        cells = [f"{losses[name].bits_per_byte:.4f}" if name in losses else None for name in study.suite.set_names]
        rows.append([run_id, *cells])
    header = ["bits/byte at the last step", *study.suite.set_names]
    return text_table(header, rows)


def _imported(folder: StudyDir) -> list[ImportedModel]:
    return [entry.model for entry in registered(folder)]


def _report_note(folder: StudyDir) -> str:
    return str(folder.report_file) if folder.report_file.exists() else "not yet written"
