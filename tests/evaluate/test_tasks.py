"""Items are read from files and made from held-out text, and each option has exactly its tokens."""

import collections
import gzip
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.config.evaluation import ChoiceTask, ClozeTask
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.cloze import cloze_items, split_passages
from lossline_jax.evaluate.tasks.item import Item
from lossline_jax.evaluate.tasks.multiple_choice import encode_item, encode_option, read_items
from tests.support.scoring_stand_ins import MemoryCorpus, PairTokenizer, sentences
from tests.support.shared_data import shared_path

GOOD = {"id": "a", "context": "Q:", "choices": [" yes", " no"], "gold": 1}


def write(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return ChoiceTask("task", str(path))


def test_reads_plain_and_compressed_files(tmp_path):
    items = read_items(write(tmp_path / "a.jsonl", GOOD, "", GOOD))
    assert [(i.contexts, i.options, i.gold) for i in items] == [(("Q:", "Q:"), (" yes", " no"), 1)] * 2
    assert items[1].where == f"{tmp_path / 'a.jsonl'}:3"
    assert items[1].num_chars == (3, 2)
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    assert [i.options for i in read_items(ChoiceTask("task", str(packed)))] == [(" yes", " no")] * 2
    table = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([GOOD, GOOD]), table)
    columns = read_items(ChoiceTask("task", str(table)))
    assert [(i.contexts, i.options, i.gold, i.num_chars) for i in columns] == [
        (i.contexts, i.options, i.gold, i.num_chars) for i in items
    ]
    assert columns[1].where == f"{table}: row 2"


def test_partial_contexts_share_one_continuation(tmp_path):
    partial = {"context": "", "choices": ["x a b", "y a b"], "gold": 0}
    partial |= {"partial_contexts": ["x", "y"], "continuation": " a b"}
    item = read_items(write(tmp_path / "w.jsonl", partial, partial))[0]
    assert (item.contexts, item.options) == (("x", "y"), (" a b", " a b"))


def test_a_continuation_alone_is_an_item_of_one_option(tmp_path):
    item = read_items(
        write(tmp_path / "l.jsonl", *[{"context": "to be or not to", "continuation": "be", "gold": 0}] * 2)
    )[0]
    assert (item.contexts, item.options, item.gold, item.num_chars) == (("to be or not to",), (" be",), 0, (2,))


def test_characters_are_counted_without_the_delimiter_alone(tmp_path):
    rows = [GOOD | {"choices": choices} for choices in ([" yes", "  no "], ["yes", "no"], ["yes", " no"])]
    assert [item.num_chars for item in read_items(write(tmp_path / "a.jsonl", *rows))] == [(3, 4), (3, 2), (3, 3)]


def test_kept_items_are_spread_over_the_file(tmp_path):
    task = write(tmp_path / "a.jsonl", *[GOOD | {"context": str(k)} for k in range(11)])
    kept = read_items(ChoiceTask(task.name, task.path, max_items=3))
    assert [item.contexts[0] for item in kept] == ["0", "5", "10"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1]", "is not a JSON object"),
        (GOOD | {"choices": []}, "at least 2 strings"),
        (GOOD | {"choices": [" one"]}, "at least 2 strings"),
        (GOOD | {"choices": [" one", 2]}, "at least 2 strings"),
        (GOOD | {"gold": 2}, "`gold` is 2"),
        (GOOD | {"gold": -1}, "`gold` is -1"),
        (GOOD | {"gold": True}, "`gold` is True"),
        ({"context": "a", "choices": ["b", "c"]}, "`gold` is None"),
        (GOOD | {"context": None}, "`context` is None"),
        (GOOD | {"choices": [" yes", " "]}, "option 1 is ' ', which holds nothing to score"),
        (GOOD | {"context": "a\ud800b"}, "has half a surrogate pair"),
        (GOOD | {"context": "a\0b"}, "'a\\x00b' has a NUL character"),
        (GOOD | {"choices": [" yes", " n\0"]}, "'n\\x00' has a NUL character"),
        ({"context": "In my palm", "continuation": 1}, "`continuation` is 1"),
        ({"question": "?", "answer": "!"}, "neither `choices` nor `continuation` (its fields: question, answer)"),
    ],
)
def test_a_bad_item_is_named_by_file_and_line(tmp_path, line, reason):
    with pytest.raises(LosslineError) as error:
        read_items(write(tmp_path / "bad.jsonl", GOOD, line))
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'bad.jsonl'}:2: ")
    assert reason in message
    assert "\n" not in message
    assert "more like it" not in message
    with pytest.raises(LosslineError, match=r"bad.jsonl:1: .*\(2 more like it\)"):
        read_items(write(tmp_path / "bad.jsonl", line, GOOD, line, line))


def test_items_of_one_option_and_of_several_do_not_mix(tmp_path):
    single = {"context": "to be or not to", "continuation": "be"}
    for rows, reason in (
        ((GOOD, GOOD, single, GOOD, single), "an item of one option after items of several options"),
        ((single, single, GOOD), "an item of several options after items of one option"),
    ):
        task = write(tmp_path / "mixed.jsonl", *rows)
        with pytest.raises(LosslineError, match=f"mixed.jsonl:3: {reason}.*its own file and its own ChoiceTask"):
            read_items(ChoiceTask(task.name, task.path, max_items=2))  # even if only items of one kind are kept


def test_the_items_that_are_kept_must_be_two(tmp_path):
    task = write(tmp_path / "a.jsonl", GOOD, GOOD, GOOD)
    with pytest.raises(LosslineError, match="1 items; task 'task' needs at least 2"):
        read_items(ChoiceTask(task.name, task.path, max_items=1))


def test_a_bad_file_is_one_clear_line(tmp_path):
    with pytest.raises(LosslineError, match="no such task file"):
        read_items(ChoiceTask("task", str(tmp_path / "absent.jsonl")))
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b"x" * 1000)[:-20])
    with pytest.raises(LosslineError, match="cannot be read"):
        read_items(ChoiceTask("task", str(broken)))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"context": "é"}'.encode("latin-1"))
    with pytest.raises(LosslineError, match="invalid UTF-8 at byte 13"):
        read_items(ChoiceTask("task", str(latin)))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(LosslineError, match=r"broken.parquet: cannot be read"):
        read_items(ChoiceTask("task", str(tmp_path / "broken.parquet")))
    with pytest.raises(LosslineError, match="1 items"):
        read_items(write(tmp_path / "one.jsonl", GOOD))


@pytest.mark.parametrize(
    ("name", "num_items", "num_options"),
    [
        ("arc_easy", 570, 4),
        ("copa", 100, 2),
        ("winogrande", 1267, 2),
        ("openbookqa", 500, 4),
        ("piqa", 1838, 2),
        ("sciq", 1000, 4),
        ("lambada_openai", 5153, 1),
    ],
)
def test_real_tasks_load_whole(name, num_items, num_options):
    split = "test" if name == "lambada_openai" else "validation"
    path = shared_path(f"data/tasks/{name}.{split}.jsonl.gz")
    loaded_items = read_items(ChoiceTask(name, str(path)))
    assert len(loaded_items) == num_items
    assert collections.Counter(len(item.options) for item in loaded_items).most_common(1)[0][0] == num_options


PAIRS = PairTokenizer((b"th", b"he", b" t", b"t ", b"ns", b"xy"))


@given(st.text(alphabet="the nsxyé", max_size=12), st.text(alphabet="the nsxyé", min_size=1, max_size=8))
def test_tokens_of_an_option_are_exactly_its_bytes(context, option):
    tokens = encode_option(PAIRS, context, option)
    stem = context.rstrip()
    scored = (context + option)[len(stem) :]
    assert tokens.num_bytes == len(scored.encode("utf-8"))
    assert PAIRS.token_bytes_V[tokens.option_ids].sum() == tokens.num_bytes
    np.testing.assert_array_equal(tokens.context_ids, PAIRS.encode(stem))


def test_tokens_of_an_option_are_those_of_the_joined_text_where_it_has_a_boundary():
    space = 258 + PAIRS.pairs.index(b" t")
    assert encode_option(PAIRS, "in", " the").option_ids.tolist() == [space, 259]
    # A space at the end of the context becomes part of the option, because the tokenizer joins it to the word.
    assert encode_option(PAIRS, "in ", "the").option_ids.tolist() == [space, 259]
    assert encode_option(PAIRS, "in ", "the").num_bytes == 4
    # "xy" is one token of the joined text. Encoded alone, only the byte of the option is scored.
    assert encode_option(PAIRS, "ax", "y").option_ids.tolist() == [ord("y")]


def test_an_option_that_cannot_be_scored_is_named():
    with pytest.raises(LosslineError, match=r"f.jsonl:7: option 1 \(''\) encodes to no tokens"):
        encode_item(PAIRS, Item(("a ", "a "), ("b", ""), 0, (1, 0), "f.jsonl:7"), 8)
    with pytest.raises(LosslineError, match=r"f.jsonl:7: option 0 has 9 tokens"):
        encode_item(PAIRS, Item(("a", "a"), ("123456789", "b"), 0, (9, 1), "f.jsonl:7"), 8)


CLOZE = ClozeTask("words", num_items=40, context_bytes=60, continuation_bytes=30)


def test_cloze_items_continue_their_text():
    corpus = sentences(0, num_documents=12, words=100)
    items = cloze_items(CLOZE, corpus.validation_texts())
    assert len(items) == 40
    items_of_source = collections.Counter()
    for item in items:
        truth = item.contexts[0] + item.options[item.gold]
        sources = [k for k, text in enumerate(corpus.texts) if truth in text]
        assert len(sources) == 1
        items_of_source[sources[0]] += 1
        assert len(set(item.options)) == 4
        for k, option in enumerate(item.options):
            assert option.startswith(" ")
            assert item.num_chars[k] == len(option) - 1
            assert 30 <= len(option) < 30 + 32
            assert k == item.gold or option not in corpus.texts[sources[0]]
        assert 60 <= len(item.contexts[0]) + 1 < 60 + 32
    assert set(items_of_source.values()) <= {3, 4}  # 40 items of 12 documents, spread evenly


def test_cloze_is_a_function_of_text_and_seed():
    corpus = sentences(0, num_documents=12, words=100)
    assert cloze_items(CLOZE, corpus.texts) == cloze_items(CLOZE, list(corpus.texts))
    other_seed = ClozeTask("words", num_items=40, context_bytes=60, continuation_bytes=30, seed=1)
    assert cloze_items(other_seed, corpus.texts) != cloze_items(CLOZE, corpus.texts)


def test_of_a_cloze_option_too_the_delimiter_alone_is_not_counted():
    def num_chars(space):
        texts = [text.replace(" ", space) for text in sentences(0, num_documents=12, words=100).texts]
        return [(item.num_chars, tuple(map(len, item.options))) for item in cloze_items(CLOZE, texts)]

    assert all(counts == tuple(n - 1 for n in lengths) for counts, lengths in num_chars("  "))
    assert all(counts == lengths for counts, lengths in num_chars("\n"))  # such an option does not begin with a space


def test_the_gold_option_stands_anywhere():
    task = ClozeTask("words", num_items=400, context_bytes=20, continuation_bytes=10)
    items = cloze_items(task, sentences(1, num_documents=30, words=200).texts)
    counts = np.bincount([item.gold for item in items], minlength=4)
    assert np.square(counts - 100).sum() / 100 < 16.3  # chi-squared with 3 degrees of freedom, p = 0.001


@given(st.text(alphabet="aé漢😀 \n", min_size=1, max_size=300))
def test_passages_are_cut_between_characters(text):
    task = ClozeTask("any", context_bytes=40, continuation_bytes=20)
    rest = text
    for context, continuation in split_passages(task, text):
        _, passage, rest = rest.partition(context + continuation)
        assert passage
        assert 20 <= len(continuation.encode("utf-8")) < 20 + 32 + 4


def test_too_little_text_for_cloze_is_one_clear_line():
    with pytest.raises(LosslineError, match=r"words_cloze.*3 held-out documents.*4 are needed"):
        cloze_items(CLOZE, sentences(0, num_documents=3, words=100).texts)
    with pytest.raises(LosslineError, match=r"gives 5 items, not 40; set num_items=5"):
        cloze_items(CLOZE, sentences(0, num_documents=4, words=24).texts)
    with pytest.raises(LosslineError, match="0 held-out documents"):
        cloze_items(CLOZE, MemoryCorpus(()).texts)
    with pytest.raises(LosslineError, match="'words_cloze': num_items=1; set it to at least 2"):
        cloze_items(ClozeTask("words", num_items=1), MemoryCorpus(()).texts)
    same = "all the same words again " * 10
    with pytest.raises(LosslineError, match="repeat each other"):
        cloze_items(ClozeTask("same", 4, 60, 30), [same] * 6)
