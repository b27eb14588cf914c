"""Semicolons and tabs separate columns of a .csv too. Decimal commas are read right, or refused with the line."""

import gzip

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

from lossline_jax.errors import LosslineError
from lossline_jax.losses.delimited import parse_delimited
from lossline_jax.losses.table import read_losses

TABLE = "run_id,data,wiki,code\n007,web,2.5,3.75\n008,code,2.25,-3.5e-1\n"


def parse(text, separator=","):
    return parse_delimited(text, separator, "t.csv")


@pytest.mark.parametrize("separator", [";", "\t", ","])
@pytest.mark.parametrize("ending", ["csv", "tsv", "CSV", "csv.gz"])
def test_the_header_shows_the_separator(tmp_path, separator, ending):
    path = tmp_path / f"t.{ending}"
    content = ("\ufeff" + TABLE.replace(",", separator).replace("\n", "\r\n")).encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    expected = parse(TABLE)
    expected.index.name = f"line of {path.name}"
    pd.testing.assert_frame_equal(read_losses(path), expected)
    assert expected["run_id"].tolist() == ["007", "008"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_decimal_points(separator):
    text = TABLE.replace(",", separator).replace(".", ",")
    pd.testing.assert_frame_equal(parse(text), parse(TABLE))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1e9, allow_nan=False), min_size=1, max_size=6))
def test_a_number_is_read_as_it_was_written_or_refused(numbers):
    text = "x;y\n" + "".join(f"{number!r}".replace(".", ",") + ";1\n" for number in numbers)
    try:
        assert parse(text)["x"].tolist() == numbers
    except LosslineError as error:
        assert "may be" in str(error)  # noqa: PT017 - only numbers that all have three decimals have two readings
        assert all(len(f"{number!r}".partition(".")[2]) == 3 for number in numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x;y\n1;125,000\n2;130,000\n", "line 2 of t.csv: 125,000 may be 125.000 or 125000; write every number"),
        ("x;y\n1,5;2,5\n1,25;2.5\n", r"line 3 of t.csv: 2.5 has a point, and 1,5 \(line 2\) has a comma"),
        ("x;params\n1,5;125.000\n", r"line 2 of t.csv: 125.000 has a point, and 1,5 \(line 2\) has a comma"),
        ("x;y\n1,5;1.234,5\n", "line 2 of t.csv: 1.234,5 has a point"),
        ("x;y\n1,5;1,234,567\n", "line 2 of t.csv: 1,234,567 is not a number with a decimal comma"),
        ("run;x,code\na;2,5\n", "its columns may be separated by ',' or ';'"),
        ("a;b\tc\n1;2\t3\n", r"t.csv: its columns may be separated by ';' or '\\t'; quote"),
        ("a;b,c;d\n1;2,3;4\n", "its columns may be separated by ',' or ';'"),
    ],
)
def test_what_has_two_readings_is_refused(text, message):
    with pytest.raises(LosslineError, match=message) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_words_keep_their_commas():
    frame = parse("mixture;x\n50,50 web;2,5\n100;3,5\n")
    assert frame["mixture"].tolist() == ["50,50 web", "100"]
    assert frame["x"].tolist() == [2.5, 3.5]


def test_a_comma_in_a_title_of_a_tab_separated_file_separates_nothing():
    assert parse("loss, nats\tcode, bits, all\n1.5\t2.5\n", "\t").columns.tolist() == ["loss, nats", "code, bits, all"]
