"""Format the status of a study as a table for the terminal."""

from collections import Counter
from collections.abc import Iterable, Sequence

from lossline_jax.distributed.chips import chip_of
from lossline_jax.formatting import human_count, human_seconds, text_table
from lossline_jax.losses.row_count import RowCount
from lossline_jax.status.runs import Cost, RunStatus
from lossline_jax.status.study import StudyStatus

SHORT_NOTE = 9  # characters of a note that stands in the table; a longer one stands below it
NOT_WRITTEN = "not yet written"  # in place of the path of the report


def status_text(status: StudyStatus) -> str:
    """Return the progress, rows and costs of every run, and the rows of imported models.

    Args:
        status: the status of the study.
    """
    rows: list[list[object]] = [
        [index, *_cells(run.status, run.cost, run.rows)] for index, run in enumerate(status.runs)
    ]
    for model in status.imported:
        note = model.rows.note_with_faults(model.weights, run_is_done=True)
        rows.append([None, model.run_id, "imported", model.last_step, None, model.rows.text, None, None, note])
    notes = [
        f"  {row[0] if row[0] is not None else row[1]}: {row[-1]}" for row in rows if len(str(row[-1])) > SHORT_NOTE
    ]
    rows = [[*row[:-1], row[-1] if len(str(row[-1])) <= SHORT_NOTE else None] for row in rows]
    header = ["#", "run", "state", "step", "loss", "rows", "to go", "chip-h", "note"]
    filled = [k for k in range(len(header)) if k < 3 or any(row[k] not in (None, "") for row in rows)]
    cells = [[row[k] for k in filled] for row in rows]
    table = "\n".join([text_table([header[k] for k in filled], cells, whole=("state", "to go")), *notes])
    left_out = "".join(f"\nleft out: {reason}" for reason in status.problems)
    return f"{table}\n{left_out}\n{_summary(status)}"


def root_status_text(studies: Sequence[tuple[str, StudyStatus]]) -> str:
    """Return one line for each study.

    Args:
        studies: name and status of each study.
    """
    rows = []
    for name, status in studies:
        states = Counter(run.status.state for run in status.runs)
        counts = [states[state] or None for state in ("done", "running", "stopped", "failed", "pending")]
        left = None if status.seconds_left is None else human_seconds(status.seconds_left)
        rows.append([name, len(status.runs), *counts, left, status.report or NOT_WRITTEN])
    header = ["study", "runs", "done", "running", "stopped", "failed", "pending", "to go", "report"]
    filled = [k for k in range(len(header)) if any(row[k] is not None for row in rows)]
    return text_table([header[k] for k in filled], [[row[k] for k in filled] for row in rows])


def _cells(status: RunStatus, cost: Cost | None, count: RowCount) -> list[object]:
    speed = f"{human_count(status.tokens_per_second)} tokens/s" if status.tokens_per_second else ""
    return [
        status.run_id,
        status.state,
        f"{status.step}/{status.num_steps}",
        None if status.loss_nats_per_token is None else f"{status.loss_nats_per_token:.3f}",
        count.text,
        None if status.seconds_left is None else human_seconds(status.seconds_left),
        None if cost is None else f"{cost.chip_hours:.3g}",
        count.note_with_faults(status.note or speed or _orphaned(status, count), run_is_done=status.state == "done"),
    ]


def _orphaned(status: RunStatus, count: RowCount) -> str:
    """Return a note on a run whose folder was deleted while its rows remain. The fits still use these rows."""
    if status.state != "pending" or not count.scored:
        return ""
    return "its folder is gone, its rows still count: `prune --removed-runs`, or train it again"


def _summary(status: StudyStatus) -> str:
    states = Counter(run.status.state for run in status.runs)
    other_states = "".join(f", {states[state]} {state}" for state in ("running", "stopped", "failed") if states[state])
    scored, expected = sum(count.scored for count in status.rows), sum(count.expected for count in status.rows)
    num_double = sum(count.duplicates for count in status.rows)
    lines = [
        f"{states['done']} of {len(status.runs)} runs done{other_states}; {scored} of {expected} rows, "
        f"{expected - scored} missing, {num_double} double"
    ]
    if status.seconds_left is not None:
        lines.append(f"about {human_seconds(status.seconds_left)} of training to go at this speed")
    lines += _spent(run.cost for run in status.runs)
    lines.append(f"report: {status.report or NOT_WRITTEN}")
    return "\n".join([*lines, *([status.other_runs_note] if status.other_runs_note else [])])


def _spent(costs: Iterable[Cost | None]) -> list[str]:
    """Return the chip-hours that were spent, and their price, with a line for each kind of chip."""
    hours: dict[str, float] = {}
    for cost in costs:
        if cost is not None:
            hours[cost.device_kind] = hours.get(cost.device_kind, 0.0) + cost.chip_hours
    return [f"spent {total:.3g} chip-hours of {kind}{_price(kind, total)}" for kind, total in sorted(hours.items())]


def _price(device_kind: str, hours: float) -> str:
    chip = chip_of(device_kind)
    return "" if chip is None else f", ${hours * chip.dollars_per_hour:,.2f} on demand"
