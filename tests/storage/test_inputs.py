"""Corpora, tasks and tables share one reader for every ending, compression and byte-order mark."""

import bz2
import gzip
import io
import json
import lzma
import sys

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.config.data import FilesCorpus
from lossline_jax.config.evaluation import ChoiceTask
from lossline_jax.data.corpora.files import files_left_out
from lossline_jax.data.corpora.read import read_documents
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.multiple_choice import read_items
from lossline_jax.losses.table import read_losses
from lossline_jax.storage.inputs import FileKind, file_kind, numbered_lines, open_input, parse_object, read_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def parquet_bytes(rows):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


TEXTS = ["first\nof two", "zweiter \u2028 Text", "third"]
ROWS = [
    {"text": text, "context": text, "choices": [" a", " b"], "gold": 1, "loss": 3.1 + k / 7}
    for k, text in enumerate(TEXTS)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
PARQUET = parquet_bytes(ROWS)
LONG_WINDOW = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.enable_long_distance_matching: 1}
PACKED = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".GZ": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    ".zst": zstd.compress,
    ".ZST": lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:], options=LONG_WINDOW),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".XZ": lambda data: lzma.compress(data[:9]) + lzma.compress(data[9:]),
    ".BZ2": lambda data: bz2.compress(data[:9]) + bz2.compress(data[9:]),
}
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("mark", [b"", MARK], ids=["plain", "mark"])
@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("ending", [".jsonl", ".JSONL", ".ndjson", ".json", ".NDJson"])
def test_json_lines_are_the_same_under_every_ending_and_compression(tmp_path, ending, packed, mark):
    path = tmp_path / f"a{ending}{packed}"
    path.write_bytes(PACKED[packed](mark + LINES))
    documents = list(read_documents(FilesCorpus("c", (str(path),))))
    assert [(d.text, d.source) for d in documents] == [(t, f"{path}:{k}") for k, t in enumerate(TEXTS, start=1)]
    assert [(i.contexts[0], i.gold) for i in read_items(ChoiceTask("t", str(path)))] == [(text, 1) for text in TEXTS]
    assert read_losses(path)["loss"].tolist() == [row["loss"] for row in ROWS]  # every digit is kept


@pytest.mark.parametrize("mark", [b"", MARK], ids=["plain", "mark"])
@pytest.mark.parametrize("packed", PACKED)
def test_text_and_columns_are_the_same_under_every_ending_and_compression(tmp_path, packed, mark):
    text = tmp_path / f"a.TXT{packed}"
    text.write_bytes(PACKED[packed](mark + TEXTS[1].encode()))
    assert [d.text for d in read_documents(FilesCorpus("c", (str(text),)))] == [TEXTS[1]]
    for ending, separator in ((".csv", ","), (".CSV", ","), (".tsv", "\t")):
        table = tmp_path / f"t{ending}{packed}"
        table.write_bytes(
            PACKED[packed](mark + pd.DataFrame(ROWS)[["text", "loss"]].to_csv(index=False, sep=separator).encode())
        )
        frame = read_losses(table)
        assert list(frame.columns) == ["text", "loss"]
        assert frame["loss"].tolist() == [row["loss"] for row in ROWS]


def test_parquet_in_capitals_is_parquet(tmp_path):
    path = tmp_path / "A.PARQUET"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    assert [d.text for d in read_documents(FilesCorpus("c", (str(path),)))] == TEXTS
    assert len(read_items(ChoiceTask("t", str(path)))) == len(read_losses(path)) == 3


def refusals(path):
    """Yield the message with which each of the three readers refuses a file."""
    readers = (
        lambda: list(read_documents(FilesCorpus("c", (str(path),)))),
        lambda: read_items(ChoiceTask("t", str(path))),
        lambda: read_losses(path),
    )
    for reader in readers:
        with pytest.raises(LosslineError) as caught:
            reader()
        assert "\n" not in str(caught.value)
        yield str(caught.value)


@pytest.mark.parametrize("packed", [packed for packed in PACKED if packed])
def test_a_file_that_is_cut_off_is_refused_by_every_reader(tmp_path, packed):
    path = tmp_path / f"a.jsonl{packed}"
    whole = PACKED[packed](LINES * 50)
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        for message in refusals(path):
            assert message.startswith(f"{path}: cannot be read"), message
    path.write_bytes(whole + b"rest")
    assert all("cannot be read" in message for message in refusals(path))
    path.write_bytes(whole + bytes([whole[0] ^ 1]) + whole[1:])  # the second of two streams is damaged
    assert all("cannot be read" in message for message in refusals(path))
    path.write_bytes(whole + bytes(8) + whole)  # the formats allow zero bytes between streams
    assert len(read_losses(path)) == 300


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", gzip.compress(LINES, mtime=0), "cannot be read as jsonl: its content is gzip"),
        ("a.jsonl", zstd.compress(LINES), "its content is zstd"),
        ("a.jsonl", lzma.compress(LINES), "its content is xz"),
        ("a.jsonl", bz2.compress(LINES), "its content is bzip2"),
        ("a.jsonl.gz", LINES, "cannot be read as gzip: its content begins with b'{\"text"),
        ("a.jsonl.gz", zstd.compress(LINES), "cannot be read as gzip: its content is zstd"),
        ("a.jsonl", b"PAR1\x15\x04", "its content is parquet"),
        ("a.jsonl", b"PK\x03\x04", "its content is a zip archive"),
        ("a.parquet", LINES, "cannot be read as parquet: its content begins with"),
        ("a.parquet", b"", "cannot be read as parquet: its content is empty"),
        ("a.jsonl", LINES.decode().encode("utf-16"), "is UTF-16 text; save the file as UTF-8"),
        ("a.jsonl", b'{"text": "plain"}'.decode().encode("utf-16-le"), "is UTF-16 text"),
        ("a.jsonl", b'{"text": "plain"}'.decode().encode("utf-16-be"), "is UTF-16 text"),
        ("a.jsonl", '{"text": "é"}'.encode("latin-1"), "a.jsonl:1: invalid UTF-8 at byte 10 (e9)"),
        ("a.jsonl", b'{"text": "a", "text": "b"}', "a.jsonl:1: not valid JSON (the field 'text' is given twice"),
        ("a.jsonl", b'{"x": {"y": 1, "y": 1}}', "the field 'y' is given twice"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: not valid JSON (too deeply nested)"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "a.jsonl:1: not valid JSON (Exceeds the limit"),
        ("a.jsonl", b'[{"text": "a"},\n{"text": "b"}]', "a.jsonl:1: not valid JSON"),
        ("a.jsonl", b"3", "a.jsonl:1: '3' is not a JSON object"),
        ("a.json", b'[{"text": "a"}, {"text": "b"}]', "a.json:1: is not a JSON object but an array of 2; write each"),
        ("a.json", b'[\n  {"text": "a"}\n]', "(Expecting value at the end of the line); write each object of"),
        ("a.jsonl", b'{"a":\n' + LINES, "a.jsonl:1: not valid JSON (Expecting value at the end of the line);"),
        ("a.jsonl", b"\n\n" + LINES[:12], "a.jsonl:3: not valid JSON (Unterminated string starting at character 10);"),
        ("a.jsonl", b'{"a": x}\n', "a.jsonl:1: not valid JSON (Expecting value at character 7);"),
        (
            "a.jsonl",
            b"<html>\n<body>404</body></html>",
            "cannot be read as jsonl: its content begins with b'<html>'; rename",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(b"<!DOCTYPE html>\n", mtime=0),
            "cannot be read as jsonl: its content begins with b'<!DOCTYPE html>'",
        ),
        ("a.parquet", PARQUET[:-1], "cannot be read: its end is missing; fetch or write it again"),
        ("a.parquet", PARQUET[: len(PARQUET) // 2], "cannot be read: its end is missing; fetch or write it again"),
        ("a.parquet", PARQUET[:-8] + b"\xff\xff\xff\x7fPAR1", "; fetch"),
        ("a.jsonl", None, "it is a folder"),
    ],
)
def test_content_that_does_not_fit_the_ending_is_refused(tmp_path, name, content, expected):
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    messages = list(refusals(path))
    for message in messages if content is not None else messages[1:]:
        assert message.startswith(str(path))
        assert expected in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("wiki,code\n3.1,2.2\n3.0,é\n".encode("latin-1"), "t.csv:3: invalid UTF-8 at byte 4 (e9); convert"),
        ("wiki,code\r\n3.1,é\r\n".encode("latin-1"), "t.csv:2: invalid UTF-8 at byte 4 (e9)"),
        ("wiki,code\r3.1,2.2\ré,2\r".encode("latin-1"), "t.csv:3: invalid UTF-8 at byte 0 (e9)"),
        (MARK + b"\xe9", "t.csv:1: invalid UTF-8 at byte 0 (e9)"),
        (
            b"<html><body>404</body></html>\n",
            "cannot be read as csv: its content begins with b'<html>'; rename it or fetch it",
        ),
        (MARK + b"\n <HTML lang='en'>\n", "its content begins with b\"<HTML lang='en'>\""),
        (
            b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
            "cannot be read as csv: its content begins with",
        ),
    ],
)
def test_a_text_that_is_no_table_is_refused_with_its_first_bytes_or_its_line(tmp_path, content, expected):
    for packed in (".csv", ".csv.gz"):
        path = tmp_path / f"t{packed}"
        path.write_bytes(gzip.compress(content) if packed.endswith("gz") else content)
        with pytest.raises(LosslineError) as caught:
            read_losses(path)
        assert expected.replace("t.csv:", f"t{packed}:") in str(caught.value)


def test_a_page_is_text_of_a_corpus_and_a_table_may_begin_with_a_bracket(tmp_path):
    (tmp_path / "page.txt").write_text("<html>\n")
    assert [d.text for d in read_documents(FilesCorpus("c", (str(tmp_path / "page.txt"),)))] == ["<html>\n"]
    (tmp_path / "t.csv").write_text("<htmlish>,loss\na,3\n")
    assert list(read_losses(tmp_path / "t.csv").columns) == ["<htmlish>", "loss"]


def test_integers_that_no_table_holds_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n": 123456789012345678901}\n')
    with pytest.raises(LosslineError, match=r"a.jsonl:2: 'n' is an integer of 21 digits"):
        read_losses(path)


def test_half_a_character_in_a_table_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    for row in ('{"n": "a\\ud800"}', '{"n\\udfff": 1}'):
        path.write_text('{"n": "\\ud83d\\ude00"}\n' + row + "\n")
        with pytest.raises(LosslineError, match=r"a.jsonl:2: cannot hold '\\ud"):
            read_losses(path)


def test_a_study_given_for_its_table_names_the_table(tmp_path):
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "losses.parquet").write_bytes(b"")
    with pytest.raises(LosslineError, match=rf"it is a folder; did you mean {tmp_path}/losses/losses.parquet\?"):
        read_losses(tmp_path)


def test_a_folder_stands_for_the_files_below_it_that_can_be_read(tmp_path):
    def texts(pattern):
        return [document.text for document in read_documents(FilesCorpus("c", (pattern,)))]

    folder = tmp_path / "texts"
    (folder / "inner" / "deep").mkdir(parents=True)
    with pytest.raises(LosslineError, match="the folder '.*/texts' has no files; expected .txt, .jsonl"):
        texts(str(folder))
    with pytest.raises(LosslineError, match="matches a folder .* and no file; did you mean '.*/[*].txt'\\?"):
        texts(f"{tmp_path}/*")
    (folder / "notes.md").write_text("m")
    with pytest.raises(LosslineError, match="has 1 files of other kinds, such as .*notes.md; expected .txt"):
        texts(str(folder))
    (folder / ".hidden.txt").write_text("h")
    (folder / "b.TXT").write_text("b")
    (folder / "inner" / "deep" / "c.JSON.GZ").write_bytes(gzip.compress(b'{"text": "c"}\n'))
    (folder / "inner" / "a.ndjson").write_text('{"text": "a"}\n')
    for pattern in (str(folder), f"{folder}/"):
        assert texts(pattern) == ["b", "a", "c"]
        assert files_left_out(FilesCorpus("c", (pattern,))) == [f"{folder}/notes.md"]
    assert texts(f"{folder}/*.TXT") == ["b"]
    assert files_left_out(FilesCorpus("c", (f"{folder}/*",))) == []


def test_the_ending_alone_decides_the_kind():
    assert file_kind("a/b.jsonl/c.Json.GZ") == FileKind("jsonl", "gzip")
    assert file_kind("a.parquet.gz") == FileKind("", "gzip")
    assert file_kind("a.gz") == FileKind("", "gzip")
    assert file_kind("jsonl") == FileKind("")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5), st.sampled_from(sorted(PACKED)))
def test_any_text_comes_back_as_it_was_written(tmp_path_factory, texts, packed):
    folder = epath.Path(tmp_path_factory.mktemp("inputs"))
    lines, whole = folder / f"a.jsonl{packed}", folder / f"a.txt{packed}"
    lines.write_bytes(
        PACKED[packed]("".join(json.dumps({"t": text}, ensure_ascii=False) + "\n" for text in texts).encode())
    )
    assert [parse_object(line, where)["t"] for where, line in numbered_lines(lines)] == texts
    content = "\n".join(texts).removeprefix("\ufeff")
    if "\0" not in content:
        whole.write_bytes(PACKED[packed](content.encode()))
        assert read_text(whole) == content
        with open_input(whole) as file:
            assert file.read() == content.encode()
