"""Downloads: the numbers behind the page, stored in the page itself as gzipped `data:` links."""

import base64
import dataclasses
import gzip
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.settings import PARAMS
from lossline_jax.report.content.wording import MINUS, NONE
from lossline_jax.report.tables.table import Cell, Column, Table

MOST_WHOLE_ROWS = 50_000  # rows; a larger table is not stored in the page with all its columns and digits. A choice
LARGE_DIGITS = 7  # significant digits of its losses. A choice
USED_COLUMNS = ("run_id", "step", "tokens_seen", "train_flops", "eval_set", "eval_kind", "seed", "accuracy", *PARAMS)
# The start of a text that spreadsheets read as a formula. A sign before a number starts a formula only where a call or
# a reference follows.
FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d|\.\d|\Z)|[+-].*[|!=]")


@dataclass(frozen=True)
class Download:
    """A file in the page. The page's script unpacks it; without scripts it is downloaded gzipped, as `name` ends."""

    name: str  # ends in .gz
    uri: str
    note: str = ""


def download(name: str, content: str, note: str = "") -> Download:
    """Return a text as a download.

    Args:
        name: the file name without .gz.
        content: the text of the file.
        note: a description beside the link.
    """
    coded = base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode("ascii")
    return Download(f"{name}.gz", f"data:application/gzip;base64,{coded}", note)


def csv_text(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """Return a table as CSV in which spreadsheets find no formula: such a text gets an apostrophe in front.

    Args:
        frame: the table.
        float_format: a format such as `%.7g`. None: every digit.
    """
    texts = frame.select_dtypes(include=["object", "string", "category"])
    escaped = {str(name): _escaped(column) for name, column in texts.items()}
    return frame.assign(**escaped).rename(columns=_escape_formula).to_csv(index=False, float_format=float_format)


def _escaped(column: pd.Series) -> pd.Series:
    """Return a column of texts with no formula. Each distinct text of a column of texts alone is looked at once."""
    if column.dtype != "str":
        return column.astype(object).map(_escape_formula)
    codes, texts = pd.factorize(column)
    escaped = np.array([*map(_escape_formula, texts), None], dtype=object)  # the code of a missing text is -1
    return pd.Series(escaped[codes], index=column.index, name=column.name)


def _escape_formula(value: Any) -> Any:
    is_formula = isinstance(value, str) and re.match(FORMULA, value)
    return f"'{value}" if is_formula else value


def downloads(frame: pd.DataFrame, fits: StudyFits) -> list[Download]:
    """Return the downloads at the end of the page: the losses, the gaps where there are any, and the fits."""
    all_downloads = [
        _losses(frame, fits),
        download("fits.json", json.dumps(fits.to_json(), indent=1), "every fit and comparison"),
    ]
    if fits.comparisons:
        gaps = csv_text(gaps_frame(fits))
        all_downloads.insert(1, download("gaps.csv", gaps, "gaps between lines and verdicts, every matched pair"))
    return all_downloads


def _losses(frame: pd.DataFrame, fits: StudyFits) -> Download:
    """Return the losses table. Of a large table, the columns that the page uses, in fewer digits."""
    if len(frame) <= MOST_WHOLE_ROWS:
        return download("losses.csv", csv_text(frame), f"{len(frame):,} rows, the whole losses table")
    used = {*fits.by, *fits.units, fits.x, fits.y, *USED_COLUMNS}
    names = [name for name in frame.columns if name in used]
    left_out = len(frame.columns) - len(names)
    columns = f"{len(names)} columns that the page uses; {left_out} others are in the table alone" if left_out else ""
    note = "; ".join(part for part in (f"{len(frame):,} rows, losses to {LARGE_DIGITS} digits", columns) if part)
    return download("losses.csv", csv_text(frame.loc[:, names], float_format=f"%.{LARGE_DIGITS}g"), note)


def table_download(name: str, table: Table) -> Download:
    """Return a table of the page as a CSV download.

    A cell with exact numbers gives these. Another cell gives its text, and its smaller line in a second column. Columns
    without content are left out.

    Args:
        name: the file name without .csv.
        table: the table.
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
    """Return the text on one line with an ASCII minus sign, and empty for a dash, so that spreadsheets read it."""
    return "" if text == NONE else text.replace(MINUS, "-").replace("\n", " ")


def gaps_frame(fits: StudyFits) -> pd.DataFrame:
    """Return every comparison as rows: one for each level and unit, followed by one for each of its matched pairs."""
    rows = []
    for comparison in fits.comparisons:
        factor = dataclasses.asdict(comparison)
        factor |= {f"factor_{name}": factor.pop(name) for name in ("verdict", "note", "p")}
        factor["far_runs"] = " ".join(factor["far_runs"])
        for level in factor.pop("levels"):
            pairs = level.pop("pairs")
            outer = level.pop("outer")
            # `outer` is empty or has two gaps.
            level |= {f"gap_at_{end}_x": gap["gap"] for end, gap in zip(("low", "high"), outer, strict=False)}
            rows.append(factor | {"matched_on": "all pairs"} | _split_intervals(level))
            if len(pairs) > 1:
                rows += [factor | {"level": level["level"]} | _split_intervals(pair) for pair in pairs]
    return pd.DataFrame(rows)


def _split_intervals(values: dict) -> dict:
    """Replace each interval by two values, its ends, and the course of a gap by one value for each of its parts."""
    columns = dict(values)
    course = columns.pop("course") or {"word": "", "x": (None, None)}
    course["start_x"], course["far_x"] = course.pop("x")
    for part in ("start", "far", "change"):
        low, high = course.pop(f"{part}_interval", None) or (None, None)
        course |= {f"{part}_low": low, f"{part}_high": high}
    columns["course"] = course.pop("word")
    columns |= {f"course_{name}": value for name, value in course.items()}
    columns["interval_low"], columns["interval_high"] = columns.pop("interval") or (None, None)
    if "support" in columns:
        columns["x_low"], columns["x_high"] = columns.pop("support") or (None, None)
    return columns
