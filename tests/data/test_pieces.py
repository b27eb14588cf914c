"""A text is divided into paragraphs or pieces of bytes. Nothing of the text is lost."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from lossline_jax.data.corpora.pieces import split_text

TEXTS = st.lists(
    st.sampled_from(["word", "zwölf", "語", "\U0001f600", " ", "\t", "\n", "\r\n", "\n\n", "\r\n \r\n", "x" * 40]),
    max_size=60,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(16, 90))
def test_pieces_of_bytes_are_the_whole_text_and_no_longer_than_asked(text, most):
    pieces = list(split_text(text, most))
    assert "".join(piece.text for piece in pieces) == text
    assert all(0 < len(piece.text.encode()) <= most for piece in pieces)
    assert [piece.line for piece in pieces] == [
        1 + "".join(piece.text for piece in pieces[:k]).count("\n") for k in range(len(pieces))
    ]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_paragraphs_are_what_stands_between_blank_lines(text):
    pieces = list(split_text(text, "blank lines"))
    expected, lines = [[]], text.replace("\r\n", "\n").split("\n")
    for line in lines:
        if line.strip(" \t"):
            expected[-1].append(line)
        else:
            expected.append([])
    assert [piece.text for piece in pieces] == ["\n".join(part) for part in expected if part]
    for piece in pieces:
        assert lines[piece.line - 1] == piece.text.split("\n")[0]


def test_a_piece_ends_after_a_paragraph_a_line_or_a_word():
    assert [piece.text for piece in split_text("aaa bbb ccc\n\nddd eee fff ggg hhh", 20)] == [
        "aaa bbb ccc\n\n",
        "ddd eee fff ggg hhh",
    ]
    assert [piece.text for piece in split_text("aaa bbb ccc ddd\neee fff", 20)] == ["aaa bbb ccc ddd\n", "eee fff"]
    assert [piece.text for piece in split_text("aaa bbb ccc ddd eee fff", 16)] == ["aaa bbb ccc ddd ", "eee fff"]


@pytest.mark.parametrize("text", ["one\n\ntwo\r\n\r\n", ""])
def test_the_whole_file_stays_one_text(text):
    assert [piece.text for piece in split_text(text, "file")] == [text]


def test_a_long_book_is_divided_in_linear_time():
    text = "word " * 400_000 + re.sub("x", "語", "x" * 100_000)
    assert "".join(piece.text for piece in split_text(text, 2000)) == text
