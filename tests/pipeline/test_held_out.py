"""Too few held-out documents are refused before anything is tokenised, with a message that says what to change."""

import dataclasses

import pytest
from etils import epath

from lossline_jax.config.data import FilesCorpus
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.prepare import prepare_data
from lossline_jax.storage.paths import StudyDir
from tests.support import tiny_study


@pytest.fixture
def books(tmp_path):
    """Write three books of forty paragraphs, and return their folder."""
    (tmp_path / "texts").mkdir()
    for book in range(3):
        paragraphs = [f"Paragraph {k} of book {book}. " + f"It has {k * book} words in it. " * 9 for k in range(40)]
        (tmp_path / "texts" / f"book{book}.TXT").write_text("\n\n".join(paragraphs), encoding="utf-8")
    (tmp_path / "texts" / "notes.pdf").write_bytes(b"%PDF")
    return tmp_path / "texts"


def prepared_lines(books, split, **suite):
    """Prepare the tiny study on the books alone, and return what `prepare` tells the user."""
    study = tiny_study.study()
    sets = {"validation": (ValidationSet("wiki", max_documents=8, max_document_bytes=500),), "cloze": (), **suite}
    base = study.runs[0]
    study = dataclasses.replace(
        study,
        corpora=(FilesCorpus("wiki", (str(books),), split=split),),
        runs=(base,),
        suite=SuiteConfig(**sets, context_length=64, overlap=16),
        validation_fraction=0.1,
        y="wiki_cloze" if sets["cloze"] else "wiki",
    )
    lines = []
    try:
        prepare_data(study, StudyDir(epath.Path(books.parent) / "study"), lines.append)
    except LosslineError as error:
        lines.append(str(error))
    return lines


def test_three_text_files_alone_say_how_to_divide_them(books):
    *lines, message = prepared_lines(books, "file")
    assert message.startswith(
        "evaluation set 'wiki': 0 of the 3 documents of corpus 'wiki' are held out, and at least 2"
    )
    assert "split='blank lines'" in message
    assert "--split" in message
    assert "\n" not in message
    assert not any(line.startswith(("tokenizer", "token store")) for line in lines)
    assert any("1 files of other kinds are not read, such as" in line and "notes.pdf" in line for line in lines)


@pytest.mark.parametrize("split", ["blank lines", 400])
def test_divided_text_files_are_enough(books, split):
    lines = prepared_lines(books, split)
    assert "documents in 3 files" in lines[0]
    assert lines[-1].startswith("token store wiki")


def test_large_pieces_are_told_to_be_smaller_and_lines_of_json_are_not(books):
    assert "pieces of 100000 bytes: give split (--split) a smaller number" in prepared_lines(books, 100_000)[-1]
    for book in books.glob("*.TXT"):
        book.unlink()
    (books / "one.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert "are needed; give it more documents, or raise" in prepared_lines(books, "file")[-1]


def test_a_cloze_task_needs_as_many_documents_as_it_has_choices(books):
    *_, message = prepared_lines(books, "blank lines", cloze=(ClozeTask("wiki", num_items=8, num_choices=90),))
    assert "wiki_cloze" in message
    assert "at least 90 are needed; the files have few blank lines: divide them by bytes" in message
