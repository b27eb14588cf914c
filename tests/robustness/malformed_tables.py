"""Make malformed tables from a seed, and give them to every verb that takes a table.

A case is a sound table with one change. No verb may end in a stack trace, refuse a table in more than one line, or
leave an output of a refused command behind. Where the change keeps every number, the results must be those of the sound
table.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tests.robustness.outcomes import Case, call, outcome

COLUMNS = ("run_id", "data", "params", "tokens", "x", "y")
LINE = ("--x", "x", "--y", "y")
SIZES = ("--y", "y", "--params", "params", "--tokens", "tokens")
VERBS = {
    "fit": ("fit", *LINE),
    "fit --by": ("fit", *LINE, "--by", "data"),
    "fit --across": ("fit", *LINE, "--across", "data", "--on", "params", "tokens"),
    "fit --law": ("fit", "--law", "kaplan", "--y", "y", "--input", "N=params", "D=tokens", "--cluster", "run_id"),
    "compare": ("compare", *LINE, "--factors", "data"),
    "speedup": ("speedup", *SIZES, "--factors", "data"),
    "predict": ("predict", *SIZES, "--at-params", "1e9", "--at-tokens", "2e10"),
    "predict --x": ("predict", *SIZES, "--x", "x", "--at-x", "2.5"),
    "backtest": ("backtest", *SIZES),
    "import-losses": ("import-losses",),
}
SLOW_VERBS = {"report": ("report", *LINE, "--factors", "data")}
NUMBERS = ["params", "tokens", "x", "y"]
BAD_CELLS = [
    "", " ", "NA", "nan", "None", "diverged", "inf", "-inf", "0", "-1", "1e-300", "1e300", "1e400", "3,5", "1_000", "٣",
    "0x1F", "True", "2024-01-01", "1+2j", "--", "'", "=1+1", "3.0 nats", "9" * 40,
]  # fmt: skip
ODD_VALUES = [
    None, True, [1.0], {"a": 1}, "3.5", "NA", "diverged", float("inf"), float("-inf"), 0, -1, 10**30, 1e-300, 1e300,
    [], {},
]  # fmt: skip


@dataclass(frozen=True)
class Malformed:
    """A file, the change in it, and whether its numbers are still those of the sound table."""

    name: str
    content: str
    change: str
    is_equal: bool = False


def sound_table() -> pd.DataFrame:
    """Return two data sets with four budgets each, a planted law and a planted line. Each run has one row."""
    generator = np.random.Generator(np.random.PCG64(3))
    budget = np.tile(np.repeat(np.geomspace(1e17, 1e19, 4), 3), 2)
    size = np.sqrt(budget / 120) * np.tile([0.5, 1.0, 2.0], 8)
    tokens = budget / (6 * size)
    data = np.repeat(["web", "code"], 12)
    x = (1.7 + 400 * size**-0.34 + 2000 * tokens**-0.36) * np.exp(generator.normal(0, 1e-3, 24))
    y = 0.8 * x**1.1 + 0.2 * (data == "code") + generator.normal(0, 1e-3, 24)
    runs = [f"run{k}" for k in range(24)]
    columns = dict(zip(COLUMNS, (runs, data, size.round(), tokens.round(), x.round(6), y.round(6)), strict=True))
    return pd.DataFrame(columns)


def cells_of(frame: pd.DataFrame) -> list[list[str]]:
    return [list(frame.columns), *([str(cell) for cell in row] for row in frame.itertuples(index=False))]


def text_of(rows: list[list[str]], separator: str = ",") -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def bad_cell(generator, frame) -> Malformed:
    rows = cells_of(frame)
    row, column = int(generator.integers(1, len(rows))), int(generator.integers(len(COLUMNS)))
    cell = BAD_CELLS[generator.integers(len(BAD_CELLS))]
    rows[row][column] = f'"{cell}"' if "," in cell else cell
    return Malformed("t.csv", text_of(rows), f"{COLUMNS[column]} of line {row + 1} is {cell!r}")


def bad_column(generator, frame) -> Malformed:
    column = COLUMNS[generator.integers(len(COLUMNS))]
    cell = BAD_CELLS[generator.integers(len(BAD_CELLS))]
    rows = cells_of(frame.assign(**{column: f'"{cell}"' if "," in cell else cell}))
    return Malformed("t.csv", text_of(rows), f"{column} is {cell!r} in every row")


def scaled_column(generator, frame) -> Malformed:
    column = NUMBERS[generator.integers(4)]
    factor = float(generator.choice([1e-300, 1e-30, 1e30, 1e300, -1.0, 1 / np.log(2)]))
    rows = cells_of(frame.assign(**{column: frame[column] * factor}))
    return Malformed("t.csv", text_of(rows), f"{column} times {factor:g}")


def odd_value(generator, frame) -> Malformed:
    records = frame.to_dict("records")
    row, column = int(generator.integers(len(records))), COLUMNS[generator.integers(len(COLUMNS))]
    value = ODD_VALUES[generator.integers(len(ODD_VALUES))]
    for record in records if generator.random() < 0.3 else [records[row]]:
        record[column] = value
    lines = "".join(json.dumps(record) + "\n" for record in records)
    return Malformed("t.jsonl", lines, f"{column} of line {row + 1} is {value!r}")


def other_rows(generator, frame) -> Malformed:
    """Make a table with few rows, with repeated rows, or with a constant column."""
    kind = int(generator.integers(4))
    if kind == 3:
        column = COLUMNS[generator.integers(len(COLUMNS))]
        return Malformed("t.csv", text_of(cells_of(frame.assign(**{column: frame[column].iloc[0]}))), f"one {column}")
    few = [frame[:0], frame[: int(generator.integers(1, 6))], pd.concat([frame, frame[:5]])][kind]
    return Malformed("t.csv", text_of(cells_of(few)), f"{len(few)} rows")


def damaged_text(generator, frame) -> Malformed:
    """Change a character or cut the end off, in CSV or JSON lines."""
    is_csv = generator.random() < 0.5
    text = text_of(cells_of(frame)) if is_csv else "".join(json.dumps(r) + "\n" for r in frame.to_dict("records"))
    place = int(generator.integers(len(text)))
    mark = '",\n\0;\t{}[]é\u2028-e.x'[generator.integers(16)]
    changed = text[:place] + mark + text[place + 1 :] if generator.random() < 0.7 else text[:place]
    return Malformed("t.csv" if is_csv else "t.jsonl", changed, f"{mark!r} or the end at character {place}")


def other_layout(generator, frame) -> Malformed:
    """Change the layout and no number: commas at line ends, blank rows, row names, spaces, quotes."""
    rows = cells_of(frame)
    match int(generator.integers(7)):
        case 0:
            rows = [rows[0]] + [row + [""] * int(generator.integers(3)) for row in rows[1:]]
            change = "commas at the ends of rows"
        case 1:
            rows = [[*row, ""] for row in rows]
            change = "commas at the ends of all lines"
        case 2:
            for place in sorted(generator.integers(1, len(rows), 3), reverse=True):
                rows.insert(int(place), [""] * len(COLUMNS))
            change = "blank rows"
        case 3:
            rows = [rows[0]] + [[f'"{k}"', *row] for k, row in enumerate(rows[1:], start=1)]
            change = "names of rows, as R writes them"
        case 4:
            rows = [[f" {cell} " for cell in row] for row in rows]
            change = "spaces about cells"
        case 5:
            rows = [[f'"{cell}"' for cell in row] for row in rows]
            change = "quotes about cells"
        case _:
            order = generator.permutation(len(COLUMNS))
            rows = [[row[k] for k in order] for row in rows]
            change = "columns in another order"
    return Malformed("t.csv", text_of(rows), change, is_equal=True)


def false_header(generator, frame) -> Malformed:
    """Make a header with a column too few, too many, or twice."""
    rows = cells_of(frame)
    place = int(generator.integers(len(COLUMNS)))
    match int(generator.integers(3)):
        case 0:
            rows[0] = rows[0][:place] + rows[0][place + 1 :]
        case 1:
            rows[0] = [*rows[0][:place], COLUMNS[generator.integers(len(COLUMNS))], *rows[0][place:]]
        case _:
            rows[0][place] = COLUMNS[(place + 1) % len(COLUMNS)]
    return Malformed("t.csv", text_of(rows), f"header {','.join(rows[0])}")


MAKERS: tuple[Callable[..., Malformed], ...] = (
    bad_cell,
    bad_column,
    scaled_column,
    odd_value,
    other_rows,
    damaged_text,
    other_layout,
    false_header,
)


def run_verb(arguments: tuple[str, ...], table: Path, out: Path):
    """Return the answer of a verb, and the files that it wrote."""
    if arguments[0] == "import-losses":
        arguments = (arguments[0], str(table), "--out", str(out.with_suffix(".csv")))
    else:
        arguments = ("table", arguments[0], str(table), *arguments[1:], "--out", str(out))
    answer = call(arguments)
    return answer, sorted(path for path in out.parent.rglob("*") if path.is_file())


def numbers_in(path: Path):
    """Read the JSON that a verb wrote. None: it wrote no file."""
    return json.loads(path.read_text()) if path.exists() and path.is_file() else None


def try_case(malformed: Malformed, verbs, folder: Path, sound: dict) -> list[Case]:
    table = folder / malformed.name
    table.write_text(malformed.content, encoding="utf-8", newline="")
    cases = []
    for verb, arguments in verbs.items():
        out = folder / "out" / "result.json"
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        answer, written = run_verb(arguments, table, out)
        equal = not malformed.is_equal or verb == "report" or numbers_in(out) == sound.get(verb)
        outcome_name = outcome(answer, equal)
        if outcome_name == "without effect" and not malformed.is_equal:
            outcome_name = "accepted"
        if answer.code and (written or answer.err.strip().count("\n") or answer.code != 2):
            outcome_name = "MUTE"
        if malformed.is_equal and answer.code and verb != "import-losses":
            outcome_name = "MUTE"
        cases.append(Case(f"{verb} of {malformed.name}", malformed.change, outcome_name, answer.last_line))
    return cases


def tables(count: int, seed: int, folder: Path, verbs_each: int = 3) -> Iterator[Case]:
    """Give each malformed table to some verbs. One table in twenty goes to the slow verbs too."""
    sound, frame = {}, sound_table()
    (folder / "sound").mkdir()
    (folder / "sound" / "t.csv").write_text(text_of(cells_of(frame)))
    generator = np.random.Generator(np.random.PCG64(seed))
    for k in range(count):
        malformed = MAKERS[k % len(MAKERS)](generator, frame)
        chosen = {verb: VERBS[verb] for verb in generator.choice(list(VERBS), verbs_each, replace=False)}
        for verb in chosen.keys() - sound.keys() if malformed.is_equal else ():
            out = folder / "sound" / "result.json"
            out.unlink(missing_ok=True)
            answer, _ = run_verb(VERBS[verb], folder / "sound" / "t.csv", out)
            assert verb == "import-losses" or answer.code == 0, answer.err
            sound[verb] = numbers_in(out)
        yield from try_case(malformed, chosen | SLOW_VERBS if k % 20 == 3 else chosen, folder, sound)
