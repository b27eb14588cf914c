"""A suite on disk: made once, read back whole, refused when damaged, and what each set must hold."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath
from scoring_stand_ins import MemoryCorpus, PairTokenizer, sentences

from lossline_jax.errors import LosslineError
from lossline_jax.evaluate import suites
from lossline_jax.evaluate.config import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.evaluate.suites import prepare_suite

CORPORA = {"a": sentences(0, 20, 40), "b": sentences(1, 10, 60)}
SUITE = SuiteConfig(
    validation=(ValidationSet("a", max_documents=6), ValidationSet("b", max_documents=None)),
    cloze=(ClozeTask("a", num_items=8, context_bytes=60, continuation_bytes=20),),
    context_length=64,
    overlap=16,
)


def prepare(folder, suite=SUITE, tokenizer=None, corpora=CORPORA):
    return prepare_suite(suite, tokenizer or PairTokenizer(), corpora, epath.Path(folder))


def task_file(path, *items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return ChoiceTask("task", str(path))


def test_counts_are_those_of_the_texts(tmp_path):
    suite = prepare(tmp_path)
    assert [(s.name, s.kind, s.n) for s in suite.sets] == [
        ("a", "validation", 6),
        ("b", "validation", 10),
        ("a_cloze", "task", 8),
    ]
    requests = suite.requests
    of_b = requests.take(requests.dataset_Q == 1)
    sizes = sorted(len(text.encode()) for text in CORPORA["b"].texts)
    assert sorted(of_b.bytes_Q) == sorted(of_b.tokens_Q) == sizes  # tokens are bytes here
    cloze = requests.take(requests.dataset_Q == 2)
    assert cloze.gold_Q.reshape(8, 4).sum(axis=1).tolist() == [1] * 8
    assert suite.context_length == 64
    assert all(block.row_length <= 64 for block in suite.blocks)
    assert len(suite.blocks) <= 3
    assert 0.8 < suite.fill <= 1.0


def test_every_token_of_a_document_is_among_the_rows(tmp_path):
    suite = prepare(tmp_path)
    scored = {q: [] for q in np.flatnonzero(suite.requests.dataset_Q == 1)}
    for block in suite.blocks:
        columns = (block.request_B, block.ids_BT, block.first_B, block.length_B)
        for q, ids, first, length in zip(*columns, strict=True):
            if q in scored:
                scored[q] += ids[1:][first:length].tolist()
    found = [sorted(ids) for ids in scored.values()]
    assert sorted(found) == sorted(sorted(text.encode()) for text in CORPORA["b"].texts)


def test_bytes_are_those_of_the_text_for_a_lossy_tokenizer_too(tmp_path):
    class Shouting(PairTokenizer):
        def encode(self, text):
            return super().encode(text.replace(" ", "").upper())

    suite = prepare(tmp_path, tokenizer=Shouting(lossless=False))
    of_b = suite.requests.take(suite.requests.dataset_Q == 1)
    assert sorted(of_b.bytes_Q) == sorted(len(text.encode()) for text in CORPORA["b"].texts)
    assert of_b.tokens_Q.sum() == sum(len(text.replace(" ", "")) for text in CORPORA["b"].texts)


def test_the_sample_does_not_depend_on_the_order_of_the_corpus(tmp_path):
    backwards = {name: MemoryCorpus(corpus.texts[::-1], f"{name}-back") for name, corpus in CORPORA.items()}
    forward, back = prepare(tmp_path), prepare(tmp_path, corpora=backwards)
    assert forward.sets[0].fingerprint == back.sets[0].fingerprint


def test_documents_can_be_cut_to_bytes(tmp_path):
    corpora = {"a": MemoryCorpus(("漢字" * 40, "ab" * 60))}
    suite = SuiteConfig(validation=(ValidationSet("a", max_document_bytes=100),), context_length=64, overlap=16)
    assert sorted(prepare(tmp_path, suite, corpora=corpora).requests.bytes_Q) == [99, 100]


def test_the_second_time_it_is_read_not_made(tmp_path, monkeypatch):
    first = prepare(tmp_path)
    monkeypatch.setattr(suites, "tokenise_documents", None)
    second = prepare(tmp_path)
    assert dataclasses.replace(second, requests=None, blocks=()) == dataclasses.replace(first, requests=None, blocks=())
    for a, b in zip((first.requests, *first.blocks), (second.requests, *second.blocks), strict=True):
        for name, array in vars(a).items():
            np.testing.assert_array_equal(array, getattr(b, name))
            assert array.dtype == getattr(b, name).dtype
    assert [path.name for path in tmp_path.iterdir()] == [first.fingerprint]


def test_fingerprints_change_with_what_is_scored_and_with_nothing_else(tmp_path):
    base = prepare(tmp_path)
    alone = prepare(tmp_path, dataclasses.replace(SUITE, validation=SUITE.validation[1:], cloze=()))
    assert alone.fingerprint != base.fingerprint
    assert alone.sets[0].fingerprint == base.sets[1].fingerprint  # the same set in another suite
    for other in (
        prepare(tmp_path, dataclasses.replace(SUITE, overlap=17)),
        prepare(tmp_path, tokenizer=PairTokenizer((b"th",))),
    ):
        assert all(a.fingerprint != b.fingerprint for a, b in zip(other.sets[:2], base.sets[:2], strict=True))
    item = {"context": "Q:", "choices": [" yes", " no"], "gold": 1}
    task = task_file(tmp_path / "task.jsonl", item, item)
    before = prepare(tmp_path, SuiteConfig(choice=(task,)))
    task_file(tmp_path / "task.jsonl", item, item | {"gold": 0})
    after = prepare(tmp_path, SuiteConfig(choice=(task,)))
    assert before.sets[0].fingerprint != after.sets[0].fingerprint


def test_a_damaged_suite_is_refused(tmp_path):
    folder = tmp_path / prepare(tmp_path).fingerprint
    rows = folder / "rows.npz"
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-100])
    with pytest.raises(LosslineError, match=r"rows.npz: damaged .*delete the folder"):
        prepare(tmp_path)
    rows.unlink()
    with pytest.raises(LosslineError, match="incomplete"):
        prepare(tmp_path)
    (folder / "manifest.json").unlink()  # the mark of a complete suite: without it, it is made again
    prepare(tmp_path)
    assert rows.read_bytes() == whole


def test_long_contexts_are_cut_and_counted(tmp_path):
    long = {"context": "x" * 100, "choices": [" yes", " no"], "gold": 1}
    task = task_file(tmp_path / "task.jsonl", long, long | {"context": "x" * 60}, long | {"context": "x" * 61})
    suite = prepare(tmp_path, SuiteConfig(choice=(task,), context_length=64, overlap=0))
    assert suite.sets[0].num_truncated == 2
    assert suite.requests.tokens_Q.tolist() == suite.requests.bytes_Q.tolist() == [4, 3] * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"validation": (), "cloze": ()}, "has no sets"),
        ({"validation": (ValidationSet("a"), ValidationSet("a"))}, "two sets are called 'a'"),
        ({"validation": (ValidationSet("aa"),)}, "unknown corpus 'aa'; did you mean 'a'?"),
        ({"overlap": 64}, "suite.overlap: 64 is not in 0 .. 63"),
        ({"overlap": -1}, "suite.overlap: -1"),
        ({"context_length": 4000}, "'a': its longest document has"),
        ({"validation": (ValidationSet("a", max_documents=1),)}, "'a': 1 held-out documents"),
        ({"validation": (ValidationSet("empty"),)}, "'empty': 0 held-out documents"),
        ({"choice": (ChoiceTask("t", "absent.jsonl"),)}, "absent.jsonl: cannot read this task file"),
    ],
)
def test_bad_settings_are_one_clear_line_and_leave_nothing(tmp_path, change, said):
    with pytest.raises(LosslineError) as error:
        prepare(tmp_path, dataclasses.replace(SUITE, **change), corpora=CORPORA | {"empty": MemoryCorpus(())})
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_document_without_tokens_is_named(tmp_path):
    class Forgetful(PairTokenizer):
        def encode(self, text):
            return super().encode(text.strip())

    corpora = {"a": MemoryCorpus(("   ", "b" * 100))}
    suite = SuiteConfig(validation=(ValidationSet("a"),), context_length=64, overlap=0)
    with pytest.raises(LosslineError, match="the document '   ' encodes to no tokens"):
        prepare(tmp_path, suite, Forgetful(), corpora)
