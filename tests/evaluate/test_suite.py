"""A suite is made once and then read from disk. A damaged suite is refused, and a bad set is left out."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath

from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate import suite as suites
from lossline_jax.evaluate import tokenised_set
from lossline_jax.evaluate.packing.rows import MAX_BRANCHING_LENGTHS, MAX_PLAIN_LENGTHS
from lossline_jax.evaluate.suite import prepare_suite
from tests.support.scoring_stand_ins import MemoryCorpus, PairTokenizer, sentences

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
    assert len(suite.blocks) <= MAX_BRANCHING_LENGTHS + MAX_PLAIN_LENGTHS
    assert 0.8 < suite.fill <= 1.0


def test_every_token_of_a_document_is_among_the_rows(tmp_path):
    suite = prepare(tmp_path)
    scored = {q: [] for q in np.flatnonzero(suite.requests.dataset_Q == 1)}
    for block in suite.blocks:
        for q, target in zip(block.request_S, block.target_S, strict=True):
            if q in scored:
                scored[q].append(int(target))
    token_ids = [sorted(ids) for ids in scored.values()]
    assert sorted(token_ids) == sorted(sorted(text.encode()) for text in CORPORA["b"].texts)


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
        for name, value in vars(a).items():
            np.testing.assert_array_equal(value, getattr(b, name))
            assert type(value) is type(getattr(b, name))
            assert np.asarray(value).dtype == np.asarray(getattr(b, name)).dtype
    assert [path.name for path in tmp_path.iterdir()] == [first.fingerprint]


def test_fingerprints_change_with_what_is_scored_and_with_nothing_else(tmp_path):
    base = prepare(tmp_path)
    alone = prepare(tmp_path, dataclasses.replace(SUITE, validation=SUITE.validation[1:], cloze=()))
    assert alone.fingerprint != base.fingerprint
    assert alone.sets[0].fingerprint == base.sets[1].fingerprint  # the same set in another suite
    for changed in (
        prepare(tmp_path, dataclasses.replace(SUITE, overlap=17)),
        prepare(tmp_path, tokenizer=PairTokenizer((b"th",))),
    ):
        assert all(a.fingerprint != b.fingerprint for a, b in zip(changed.sets[:2], base.sets[:2], strict=True))
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
    (folder / "manifest.json").unlink()  # only a complete suite has this file; without it the suite is made again
    prepare(tmp_path)
    assert rows.read_bytes() == whole


def test_long_contexts_are_cut_and_counted(tmp_path):
    long = {"context": "x" * 100, "choices": [" yes", " no"], "gold": 1}
    task = task_file(tmp_path / "task.jsonl", long, long | {"context": "x" * 60}, long | {"context": "x" * 61})
    suite = prepare(tmp_path, SuiteConfig(choice=(task,), context_length=64, overlap=0))
    assert suite.sets[0].num_truncated == 2
    assert suite.requests.tokens_Q.tolist() == suite.requests.bytes_Q.tolist() == [4, 3] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": (), "cloze": ()}, "has no sets"),
        ({"validation": (ValidationSet("a"), ValidationSet("a"))}, "two sets are called 'a'"),
        ({"validation": (ValidationSet("aa"),)}, "unknown corpus 'aa'; did you mean 'a'?"),
        ({"overlap": 64}, "suite.overlap: 64 is not in 0 .. 63"),
        ({"overlap": -1}, "suite.overlap: -1"),
        ({"choice": (ChoiceTask("t", "t.jsonl", max_items=1),)}, "suite.choice: max_items=1 of 't' is too few"),
        ({"choice": (ChoiceTask("t", "t.jsonl", max_items=-3),)}, "suite.choice: max_items=-3 of 't'"),
        ({"validation": (ValidationSet("a", max_documents=1),)}, "max_documents=1 of 'a' is too few; it must be at"),
        ({"validation": (ValidationSet("a", max_document_bytes=0),)}, "suite.validation: max_document_bytes=0 of 'a'"),
        ({"context_length": 4000, "cloze": ()}, "none of its 2 sets can be scored; the first: validation set 'a'"),
    ],
)
def test_bad_settings_are_one_clear_line_and_leave_nothing(tmp_path, change, message):
    with pytest.raises(LosslineError) as error:
        prepare(tmp_path, dataclasses.replace(SUITE, **change))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_bad_set_is_left_out_whole_and_the_others_are_as_they_would_be_without_it(tmp_path):
    item = {"context": "Q:", "choices": [" yes", " no"], "gold": 1}

    def choice(name, *items):
        return dataclasses.replace(task_file(tmp_path / f"{name}.jsonl", *items), name=name)

    bad = (
        choice("gold", item, item | {"gold": 2}, item, item | {"gold": None}),
        choice("long", item, item | {"choices": ["x" * 65, "y" * 70]}),
        choice("single", item),
        ChoiceTask("absent", str(tmp_path / "absent.jsonl")),
        dataclasses.replace(choice("unknown", item, item), spec="hellaswagg"),
        dataclasses.replace(choice("specless", item, item), spec=f"{tmp_path}/absent.toml:t"),
    )
    suite = dataclasses.replace(
        SUITE,
        validation=(ValidationSet("short"), *SUITE.validation, ValidationSet("empty", max_documents=2)),
        cloze=(ClozeTask("short"), *SUITE.cloze),
        choice=bad,
    )
    corpora = CORPORA | {"short": MemoryCorpus(("too short", "this too")), "empty": MemoryCorpus(())}
    prepared = prepare(tmp_path / "suites", suite, corpora=corpora)
    assert {name: problem.split("; ")[0] for name, problem in prepared.problems.items()} == {
        "short": "validation set 'short': its longest document has 9 tokens, less than suite.context_length=64",
        "empty": "validation set 'empty': 0 held-out documents, at least 2 are needed",
        "short_cloze": "task 'short_cloze': 0 held-out documents of 'short' are long enough, 4 are needed",
        "gold": f"{tmp_path}/gold.jsonl:2: `gold` is 2",
        "long": f"{tmp_path}/long.jsonl:2: option 0 has 65 tokens, more than suite.context_length=64",
        "single": f"{tmp_path}/single.jsonl: 1 items",
        "absent": f"{tmp_path}/absent.jsonl: no such task file",
        "unknown": "there is no built-in task spec 'hellaswagg'",
        "specless": f"{tmp_path}/absent.toml: no such file of task specs",
    }
    assert prepared.problems["gold"].endswith("(1 more like it)")
    alone = prepare(tmp_path / "suites")
    assert prepared.sets == alone.sets
    np.testing.assert_array_equal(prepared.requests.dataset_Q, alone.requests.dataset_Q)


def test_a_repaired_set_is_added_to_the_suite(tmp_path):
    item = {"context": "Q:", "choices": [" yes", " no"], "gold": 1}
    good = task_file(tmp_path / "task.jsonl", item, item)
    suite = SuiteConfig(choice=(good, ChoiceTask("late", str(tmp_path / "late.jsonl"))))
    assert prepare(tmp_path / "suites", suite).problems.keys() == {"late"}
    task_file(tmp_path / "late.jsonl", item, item, item)
    mended = prepare(tmp_path / "suites", suite)
    assert not mended.problems
    assert [(prepared_set.name, prepared_set.n) for prepared_set in mended.sets] == [("task", 2), ("late", 3)]


def test_a_set_with_a_repaired_spec_is_added_to_the_suite(tmp_path):
    specs, item = tmp_path / "mine.toml", {"context": "Q:", "choices": [" yes", " no"], "gold": 1}
    good = task_file(tmp_path / "task.jsonl", item, item)
    suite = SuiteConfig(choice=(good, ChoiceTask("own", good.path, spec=f"{specs}:mine")))
    text = 'source = "us"\nscoring = "choice"\ncontext = "{{ context }}"\noptions = "choices"\ngold = "gold"\n'
    for content, message in (
        (None, "no such file"),
        ("[mine\n", "not TOML"),
        ("[their]\n" + text, "no task spec 'mine'"),
    ):
        if content is not None:
            specs.write_text(content)
        assert message in prepare(tmp_path / "suites", suite).problems["own"]
    specs.write_text("[mine]\n" + text)
    assert not prepare(tmp_path / "suites", suite).problems


def test_the_version_of_the_scoring_is_in_every_fingerprint(tmp_path, monkeypatch):
    before = prepare(tmp_path)
    for module in (suites, tokenised_set):
        monkeypatch.setattr(module, "SCORING", tokenised_set.SCORING + 1)
    after = prepare(tmp_path)
    assert not {prepared_set.fingerprint for prepared_set in before.sets} & {
        prepared_set.fingerprint for prepared_set in after.sets
    }


def test_a_limit_that_is_not_reached_leaves_the_set_as_it_is(tmp_path):
    prepared_suites = [
        prepare(
            tmp_path, SuiteConfig(validation=(ValidationSet("b", max_documents=limit),), context_length=64, overlap=9)
        )
        for limit in (None, 10, 500)
    ]
    assert len({suite.sets[0].fingerprint for suite in prepared_suites}) == 1


def test_the_spec_of_a_task_is_part_of_the_suite(tmp_path):
    specs = tmp_path / "mine.toml"
    (tmp_path / "rows.jsonl").write_text('{"q": "Is it?", "right": 0}\n{"q": "Was it?", "right": 1}\n')
    suite = SuiteConfig(choice=(ChoiceTask("t", str(tmp_path / "rows.jsonl"), spec=f"{specs}:yes_no"),))
    line = 'source = "us"\nscoring = "choice"\noptions = \'["yes", "no"]\'\ngold = "right"\n'
    specs.write_text(f'[yes_no]\ncontext = "{{{{ q }}}}"\n{line}')
    before = prepare(tmp_path / "suites", suite)
    assert before.sets[0].definition == "correct option after its context; prompts of us; BOS first"
    specs.write_text(f'[yes_no]\ncontext = "Q: {{{{ q }}}}"\n{line}')
    after = prepare(tmp_path / "suites", suite)
    assert before.sets[0].fingerprint != after.sets[0].fingerprint


def test_definitions_say_what_is_averaged(tmp_path):
    lambada = {"context": "to be or not to", "continuation": "be", "gold": 0}
    partial = {"partial_contexts": ["x", "y"], "continuation": " a b", "gold": 0}
    suite = dataclasses.replace(
        SUITE,
        validation=(SUITE.validation[0], ValidationSet("b", max_document_bytes=100)),
        choice=(
            dataclasses.replace(task_file(tmp_path / "l.jsonl", lambada, lambada), name="last_word"),
            dataclasses.replace(task_file(tmp_path / "p.jsonl", partial, partial), name="partial"),
        ),
    )
    assert {
        prepared_set.name: prepared_set.definition for prepared_set in prepare(tmp_path / "suites", suite).sets
    } == {
        "a": "token-weighted; windows of 64 tokens, 16 of them context; BOS first",
        "b": "token-weighted; windows of 64 tokens, 16 of them context; the first 100 bytes of a document; BOS first",
        "a_cloze": "correct option after its context; BOS first",
        "last_word": "continuation after its context; BOS first",
        "partial": "continuation after the context of the correct option; BOS first",
    }


def test_a_document_without_tokens_is_named(tmp_path):
    class Forgetful(PairTokenizer):
        def encode(self, text):
            return super().encode(text.strip())

    corpora = {"a": MemoryCorpus(("   ", "b" * 100, "  ", " "))}
    suite = SuiteConfig(validation=(ValidationSet("a", max_documents=None),), context_length=64, overlap=0)
    with pytest.raises(LosslineError, match=r"the document ' +' encodes to no tokens \(2 more like it\); remove it"):
        prepare(tmp_path, suite, Forgetful(), corpora)
