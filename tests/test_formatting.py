"""Names from files are printed without control characters and hidden characters, in aligned columns."""

import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.formatting import display_width, fold, shortened, shown, shown_lines, shown_tree, text_table, utf8
from tests.cli.test_main import run_cli

CONTROLS = {
    chr(k) for k in (*range(32), *range(127, 160), 0x200B, 0x200E, 0x2028, *range(0x202A, 0x202F), 0x2066, 0xFEFF)
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain, with a blank", "plain, with a blank"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\r\nb\tc\0", r"a\r\nb\tc\x00"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("zero\u200bwidth\u200djoined\ufeff", r"zero\u200bwidth\u200djoined\ufeff"),
        ("half \ud800", r"half \ud800"),
        ("日本語 é ß 😀", "日本語 é ß 😀"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
        ("$x^2$ <b>", "$x^2$ <b>"),
    ],
)
def test_names_are_shown_on_one_line_without_control_characters(name, expected):
    assert shown(name) == expected
    assert shown_lines(f"{name}\nsecond").split("\n")[-1] == "second"


@given(st.text())
def test_no_control_or_hidden_character_is_left(name):
    visible = shown(name)
    assert not CONTROLS & set(visible)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in visible)
    assert shown(visible) == visible
    assert shown_tree({name: [name, 1, None]}) == {visible: [visible, 1, None]}


@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), max_size=4))
def test_every_row_of_a_table_is_one_line_and_columns_align(rows):
    lines = text_table(("name", "other"), rows, width=None).split("\n")
    assert len(lines) == 2 + len(rows)
    width = display_width(lines[1])
    assert all(display_width(line) <= width for line in lines)


def test_wide_characters_take_two_columns_and_long_names_keep_both_ends():
    lines = text_table(("name", "n"), [("日本", 1), ("abcd", 22), ("e\u0301", 3)]).split("\n")
    assert [display_width(line) for line in lines[2:]] == [8, 8, 8]
    assert shortened("a" * 500 + "z") == "a" * 150 + "…" + "a" * 148 + "z"
    assert display_width(text_table(("name",), [("x" * 10_000,)], width=None).split("\n")[1]) == 300


CELLS = st.one_of(st.floats(allow_nan=False).map(lambda x: f"{x:.6g}"), st.text(max_size=60), st.just("[-0.01, +0.02]"))


@settings(deadline=None)
@given(st.integers(1, 15).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=3)))
def test_a_table_fits_the_terminal_and_no_character_or_number_is_cut(rows):
    """Reading the columns of the wrapped table from top to bottom gives the characters of each cell again."""
    header = [f"c{k}" for k in range(len(rows[0]))]
    lines = text_table(header, rows).split("\n")
    assert max(map(display_width, lines)) <= 100
    text = "".join(text_table(header, rows).split())
    for cell in (cell for row in rows for cell in row):
        assert not set("".join(shown(cell).split())) - set(text)
        if cell.startswith("[") and cell.endswith("+0.02]"):
            assert any(cell in line for line in lines)


def test_a_name_that_is_broken_keeps_the_space_before_it():
    table = text_table(("factor", "value"), [("optimiser from adamw-cosine-lr0.003-wd0.033", 1)], width=30)
    assert table.splitlines()[2].startswith("optimiser from adamw-")


def test_numbers_stay_whole_where_a_table_is_divided():
    row = [f"{k}.{k:06d}e+{k:02d}" for k in range(10, 30)]
    lines = text_table([f"column {k}" for k in range(20)], [row]).split("\n")
    assert max(map(len, lines)) <= 100
    assert {word for line in lines for word in line.split()} >= set(row)
    assert sum(row[0] in line for line in lines) > 1  # each part of the table begins with the first column


def test_long_lines_are_folded_and_long_words_are_not():
    path = "/folder" * 20
    text = fold(f"  a note {'with words ' * 20}\n{path}\nshort")
    assert text.split("\n")[-2:] == [path, "short"]
    assert max(len(line) for line in text.split("\n")[:-2]) <= 100
    assert text.split("\n")[1].startswith("    with")


def test_half_a_character_is_refused_before_a_file_is_written():
    with pytest.raises(LosslineError, match=r"^f: cannot hold '\\udcff' \(after 'abc'\)"):
        utf8("abc\udcff", "f")


def test_hostile_names_of_a_table_reach_the_terminal_as_text(capsys, tmp_path):
    hostile = "\x1b]0;owned\x07\x1b[2J\r\nlossline: all is well\u202e"
    path = tmp_path / f"t{hostile.encode().hex()[:8]}.parquet"
    rows = [{"run_id": f"{hostile}{k}", hostile: hostile, "y": 1.0} for k in range(3)]
    pd.DataFrame(rows).to_parquet(path)
    commands = (
        ["table", "compare", str(path), "--x", "x", "--y", "y"],
        ["table", "fit", str(path), "--x", hostile, "--y", "y", "--by", "run_id"],
        ["table", "predict", str(path), "--y", hostile, "--params", hostile, "--tokens", hostile, "--at-flops", "1"],
        ["status", str(tmp_path / hostile)],
        [hostile],
    )
    for arguments in commands:
        code, out, err = run_cli(capsys, *arguments)
        assert code == 2
        assert out == ""
        assert err.count("\n") == 1
        assert not (CONTROLS - {"\n"}) & set(err)
