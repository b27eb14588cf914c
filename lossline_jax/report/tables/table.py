"""The tables of a report: rows of cells, which the template lays out."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from lossline_jax.formatting import human_count, human_seconds
from lossline_jax.report.content.points import Unit, final_rows
from lossline_jax.report.content.run_names import BASE, SEED, Run
from lossline_jax.report.content.wording import NONE, number
from lossline_jax.report.figures.plot import swatch
from lossline_jax.report.figures.style import factor_name

NO_DRAWING = Markup()


@dataclass(frozen=True)
class Column:
    """A column's head. Numbers are set to the right, prose may wrap."""

    name: str
    unit: str = ""
    numeric: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Cell:
    """Text with a smaller line below it; `drawing` stands before the text, `title` shows on hovering.

    `exact` has the numbers that the text rounds, for the table's CSV: by what they are, or one by "".
    """

    text: str = ""
    sub: str = ""
    title: str = ""
    tone: str = ""  # CSS classes: strong, quiet, whole (never wraps)
    drawing: Markup = NO_DRAWING
    exact: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the page; `title` is read aloud, not shown. A note is a line below its row."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = ()
    notes: Sequence[str] = ()  # none, or one a row, empty where there is nothing to say
    run_ids: Sequence[str] = ()  # none, or the run of each row


def runs_table(frame: pd.DataFrame, runs: Mapping[str, Run], steps: Mapping[str, Sequence[Mapping]]) -> Table:
    """Who each run is and what it cost; a column that the losses table cannot fill is left out."""
    last = final_rows(frame).drop_duplicates("run_id").set_index("run_id")
    known = [column for column in _RUN_NUMBERS if column in last and last[column].notna().any()]
    timed = any(steps.get(run_id) for run_id in runs)
    columns = [
        Column("run", "what differs from the base"),
        Column("run id"),
        *(_RUN_NUMBERS[column][0] for column in known),
    ]
    columns += [Column("training time", numeric=True)] if timed else []
    seeds = _seeds(last)
    rows = []
    for run_id, run in runs.items():
        row = [_run_cell(run, seeds), Cell(run_id, tone="quiet whole")]
        for column in known:
            value = last[column].get(run_id)
            row.append(_exact_cell(value, _RUN_NUMBERS[column][1]) if pd.notna(value) else Cell(NONE))
        if timed:
            row.append(Cell(training_time(steps.get(run_id, ()))))
        rows.append(row)
    return Table("Runs", columns, rows, run_ids=list(runs))


def _exact_cell(value: float, write: Callable[[float], str]) -> Cell:
    return Cell(write(value), title=f"{value:,}", exact={"": value})


_RUN_NUMBERS = {
    "params_total": (Column("parameters", numeric=True), human_count),
    "params_non_embedding": (Column("non-embedding", "parameters", numeric=True), human_count),
    "vocab_size": (Column("vocabulary", numeric=True), lambda value: f"{value:,.0f}"),
    "step": (Column("steps", numeric=True), lambda value: f"{value:,.0f}"),
    "tokens_seen": (Column("tokens", numeric=True), human_count),
    "train_flops": (Column("training", "FLOPs", numeric=True), lambda value: f"{value:.2e}"),
}


def _run_cell(run: Run, seeds: Mapping[str, str], title: str = "") -> Cell:
    """What sets a run apart; its seed too where the study has several."""
    parts = [] if run.is_base or run.factor == SEED else [factor_name(run.factor)]
    parts += [f"seed {seeds[run.run_id]}"] if run.run_id in seeds else []
    name = BASE if run.factor == SEED else run.name
    return Cell(name, ", ".join(parts), title=title, drawing=swatch(run.style))


def _seeds(last: pd.DataFrame) -> dict[str, str]:
    """The seed of each run, where there is more than one."""
    if "seed" not in last or last["seed"].nunique() < 2:
        return {}
    return {run_id: f"{seed:g}" if isinstance(seed, float) else str(seed) for run_id, seed in last["seed"].items()}


def training_time(rows: Sequence[Mapping]) -> str:
    """Seconds spent in training steps: each logged row stands for the steps since the row before it."""
    if not rows:
        return NONE
    table = pd.DataFrame(rows).drop_duplicates("step", keep="last").sort_values("step")
    steps = table["step"].diff().fillna(table["step"])
    return human_seconds(float((steps * table["step_seconds"]).sum()))


def losses_table(frame: pd.DataFrame, runs: Mapping[str, Run], units: Sequence[Unit]) -> Table:
    """Losses of each run's last checkpoint: a column an evaluation set, the second unit below the first."""
    last = final_rows(frame)
    kinds = last.drop_duplicates("eval_set").set_index("eval_set")["eval_kind"]
    columns = [Column("run"), *(Column(name, kinds[name] or "", numeric=True) for name in kinds.index)]
    cells = {(row["run_id"], row["eval_set"]): _loss_cell(row, units) for row in last.to_dict("records")}
    seeds = _seeds(last.drop_duplicates("run_id").set_index("run_id"))
    rows = [
        [
            _run_cell(run, seeds, title=run_id),
            *(cells.get((run_id, name), Cell(NONE)) for name in kinds.index),
        ]
        for run_id, run in runs.items()
    ]
    return Table("Losses at the last checkpoint", columns, rows, run_ids=list(runs))


def _loss_cell(row: Mapping, units: Sequence[Unit]) -> Cell:
    first, *rest = (number(row[unit.column]) for unit in units)
    accuracy = row.get("accuracy")
    if accuracy is not None and pd.notna(accuracy):
        rest.append(f"{100 * accuracy:.1f}%")
    details = [f"{name} {row[name]:g}" for name in ("nats_per_token_standard_error", "n") if pd.notna(row.get(name))]
    details = [text.replace("nats_per_token_standard_error", "standard error (nats/token)") for text in details]
    exact = {name: row[name] for name in (*(unit.column for unit in units), "accuracy") if pd.notna(row.get(name))}
    return Cell(first, " · ".join(rest), title=", ".join(details), exact=exact)


def corpora_table(manifests: Mapping[str, Mapping]) -> Table:
    """What each corpus was made of, as its manifest says."""
    columns = [
        Column("corpus"),
        Column("documents", numeric=True),
        Column("bytes", numeric=True),
        Column("SHA-256"),
        Column("licence", prose=True),
    ]
    rows = [
        [
            Cell(name),
            *(_manifest_cell(manifest.get(key)) for key in ("documents", "bytes", "sha256", "licence")),
        ]
        for name, manifest in manifests.items()
    ]
    return Table("Corpora", columns, rows)


def _manifest_cell(value: int | str | None) -> Cell:
    if value is None:
        return Cell(NONE)
    if isinstance(value, int):
        return Cell(f"{value:,}")
    is_hash = re.fullmatch("[0-9a-f]{64}", value)
    return Cell(f"{value[:16]}…", title=value) if is_hash else Cell(value)
