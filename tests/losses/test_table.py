"""The losses table keeps its rows in files, and damaged files are refused."""

import dataclasses
import re
from typing import get_args

import pandas as pd
import pytest
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.losses.loss_row import COLUMNS, LossRow
from lossline_jax.losses.published.rows import PUBLISHED_COLUMNS
from lossline_jax.losses.table import append_rows, read_loss_rows, read_losses, write_table
from tests.support.paths import ROOT


def row(**changes):
    examples = {str: "a", int: 3, int | None: 4, float: 1.25, float | None: 0.5}
    values = {field.name: examples[field.type] for field in dataclasses.fields(LossRow)}
    return LossRow(**{**values, "accuracy": None, **changes})


def test_rows_survive_the_file(tmp_path):
    path = epath.Path(tmp_path) / "rows.jsonl"
    append_rows(path, [row(step=1)])
    append_rows(path, [row(step=2, eval_set="ü")])
    assert read_loss_rows(path) == [row(step=1), row(step=2, eval_set="ü")]
    assert read_loss_rows(epath.Path(tmp_path) / "absent.jsonl") == []


def test_a_damaged_row_is_named_by_line(tmp_path):
    path = epath.Path(tmp_path) / "rows.jsonl"
    append_rows(path, [row()])
    path.write_text(path.read_text() + '{"step": 1}\n')
    with pytest.raises(LosslineError, match=r"rows\.jsonl: line 2"):
        read_loss_rows(path)


def test_csv_and_parquet_hold_the_same_table(tmp_path):
    folder = epath.Path(tmp_path)
    rows = [row(step=1, nats_per_token=0.1 + 0.2), row(step=2)]
    write_table(rows, folder / "l.csv", folder / "l.parquet")
    csv, parquet = read_losses(folder / "l.csv"), read_losses(folder / "l.parquet")
    assert list(csv.columns) == list(parquet.columns) == list(COLUMNS)
    assert csv["nats_per_token"].tolist() == parquet["nats_per_token"].tolist() == [0.1 + 0.2, 1.25]
    assert pd.isna(csv["accuracy"]).all()
    assert pd.isna(parquet["accuracy"]).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "cannot be read as csv"),
        ("a.csv", "x,y\n", "no rows"),
        ("a.parquet", "not parquet", "cannot be read as parquet"),
        ("a.txt", "x", "not a table that lossline can read"),
        ("a.csv", None, "no such table"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(LosslineError, match=message) as error:
        read_losses(str(path))
    assert "\n" not in str(error.value)


def read_description(heading):
    """Return (column, may be empty) for each row of the first table under a heading of the documentation."""
    text = (ROOT / "docs" / "losses_table.md").read_text().split(heading)[1]
    table = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
    return [(row[0].strip("`"), row[2] == "yes") for row in rows]


def test_every_column_is_described():
    optional = {field.name: type(None) in get_args(field.type) for field in dataclasses.fields(LossRow)}
    assert read_description("# The losses table\n") == list(optional.items())
    assert [name for name, _ in read_description("## Published tables\n")] == list(PUBLISHED_COLUMNS)
