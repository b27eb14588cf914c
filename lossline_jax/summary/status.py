"""The status of a study as a table for the terminal."""

from collections import Counter
from collections.abc import Sequence

from lossline_jax.config.study import StudyConfig
from lossline_jax.distributed.chips import chip_of
from lossline_jax.formatting import human_count, human_seconds, text_table
from lossline_jax.losses.row_count import NO_SETS, RowCount, count_rows, read_suite_sets
from lossline_jax.status.runs import (
    Cost,
    RunStatus,
    last_row,
    run_cost,
    run_status,
    strangers_note,
    study_seconds_left,
    suite_sets,
)
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import registered


def status_text(study: StudyConfig, folder: StudyDir) -> str:
    """Progress, rows and costs of every run, and the rows of models from elsewhere."""
    suites, sets = suite_sets(folder)
    statuses, costs, rows, counts = [], [], [], []
    for run in study.runs:
        directory = folder.run(run.run_id)
        status, cost = run_status(run, directory, last_row(directory)), run_cost(directory)
        mine = sets.get(suites.get(run.run_id), NO_SETS)
        count = count_rows(folder, run.run_id, run.checkpoint_steps, study.suite.set_names, mine)
        statuses.append(status)
        costs.append(cost)
        rows.append(_cells(status, cost, count))
        counts.append(count)
    for entry in registered(folder):
        run_id, steps = entry.model.run_id, entry.model.steps
        suite = read_json(entry.home.suite_file, {"suite": str})["suite"] if entry.home.suite_file.exists() else None
        sets[suite] = read_suite_sets(folder, suite)
        count = count_rows(folder, run_id, steps, study.suite.set_names, sets[suite])
        note = count.noted(str(entry.weights.root), done=True)
        rows.append([run_id, "imported", steps[-1], None, count.text, None, None, note])
        counts.append(count)
    table = text_table(["run", "state", "step", "loss", "rows", "to go", "chip-h", "note"], rows)
    problems = {reason for each in sets.values() for reason in each.problems.values()}
    left_out = "".join(f"\nleft out: {reason}" for reason in sorted(problems))
    return f"{table}\n{left_out}\n{_summary(study, folder, statuses, costs, counts)}"


def _cells(status: RunStatus, cost: Cost | None, count: RowCount) -> list:
    speed = f"{human_count(status.tokens_per_second)} tokens/s" if status.tokens_per_second else ""
    return [
        status.run_id,
        status.state,
        f"{status.step}/{status.num_steps}",
        None if status.loss_nats_per_token is None else f"{status.loss_nats_per_token:.3f}",
        count.text,
        None if status.seconds_left is None else human_seconds(status.seconds_left),
        None if cost is None else f"{cost.chip_hours:.3g}",
        count.noted(status.note or speed or _orphaned(status, count), done=status.state == "done"),
    ]


def _orphaned(status: RunStatus, count: RowCount) -> str:
    """Note a run whose folder somebody deleted: its rows are left, and the fits still take them."""
    if status.state != "pending" or not count.found:
        return ""
    return f"its folder is gone, its rows still count; delete losses/rows/{status.run_id}.jsonl or train it again"


def _summary(
    study: StudyConfig,
    folder: StudyDir,
    statuses: Sequence[RunStatus],
    costs: Sequence[Cost | None],
    counts: Sequence[RowCount],
) -> str:
    states = Counter(status.state for status in statuses)
    others = "".join(f", {states[state]} {state}" for state in ("running", "stopped", "failed") if states[state])
    found, expected = sum(count.found for count in counts), sum(count.expected for count in counts)
    double = sum(count.duplicates for count in counts)
    left = study_seconds_left(study, statuses)
    to_go = "" if left is None else f"; about {human_seconds(left)} of training to go at this speed"
    return (
        f"{states['done']} of {len(study.runs)} runs done{others}{to_go}; {found} of {expected} rows, "
        f"{expected - found} missing, {double} double{_spent(costs)}; report: {report_note(folder)}"
        f"{strangers_note(study, folder)}"
    )


def _spent(costs: Sequence[Cost | None]) -> str:
    hours: Counter = Counter()
    for cost in costs:
        if cost is not None:
            hours[cost.device_kind] += cost.chip_hours
    return "".join(
        f"; spent {total:.3g} chip-hours of {kind}{_price(kind, total)}" for kind, total in sorted(hours.items())
    )


def _price(device_kind: str, hours: float) -> str:
    chip = chip_of(device_kind)
    return "" if chip is None else f", ${hours * chip.dollars_per_hour:,.2f} on demand"


def report_note(folder: StudyDir) -> str:
    """Where the report is, for a summary."""
    return str(folder.report_file) if folder.report_file.exists() else "not yet written"
