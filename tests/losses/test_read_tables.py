"""Tables of a user keep every cell in its column and every row with its run. One line names what is unusable."""

import datetime
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.cli import main
from lossline_jax.errors import LosslineError
from lossline_jax.fit.predict.table_series import Columns, series_of_table
from lossline_jax.fit.study.table_laws import fit_laws
from lossline_jax.fit.study.table_lines import fit_lines
from lossline_jax.fit.tables.columns import paired_points
from lossline_jax.fit.tables.other_unit import require_one_unit, require_one_unit_of_repetitions
from lossline_jax.fit.tables.rows import level_text, open_rows
from lossline_jax.fit.tables.settings import find_settings
from lossline_jax.fit.tables.wide import positive
from lossline_jax.losses.cells import MISSING_WORDS
from lossline_jax.losses.delimited import parse_delimited
from lossline_jax.losses.table import read_losses
from tests.support.paths import ROOT

ROWS = [["wiki_loss", "code_loss", "c4_loss"], ["5.0", "4.0", "9.0"], ["4.5", "3.5", "8.5"], ["4.25", "3.25", "8.0"]]


def parse(text: str, **arguments) -> pd.DataFrame:
    return parse_delimited(text, ",", "t.csv", **arguments)


def join_rows(rows) -> str:
    return "".join(",".join(row) + "\n" for row in rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.sets(st.integers(1, 3)))
def test_rows_that_end_in_commas_keep_their_columns(commas, blank_before):
    rows = []
    for k, (row, count) in enumerate(zip(ROWS, commas, strict=True)):
        rows += [["", "", ""]] * (k in blank_before) + [row + [""] * count]
    frame = parse(join_rows(rows))
    assert frame.columns.tolist() == ROWS[0]
    assert frame.to_numpy().tolist() == [[float(cell) for cell in row] for row in ROWS[1:]]


@pytest.mark.parametrize("names", [["1", "2", "3"], ["m1", "m2", "m3"], ["7", "3", "12"]])
def test_tables_of_r_keep_their_columns(names):
    """R's `write.table(sep = ",")` writes names of rows, and its header leaves this column out."""
    rows = [ROWS[0]] + [[f'"{name}"', *row] for name, row in zip(names, ROWS[1:], strict=True)]
    assert parse(join_rows(rows)).to_numpy().tolist() == [[float(cell) for cell in row] for row in ROWS[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,a\n1,2,3\n", "t.csv: column 'a' occurs twice in the header"),
        ("a, a \n1,2\n", "column 'a' occurs twice"),
        ("a,b,c\n1,2,3\n4,5\n", "line 3 of t.csv: it has 2 cells, and the header names 3 columns"),
        ("a,b\n1,2\n1,2,3\n", "line 3 of t.csv: it has one cell more than the header, and line 2 does not"),
        ("a,b\n1,234,5.0\n1,250,4.0\n", "line 2 of t.csv: .* the first cells cannot be row names"),
        ("a,b\n3,51,2\n3,49,1\n", "cannot be row names"),
        ("a,b\n5.1,4,2\n5.2,3,1\n", "cannot be row names"),
        ("a,b\n1,5.0,\n2,5.1,\n", "begins with its number .*; name the first column"),
        ("a,b\nx,5.0,3\ny,5.1,\n", "in other rows that cell is empty"),
        ("a,b\n1,2,3,4\n", "line 2 of t.csv: it has 4 cells, and the header names 2; quote cells"),
        ('a,b\n1,"2\n3,4\n', "line 2 of t.csv: cannot be read .*check its quotes"),
        ('a,b\n1,"2"3\n', "line 2 of t.csv: cannot be read"),
        ("", "cannot be read as csv: it is empty"),
    ],
)
def test_text_that_fits_no_header_is_refused_by_line(text, message):
    with pytest.raises(LosslineError, match=message) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_words_that_say_nothing_are_levels_in_a_column_of_words():
    frame = parse("loss,clip\n3.0,None\nNA,nan\nnull,\n,NA\n3,norm\n")
    assert frame["loss"].isna().tolist() == [False, True, True, True, False]
    assert frame["clip"].isna().tolist() == [False, False, True, False, False]
    levels = [setting.levels["clip"] for setting in find_settings(open_rows(frame), ["clip"])[1]]
    assert levels == ["None", "nan", "NA", "norm"]


def test_names_are_not_numbers():
    frame = parse("run_id,name,size,huge\n007,007,1,99999999999999999999\n1e5,7,2,1\n", names=["name"])
    assert frame["run_id"].tolist() == ["007", "1e5"]
    assert frame["name"].tolist() == ["007", "7"]
    assert frame["size"].dtype == np.int64
    assert frame["huge"].tolist() == ["99999999999999999999", "1"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_read_to_the_last_bit(values):
    assert parse("x\n" + "".join(f"{value!r}\n" for value in values))["x"].tolist() == values


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("gap", [None, "NA", " "])
@pytest.mark.parametrize("numbered", [False, True])
def test_a_row_without_its_run_is_named(tmp_path, ending, gap, numbered):
    path = tmp_path / f"t.{ending}"
    frame = pd.DataFrame({"run_id": ["r1", "r2", gap, "r3"], "x": [5.0, 4.0, 3.0, 2.0], "y": [4.0, 3.0, 2.5, 2.0]})
    if numbered:
        if gap is not None:
            pytest.skip("a column of numbers has no words")
        frame["run_id"] = [1.0, 2.0, np.nan, 3.0]
    match ending:
        case "csv" | "tsv":
            frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")).replace("NaN", "null"))
        case "parquet":
            frame.to_parquet(path)
    where = {"csv": "line 4", "tsv": "line 4", "jsonl": "line 3", "parquet": "row 3"}[ending]
    with pytest.raises(LosslineError, match=rf"^{where} of t\.{ending}: run_id does not say a run"):
        open_rows(read_losses(path))


def test_rows_keep_the_names_of_their_file_through_a_filter(tmp_path):
    (tmp_path / "t.csv").write_text('x,y,note\n5,4,"two\nlines"\n\n4,3,\n-1,2,\n')
    frame = read_losses(tmp_path / "t.csv")
    with pytest.raises(LosslineError, match=r"line 6 of t\.csv: x is -1"):
        fit_lines(frame[frame["y"] < 4], "x", "y")


def test_run_ids_of_an_index_are_a_column():
    frame = pd.DataFrame({"run_id": ["a", "b"], "x": [1.0, 2.0], "y": [1.0, 2.0]}).set_index("run_id")
    assert open_rows(frame)["run_id"].tolist() == ["a", "b"]


def test_one_level_in_three_spellings():
    frame = pd.DataFrame({"size": pd.Series([1, "1", 1.0, True], dtype=object), "x": 1.0})
    assert [setting.levels for setting in find_settings(open_rows(frame), ["size"])[1]] == [
        {"size": "1"},
        {"size": "True"},
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["x", "x"], "column 'x' twice"),
        (["x", "_where"], "column '_where' has a name that lossline uses itself"),
    ],
)
def test_names_of_columns_that_cannot_be_told_apart(columns, message):
    with pytest.raises(LosslineError, match=message):
        open_rows(pd.DataFrame([[1, 2]], columns=columns))


CELLS = [True, datetime.date(2024, 1, 1), pd.Timestamp("2024-01-01"), 1j, {"a": 1}, [1], "3,5", "x", "1_000", "0x1F"]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_what_is_no_number_is_no_loss_and_no_size(cell):
    """pandas makes 1 of True, 1.7e18 of a date, and drops an imaginary part."""
    frame = open_rows(pd.DataFrame({"x": pd.Series([cell] * 6), "y": np.arange(1.0, 7.0)}))
    with pytest.raises(LosslineError, match="row 1: x is .*; losses are positive numbers"):
        fit_lines(frame.drop(columns="_where"), "x", "y")
    with pytest.raises(LosslineError, match="row 1: x is .*; it must be a positive number"):
        positive(frame, "x")


@pytest.mark.parametrize("dtype", ["category", "string", "Int64", "Float64"])
def test_kinds_of_columns_are_read_alike(dtype):
    values = ["1", "2", None] if dtype in ("category", "string") else [1, 2, None]
    frame = open_rows(pd.DataFrame({"g": pd.Series(values, dtype=dtype), "x": [1.0, 2.0, 3.0]}))
    assert [setting.levels["g"] for setting in find_settings(frame, ["g"])[1]] == ["1", "2"]


def long_table() -> pd.DataFrame:
    rows = [
        {"run_id": run, "step": step, "eval_set": name, "nats_per_token": 3.0 + step / 10, "loss_definition": "mean"}
        for run in "ab"
        for step in range(3)
        for name in ("wiki", "code")
    ]
    return pd.DataFrame(rows)


def test_two_definitions_of_one_set_are_refused_and_of_two_sets_are_not():
    mixed = long_table()
    mixed.loc[mixed["eval_set"] == "code", "loss_definition"] = "mean over documents"
    assert len(paired_points(open_rows(mixed), "wiki", "code", ())) == 6
    mixed.loc[11, "loss_definition"] = "sum"
    with pytest.raises(LosslineError, match=r"code: rows with loss_definition .* \(run a, step 0 and run b, step 2\)"):
        paired_points(open_rows(mixed), "wiki", "code", ())
    mixed.loc[11, "nats_per_token"] = np.nan
    assert len(paired_points(open_rows(mixed), "wiki", "code", ())) == 6, "a row without this loss defines none"


def test_two_units_are_refused_within_a_group_alone():
    frame = pd.DataFrame({"unit": ["nats"] * 6 + ["bits"] * 6, "x": np.linspace(2, 3, 12), "y": np.linspace(2, 3, 12)})
    with pytest.raises(LosslineError, match=r"unit 'nats' and 'bits' \(row 1 and row 7\)"):
        fit_lines(frame, "x", "y")
    assert len(paired_points(open_rows(frame), "x", "y", ("unit",))) == 12


def test_a_loss_that_its_own_sums_deny_is_refused():
    frame = long_table().assign(nats_sum=lambda rows: rows["nats_per_token"] * 100, num_tokens=100)
    assert len(paired_points(open_rows(frame), "wiki", "code", ())) == 6
    frame.loc[7, "nats_per_token"] /= np.log(2)
    with pytest.raises(LosslineError, match=r"run b, step 0: nats_per_token of code is .*1\.443 times"):
        paired_points(open_rows(frame), "wiki", "code", ())


def test_one_x_makes_no_line():
    frame = pd.DataFrame({"x": 3.0, "y": np.linspace(2, 3, 12)})
    with pytest.raises(LosslineError, match="x is 3 in all 12 rows with both losses: a line needs two values of x"):
        fit_lines(frame, "x", "y")


def plant_losses(seed: int, noise: float = 0.01):
    generator = np.random.Generator(np.random.PCG64(seed))
    size, tokens = (np.exp(generator.uniform(np.log(1e7), np.log(1e9), 30)) for _ in range(2))
    loss = (1.7 + 400 * size**-0.34 + 2000 * (20 * tokens) ** -0.36) * np.exp(generator.normal(0, noise, 30))
    return size, tokens, loss, [f"run {k}" for k in range(30)]


@pytest.mark.parametrize("seed", range(5))
def test_a_run_in_bits_is_named_and_an_odd_run_is_not(seed):
    size, tokens, loss, runs = plant_losses(seed)
    require_one_unit(loss, [size, tokens], runs, "loss")
    inner = int(np.argsort(size)[15])
    for factor, unit in ((1 / np.log(2), "bits"), (np.log(2), "nats")):
        changed = loss.copy()
        changed[inner] *= factor
        with pytest.raises(LosslineError, match=f"^run {inner}: loss is .* as if in {unit}"):
            require_one_unit(changed, [size, tokens], runs, "loss")
    loss[inner] *= 1.2
    require_one_unit(loss, [size, tokens], runs, "loss")


def test_a_repetition_in_bits_is_named_and_one_that_diverges_is_not():
    x = np.tile(np.linspace(5, 3, 8), 4) * np.repeat([1, 1.01, 0.99, 1], 8)
    runs = np.repeat(["run a", "run b", "run c", "run d"], 8)
    require_one_unit_of_repetitions({"x": x}, runs)
    diverged = x.copy()
    diverged[15] /= np.log(2)
    require_one_unit_of_repetitions({"x": diverged}, runs)
    with pytest.raises(LosslineError, match="^run b: x is 1.4.* as if in bits"):
        require_one_unit_of_repetitions({"x": np.where(runs == "run b", x / np.log(2), x)}, runs)


@pytest.mark.parametrize("factor", [np.log(2), 1 / np.log(2)])
def test_several_repetitions_in_another_unit_do_not_hide_each_other(factor):
    x = np.tile(np.linspace(4, 2.5, 8), 5)
    runs = np.repeat([f"run {k}" for k in range(5)], 8)
    odd = np.isin(runs, ["run 3", "run 4"])
    with pytest.raises(LosslineError, match="^run 3: x is .* what other runs of its setting have, as if in"):
        require_one_unit_of_repetitions({"x": np.where(odd, x * factor, x)}, runs)


def test_of_two_repetitions_in_two_units_both_are_named():
    x = np.linspace(5, 3, 8)
    with pytest.raises(LosslineError, match="^run a and run b: x of one run is 1.44 times that of the other"):
        require_one_unit_of_repetitions({"x": np.append(x, x / np.log(2))}, ["run a"] * 8 + ["run b"] * 8)


def test_the_message_names_the_first_cause():
    frame = pd.DataFrame({"params": [1e8, 2e8], "tokens": [1e9, 2e9], "y": ["bad", 3.0], "z": [3.0, "worse"]})
    with pytest.raises(LosslineError, match=r"^y: left out: row 1: y is bad.*\(and 1 more series left out\)"):
        series_of_table(frame, Columns(("y", "z"), ("params",), "tokens"))
    across = frame.assign(data=["a", "b"], y=[3.0, 2.0])
    with pytest.raises(LosslineError, match="no two models of equal size and tokens"):
        series_of_table(across, Columns(("y",), ("params",), "tokens", x="y", across="data"))


def test_the_command_line_reads_what_ends_in_commas(tmp_path, capsys):
    x = np.linspace(2.5, 5.0, 12)
    y = 0.9 * (x - 1.5) ** 1.3 + 1.1
    rows = [f"{a!r},{b!r},{a + 4!r}," for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["wiki_loss,code_loss,c4_loss", *rows]))
    out = tmp_path / "fits.json"
    arguments = ["table", "fit", str(tmp_path / "t.csv"), "--x", "wiki_loss", "--y", "code_loss", "--out", str(out)]
    main.main(arguments)
    capsys.readouterr()
    assert json.loads(out.read_text())["lines"][0]["fit"]["parameters"]["E_y"] == pytest.approx(1.1, abs=0.01)


@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e200])
def test_sizes_and_losses_that_nobody_means_are_named(factor):
    size, tokens, loss, _ = plant_losses(0)
    frame = pd.DataFrame({"params": size, "tokens": tokens, "y": loss})
    tiny = frame.assign(params=size * factor)
    with pytest.raises(LosslineError, match="row 1: params is .* positive number, from 1e-30 to 1e.40"):
        series_of_table(tiny, Columns(("y",), ("params",), "tokens"))
    with pytest.raises(LosslineError, match="row 1: params is .*, which is not a number from 1e-30"):
        fit_laws(tiny, "kaplan", {"N": "params", "D": "tokens"}, ["y"])
    with pytest.raises(LosslineError, match="row 1: y is .*; losses are positive numbers, from 1e-30"):
        fit_lines(frame.assign(y=loss * factor), "params", "y")


DESCRIBED = (ROOT / "docs/losses_table.md").read_text()


def test_the_page_lists_every_word_that_is_missing_in_a_column_of_numbers():
    (sentence,) = re.findall(r"spelt exactly so: (.*?)\.\n", DESCRIBED, flags=re.DOTALL)
    words = re.findall(r"`([^`]+)`", sentence)
    assert set(words) == MISSING_WORDS
    assert len(words) == len(MISSING_WORDS)
    column = parse(join_rows([["loss", "other"], ["5.0", "1"], *([word, "1"] for word in [*words, ""])]))["loss"]
    assert column.isna().to_list() == [False] + [True] * (len(words) + 1)


@pytest.mark.parametrize(
    ("written", "levels"),
    [
        (["1", "1.0", "1e0"], ["1", "1", "1"]),
        (["007", "7"], ["007", "7"]),
        (["1", "1.0", "007"], ["1", "1.0", "007"]),
        (["1", "1.0", "small"], ["1", "1.0", "small"]),
    ],
)
def test_spellings_of_a_number_are_one_level_among_numbers_and_several_among_words(written, levels):
    frame = open_rows(parse(join_rows([["data", "loss"], *([word, "4.0"] for word in written)])))
    assert [level_text(cell) for cell in frame["data"]] == levels
