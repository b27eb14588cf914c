"""The numbers behind the page, kept in the page itself: gzipped, in data: links."""

import base64
import dataclasses
import gzip
import json
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lossline_jax.fit.study.results import StudyFits
from lossline_jax.report.content.wording import MINUS, NONE
from lossline_jax.report.tables.table import Cell, Column, Table

# How a formula may begin; a sign before a number is one only where a call or a reference follows.
FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d|\.\d|\Z)|[+-].*[|!=]")


@dataclass(frozen=True)
class Download:
    """A file that the page gives away; with scripts off it comes gzipped, as its name then says."""

    name: str
    uri: str
    note: str = ""


def download(name: str, content: str, note: str = "") -> Download:
    coded = base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode("ascii")
    return Download(f"{name}.gz", f"data:application/gzip;base64,{coded}", note)


def csv_text(frame: pd.DataFrame, **options: Any) -> str:
    """A table as CSV in which no text is a formula to a spreadsheet: one that would be has an apostrophe in front."""
    texts = frame.select_dtypes(include=["object", "string", "category"])
    inert = {name: column.astype(object).map(_inert) for name, column in texts.items()}
    return frame.assign(**inert).rename(columns=_inert).to_csv(index=False, **options)


def _inert(value: Any) -> Any:
    is_formula = isinstance(value, str) and re.match(FORMULA, value)
    return f"'{value}" if is_formula else value


def downloads(frame: pd.DataFrame, fits: StudyFits) -> list[Download]:
    """The losses and the fits behind the page."""
    all_downloads = [
        download("losses.csv", csv_text(frame), f"{len(frame):,} rows, the whole losses table"),
        download("fits.json", json.dumps(fits.to_json(), indent=1), "every fit and comparison"),
    ]
    if fits.comparisons:
        gaps = csv_text(gaps_frame(fits))
        all_downloads.insert(1, download("gaps.csv", gaps, "gaps between lines and verdicts, every matched pair"))
    return all_downloads


def table_download(name: str, table: Table) -> Download:
    """A table of the page as CSV: exact numbers where the table has them, else what a cell shows, its smaller line in a
    column of its own; columns without content are left out.
    """
    rows = []
    for k, row in enumerate(table.rows):
        cells: dict[str, str | float] = {"run_id": table.run_ids[k]} if table.run_ids else {}
        for column, cell in zip(table.columns, row, strict=True):
            cells |= _cells(column, cell)
        rows.append(cells | ({"note": table.notes[k]} if table.notes else {}))
    frame = pd.DataFrame(rows, dtype=object).fillna("")
    return download(f"{name}.csv", csv_text(frame.loc[:, (frame != "").any()]))


def _cells(column: Column, cell: Cell) -> dict[str, str | float]:
    if cell.exact:
        return {f"{column.name} {name}".rstrip(): value for name, value in cell.exact.items()}
    head = f"{column.name}, {column.unit}" if column.unit else column.name
    return {head: _plain(cell.text), f"{head} (below)": _plain(cell.sub)}


def _plain(text: str) -> str:
    """As a spreadsheet reads it."""
    return "" if text == NONE else text.replace(MINUS, "-")


def gaps_frame(fits: StudyFits) -> pd.DataFrame:
    """Every comparison: a row a level and unit, then one for each of its matched pairs."""
    rows = []
    for comparison in fits.comparisons:
        factor = dataclasses.asdict(comparison)
        factor |= {f"factor_{name}": factor.pop(name) for name in ("verdict", "note", "p")}
        factor["far_runs"] = " ".join(factor["far_runs"])
        for level in factor.pop("levels"):
            pairs = level.pop("pairs")
            outer = level.pop("outer")
            level |= {f"gap_at_{end}_x": each["gap"] for end, each in zip(("low", "high"), outer, strict=False)}
            rows.append(factor | {"matched_on": "all pairs"} | _ends(level))
            if len(pairs) > 1:
                rows += [factor | {"level": level["level"]} | _ends(pair) for pair in pairs]
    return pd.DataFrame(rows)


def _ends(values: dict) -> dict:
    """Intervals as two columns."""
    columns = dict(values)
    columns["interval_low"], columns["interval_high"] = columns.pop("interval") or (None, None)
    if "support" in columns:
        columns["x_low"], columns["x_high"] = columns.pop("support") or (None, None)
    return columns
