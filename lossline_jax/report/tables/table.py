"""The tables of the report: rows of cells, for the template. Read `Column`, `Cell` and `Table` first."""

import dataclasses
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
CLEAR_RISE = 0.01  # share by which a last loss lies above the lowest one where the table shows both; a choice


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    name: str
    unit: str = ""  # a smaller line below the name
    numeric: bool = False  # right-aligned
    prose: bool = False  # the text may wrap


@dataclass(frozen=True)
class Cell:
    """A text with a smaller line below it, a drawing before it, and a title that shows on hovering."""

    text: str = ""
    sub: str = ""  # the smaller line; in a column of numbers, a line break divides it
    title: str = ""
    tone: str = ""  # CSS classes: strong, quiet, whole (never wraps)
    drawing: Markup = NO_DRAWING
    exact: Mapping[str, float] = field(default_factory=dict)  # unrounded numbers for the CSV, by name; "": the column's


@dataclass(frozen=True)
class Table:
    """A table of the page. A note is a line below its row."""

    title: str  # for screen readers; the page does not show it
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = ()
    notes: Sequence[str] = ()  # empty, or one text for each row; the text may be empty
    run_ids: Sequence[str] = ()  # empty, or the run of each row


def runs_table(frame: pd.DataFrame, runs: Mapping[str, Run], steps: Mapping[str, Sequence[Mapping]]) -> Table:
    """Return the table of runs with their sizes and costs. A column without any number is left out.

    Args:
        frame: the losses table as `as_long` gives it.
        runs: the runs by id.
        steps: rows of steps.jsonl by run id; runs without rows may be missing.
    """
    last = final_rows(frame).drop_duplicates("run_id").set_index("run_id")
    known = [column for column in _RUN_NUMBERS if column in last and len(last[column].dropna())]
    numbers = {column: last[column].dropna().to_dict() for column in known}  # by run id
    timed = any(steps.get(run_id) for run_id in runs)
    columns = [
        Column("run", "what differs from the base, and its id"),
        *(_RUN_NUMBERS[column][0] for column in known),
    ]
    columns += [Column("training time", numeric=True)] if timed else []
    seeds = _seeds(last)
    rows = []
    for run_id, run in runs.items():
        cell = _run_cell(run, seeds)
        row = [dataclasses.replace(cell, sub=", ".join(part for part in (cell.sub, run_id) if part))]
        for column in known:
            value, write = numbers[column].get(run_id), _RUN_NUMBERS[column][1]
            row.append(Cell(NONE) if value is None else Cell(write(value), title=f"{value:,}", exact={"": value}))
        if timed:
            row.append(Cell(training_time(steps.get(run_id, ()))))
        rows.append(row)
    return Table("Runs", columns, rows, run_ids=list(runs))


# Columns of the runs table by column of the losses table, with the function that writes a number.
_RUN_NUMBERS: dict[str, tuple[Column, Callable[[float], str]]] = {
    "params_total": (Column("parameters", numeric=True), human_count),
    "params_non_embedding": (Column("non-embedding", "parameters", numeric=True), human_count),
    "vocab_size": (Column("vocabulary", numeric=True), lambda value: f"{value:,.0f}"),
    "step": (Column("steps", numeric=True), lambda value: f"{value:,.0f}"),
    "tokens_seen": (Column("tokens", numeric=True), human_count),
    "train_flops": (Column("training", "FLOPs", numeric=True), lambda value: f"{value:.2e}"),
}


def _run_cell(run: Run, seeds: Mapping[str, str], title: str = "") -> Cell:
    """Return the cell with the level in which a run differs from the base, and its seed where the study has several."""
    parts = [] if run.is_base or run.factor == SEED else [factor_name(run.factor)]
    parts += [f"seed {seeds[run.run_id]}"] if run.run_id in seeds else []
    name = BASE if run.factor == SEED else run.name
    return Cell(name, ", ".join(parts), title=title, drawing=swatch(run.style))


def _seeds(last: pd.DataFrame) -> dict[str, str]:
    """Return the seed of each run as text, or nothing where all runs have the same seed."""
    if "seed" not in last or len(set(last["seed"].dropna())) < 2:
        return {}
    seeds = {str(run_id): seed for run_id, seed in last["seed"].items()}
    return {run_id: f"{seed:g}" if isinstance(seed, float) else str(seed) for run_id, seed in seeds.items()}


def training_time(rows: Sequence[Mapping]) -> str:
    """Return the time spent in training steps. A logged row stands for all steps since the row before it.

    Args:
        rows: rows of steps.jsonl; `step_seconds` is the seconds of one step.
    """
    if not rows:
        return NONE
    table = pd.DataFrame(rows).drop_duplicates("step", keep="last").sort_values("step")
    steps = table["step"].diff().fillna(table["step"])
    return human_seconds(float((steps * table["step_seconds"]).to_numpy(float).sum()))


def losses_table(frame: pd.DataFrame, runs: Mapping[str, Run], units: Sequence[Unit]) -> Table:
    """Return the losses of each run's last checkpoint, with a column for each evaluation set.

    A run that ends clearly above an earlier loss has this lowest loss too, with its step. It may have learned its data
    by heart.

    Args:
        frame: the losses table as `as_long` gives it.
        runs: the runs by id.
        units: the units of the losses. The first unit is the text of a cell, the second is below it.
    """
    last = final_rows(frame)
    first_rows = last.drop_duplicates("eval_set")
    kinds = {str(name): kind for name, kind in zip(first_rows["eval_set"], first_rows["eval_kind"], strict=True)}
    columns = [Column("run"), *(Column(name, str(kind or ""), numeric=True) for name, kind in kinds.items())]
    lowest = _lowest_rows(frame, units[0])
    cells = {}
    for row in last.to_dict("records"):
        key = (row["run_id"], row["eval_set"])
        cells[key] = _loss_cell(row, units, lowest.get(key))
    seeds = _seeds(last.drop_duplicates("run_id").set_index("run_id"))
    rows = [
        [
            _run_cell(run, seeds, title=run_id),
            *(cells.get((run_id, name), Cell(NONE)) for name in kinds),
        ]
        for run_id, run in runs.items()
    ]
    return Table("Losses at the last checkpoint", columns, rows, run_ids=list(runs))


def _lowest_rows(frame: pd.DataFrame, unit: Unit) -> dict[tuple[str, str], dict]:
    """Return the row of the lowest loss of each run on each set, by run and set."""
    known = frame.dropna(subset=[unit.column])
    lowest = known.loc[known.groupby(["run_id", "eval_set"])[unit.column].idxmin()]
    return {(row["run_id"], row["eval_set"]): row for row in lowest.to_dict("records")}


def _loss_cell(row: Mapping, units: Sequence[Unit], lowest: Mapping | None) -> Cell:
    first, *rest = (number(row[unit.column]) for unit in units)
    known = {name: value for name, value in row.items() if not pd.isna(value)}
    if "accuracy" in known:
        rest.append(f"{100 * known['accuracy']:.1f}%")
    loss = units[0].column
    if lowest is not None and row[loss] > (1 + CLEAR_RISE) * lowest[loss]:
        rest.append(f"lowest {number(lowest[loss])} at step {lowest['step']:,}")
    detail_names = {"nats_per_token_standard_error": "standard error (nats/token)", "n": "n"}
    details = [f"{text} {known[name]:g}" for name, text in detail_names.items() if name in known]
    exact = {name: known[name] for name in (*(unit.column for unit in units), "accuracy") if name in known}
    return Cell(first, " · ".join(rest), title=", ".join(details), exact=exact)


def corpora_table(manifests: Mapping[str, Mapping]) -> Table:
    """Return the table of corpora with the size, hash and licence that each manifest states.

    Args:
        manifests: the manifest of each corpus by name.
    """
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
