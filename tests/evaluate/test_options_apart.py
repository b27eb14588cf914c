"""Options that begin inside a word are scored without the prefix that a tokenizer puts before a text."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
import sentencepiece
from etils import epath
from hypothesis import example, given, settings

from lossline_jax.config.data import DataConfig, FilesCorpus, HuggingFaceTokenizer, SentencePieceFile
from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.data.tokenizers.sentencepiece import SentencePieceTokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate import suite as suites
from lossline_jax.evaluate.suite import is_current, prepare_suite
from lossline_jax.evaluate.tasks.item import Item
from lossline_jax.evaluate.tasks.multiple_choice import encode_item, encode_option
from lossline_jax.pipeline.prepare import open_prepared_data, prepare_data
from lossline_jax.storage.paths import StudyDir
from tests.support.prefix_tokenizers import (
    JSON_KINDS,
    PIECEWISE_KINDS,
    SENTENCEPIECE_KINDS,
    TEXTS,
    WITHOUT_PREFIX,
    json_tokenizer,
    normalising_model,
    sentencepiece_model,
)
from tests.support.shared_data import shared_path

# Among them are combining characters, two kinds of spaces, sentencepiece's mark and a letter of no vocabulary.
LETTERS = "Frances theofwvi.,19  \n\n\té\u0301\u0308à\u2581数😀\ufeff"
PIECES = st.text(st.sampled_from(LETTERS), max_size=12) | st.sampled_from(["Fra", "The capital of Fra", "nce", " nce"])
PLAIN = st.text(st.sampled_from("the capitlofFrnsVu19, \n"), max_size=12) | st.sampled_from(["Fra", "nce", " nce"])
SHARED_FILES = {
    "c4": "data/tokenizers/c4_bpe/bpe_32k_c4.model",
    "mistral": "data/tokenizers/mistral/tokenizer.model.v1",
    "mistral_v3": "data/tokenizers/mistral/mistral_instruct_tokenizer_240323.model.v3",
    "gpt2": "data/tokenizers/gpt2/tokenizer.json",
}
SHARED_NORMALISING = {
    "t5_base": "data/tokenizers/t5/t5-base.spiece.model",
    "t5_maxtext": "data/tokenizers/t5/maxtext_tokenizer.default.model",
    "t5_cc_all": "data/tokenizers/t5/sentencepiece_cc_all.32000.100extra.model",
    "fineweb": "data/tokenizers/fineweb_bpe/fineweb_4096_bpe.model",
    "neox": "data/tokenizers/gpt_neox/20B_tokenizer.json",
    "stories": "data/models/stories260K/tokenizer.json",
}
NAMES = [*JSON_KINDS, *SENTENCEPIECE_KINDS, *SHARED_FILES]


@pytest.fixture(scope="module")
def tokenizer_called(tmp_path_factory):
    made = {}

    def make(name):
        if description := (JSON_KINDS | PIECEWISE_KINDS).get(name):
            return json_tokenizer(tmp_path_factory.mktemp(name), description())
        if name == "normalising":
            return normalising_model()
        if name in SENTENCEPIECE_KINDS:
            return SENTENCEPIECE_KINDS[name]()
        path = str(shared_path((SHARED_FILES | SHARED_NORMALISING)[name]))
        config = HuggingFaceTokenizer(path) if path.endswith(".json") else SentencePieceFile(path)
        return prepare_tokenizer(config, {}, None)

    def get(name):
        if name not in made:
            made[name] = make(name)
        return made[name]

    return get


def expected_surface(name, text):
    """Return the bytes of a text, where a file with sentencepiece's mark for a space reads the mark as a space."""
    marked = name in JSON_KINDS and not name.startswith("byte_level")
    return (text.replace("\u2581", " ") if marked else text).encode()


def check_split(tokenizer, context, option):
    """Check that the tokens of context and option give the bytes of the joined text, and return them."""
    tokens = encode_option(tokenizer, context, option)
    stem = context.rstrip()
    joined = tokenizer.encode(context + option)
    assert tokenizer.surface([*tokens.context_ids, *tokens.option_ids]) == tokenizer.surface(joined)
    assert tokens.context_ids.tolist() == tokenizer.encode(stem).tolist()
    # As in lm-evaluation-harness, the option is the joined text without the tokens of its context, if these are its
    # beginning. An unknown token at the cut may stand for letters on both sides.
    at_cut = tokens.context_ids[-1:]
    unknown = tokenizer.fuses_unknown and len(at_cut) and not tokenizer.surface(at_cut)
    scored = (context + option)[len(stem) :]
    if joined[: len(tokens.context_ids)].tolist() == tokens.context_ids.tolist():
        answers = [joined[len(tokens.context_ids) :].tolist()]
        answers += [tokenizer.encode_rest(scored).tolist()] if unknown else []
        assert tokens.option_ids.tolist() in answers
    return tokens, scored


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=150)
@given(context=PIECES, option=PIECES)
@example(context="The capital of Fra", option="nce")
@example(context="The capital of Fra", option=" nce")
@example(context="", option="nce")
@example(context="", option=" nce")
@example(context=" ", option="nce")
@example(context="e", option="\u0301")
@example(context="a b\n", option="\n c")
@example(context="x\u2581", option="\u2581y")
def test_an_option_has_exactly_its_bytes(tokenizer_called, name, context, option):
    tokenizer = tokenizer_called(name)
    tokens, scored = check_split(tokenizer, context, option)
    assert tokens.num_bytes == len(scored.encode())
    surface, expected = tokenizer.surface(tokens.option_ids), expected_surface(name, scored)
    assert surface == expected or (not len(tokens.context_ids) and surface == b" " + expected)


@pytest.mark.parametrize("name", ["normalising", *PIECEWISE_KINDS, *SHARED_NORMALISING])
@settings(deadline=None, max_examples=100)
@given(context=PLAIN, option=PLAIN)
@example(context="The capital of Fra", option="nce")
@example(context="The capital of Fra", option=" nce")
@example(context="The capital of Fra", option="  nce  ")
@example(context="Fra", option="nce the 12 nce")
@example(context="Fra", option="\nnce 1\n\n2nce ")
@example(context="Fra", option="nce<extra>nce<extra> nce")
@example(context="Fra<extra>", option="nce")
@example(context="", option="nce")
def test_tokenizers_that_change_their_text_split_it_in_place_too(tokenizer_called, name, context, option):
    check_split(tokenizer_called(name), context, option)


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_of_a_text_is_exact(tokenizer_called, name):
    tokenizer = tokenizer_called(name)
    for text in TEXTS[:4]:
        for place in range(1, len(text)):
            tokens, scored = check_split(tokenizer, text[:place], text[place:])
            if len(tokens.context_ids):
                assert tokenizer.surface(tokens.option_ids) == scored.encode(), (text[:place], text[place:])


@pytest.mark.parametrize("name", NAMES)
def test_whether_a_tokenizer_adds_a_prefix_is_known(tokenizer_called, name):
    tokenizer = tokenizer_called(name)
    assert tokenizer.adds_prefix == (name not in WITHOUT_PREFIX | {"gpt2"})
    assert tokenizer.surface(tokenizer.encode("Fra")).startswith(b" ") == tokenizer.adds_prefix
    assert tokenizer.surface(tokenizer.encode_rest("nce")) == b"nce"
    assert tokenizer.surface(tokenizer.encode_rest(" nce")) == b" nce"


FUSING = {
    "fusing": {"byte_fallback": False},
    "fusing_no_prefix": {"byte_fallback": False, "add_dummy_prefix": False},
}
ROWS_OF_UNKNOWN = st.text(st.sampled_from("ab数学😀"), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def fusing_models():
    return {name: sentencepiece_model(**options) for name, options in FUSING.items()}


@pytest.mark.parametrize("name", [*FUSING, "t5_base"])
@settings(deadline=None, max_examples=150)
@given(context=ROWS_OF_UNKNOWN, option=ROWS_OF_UNKNOWN)
@example(context="a数", option="学b")
@example(context="a 数", option="学")
@example(context="a 数", option=" 学")
def test_one_token_for_unknown_letters_on_both_sides_is_no_boundary(
    fusing_models, tokenizer_called, name, context, option
):
    """The expected boundaries come from sentencepiece, which gives the text of each token."""
    tokenizer = fusing_models[name] if name in FUSING else tokenizer_called(name)
    stem = context.rstrip()
    tokens = encode_option(tokenizer, context, option)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    pieces = processor.encode(context + option, out_type=str)
    mark = len("".join(pieces)) - len(context + option)  # 1 if sentencepiece's mark begins the text, else 0
    ends = np.cumsum([len(piece) for piece in pieces]) - mark
    expected = tokenizer.encode(context + option)[ends > len(stem)]
    if len(stem) not in ends:
        expected = tokenizer.encode_rest((context + option)[len(stem) :])
    assert tokens.option_ids.tolist() == expected.tolist()
    assert len(tokens.option_ids)


def test_suites_of_tokenizers_that_fuse_unknown_letters_are_prepared_again(fusing_models, tokenizer_called):
    suite = SuiteConfig(choice=(ChoiceTask("any", "any.jsonl"),))
    assert {name for name, tokenizer in fusing_models.items() if tokenizer.fuses_unknown} == set(FUSING)
    assert not tokenizer_called("sentencepiece_no_prefix").fuses_unknown
    assert suites._options_identity(suite, fusing_models["fusing_no_prefix"])


MARKING_MODELS = {
    "model.continuing_subword_prefix": {
        "type": "WordPiece",
        "vocab": {"F": 0, "##n": 1, "Fn": 2, "n": 3, "?": 4},
        "unk_token": "?",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
    "model.end_of_word_suffix": {
        "type": "BPE",
        "vocab": {"F": 0, "F</w>": 1, "n</w>": 2, "Fn</w>": 3},
        "merges": [["F", "n</w>"]],
        "end_of_word_suffix": "</w>",
    },
}


@pytest.mark.parametrize("field", MARKING_MODELS)
def test_a_tokenizer_without_tokens_for_the_rest_of_a_word_is_refused(tmp_path, field):
    tokens = {"<s>": 8, "</s>": 9}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    description = {"added_tokens": [{"id": index, "content": content, **flags} for content, index in tokens.items()]}
    description |= {"model": MARKING_MODELS[field], "pre_tokenizer": {"type": "Whitespace"}}
    tokenizer = json_tokenizer(tmp_path, description)
    item = Item(("F", "F"), ("n", "n"), 0, (1, 1), "f.jsonl:7")
    with pytest.raises(LosslineError, match=rf"^f.jsonl:7: option 0: .*tokenizer.json: field {field}: .*the rest"):
        encode_item(tokenizer, item, 8)
    between = encode_option(tokenizer, "F", " n")
    assert between.option_ids.tolist() == tokenizer.encode("n").tolist()


FRANCE = {"context": "The capital of Fra", "choices": ["nce", "gua"], "gold": 0}
PARIS = {"context": "The capital of France is", "choices": [" Paris", " Vienna"], "gold": 0}


def suite_of(folder, tokenizer):
    for name, row in (("inside", FRANCE), ("between", PARIS)):
        (folder / f"{name}.jsonl").write_text(f"{json.dumps(row)}\n" * 2)
    tasks = tuple(ChoiceTask(name, str(folder / f"{name}.jsonl")) for name in ("inside", "between"))
    config = SuiteConfig(choice=tasks, context_length=32, overlap=0)
    suite = prepare_suite(config, tokenizer, {}, epath.Path(folder) / "suites")
    assert not suite.problems
    return config, {prepared_set.name: prepared_set for prepared_set in suite.sets}, suite.fingerprint


class EarlierLossline(SentencePieceTokenizer):
    """A tokenizer of an earlier version, which adds the prefix space to every text that it encodes alone."""

    adds_prefix = False

    def encode_rest(self, text):
        return self.encode(text)


def test_rows_of_before_are_scored_again_and_only_those_that_changed(tmp_path, tokenizer_called):
    now = tokenizer_called("sentencepiece_llama")
    before = EarlierLossline(now.model, now.where)
    config, old_sets, old = suite_of(tmp_path, before)
    _, sets, new = suite_of(tmp_path, now)
    assert new != old  # otherwise the stored suite would be read
    assert sets["inside"].fingerprint != old_sets["inside"].fingerprint
    assert sets["between"].fingerprint == old_sets["between"].fingerprint
    assert sets["inside"].definition == (
        "correct option after its context; no space added to options inside a word; BOS first"
    )
    assert sets["between"].definition == old_sets["between"].definition == old_sets["inside"].definition
    folder = epath.Path(tmp_path) / "suites"
    assert is_current(folder / new, config, now)
    assert not is_current(folder / old, config, now)


def test_suites_of_other_tokenizers_stay_what_they_were(tmp_path, tokenizer_called):
    now = tokenizer_called("sentencepiece_no_prefix")
    config, sets, new = suite_of(tmp_path, now)
    _, old_sets, old = suite_of(tmp_path, EarlierLossline(now.model, now.where))
    assert (new, sets) == (old, old_sets)
    assert is_current(epath.Path(tmp_path) / "suites" / old, config, now)


def test_a_suite_of_before_is_refused_until_it_is_prepared_again(tmp_path, tokenizer_called, monkeypatch):
    now = tokenizer_called("sentencepiece_llama")
    (tmp_path / "a.model").write_bytes(now.model)
    (tmp_path / "inside.jsonl").write_text(f"{json.dumps(FRANCE)}\n" * 2)
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text * 3}) + "\n" for text in TEXTS))
    run = RunConfig(
        LlamaConfig(d_model=16, num_layers=1, num_heads=2),
        DataConfig((("text", 1.0),)),
        SentencePieceFile(str(tmp_path / "a.model")),
        context_length=8,
        batch_size=4,
        tokens=320,
    )
    tasks = SuiteConfig(choice=(ChoiceTask("inside", str(tmp_path / "inside.jsonl")),), context_length=16, overlap=0)
    corpus = FilesCorpus("text", (f"{tmp_path}/text.jsonl",))
    configured = StudyConfig("small", (corpus,), (run,), tasks, x="inside", y="inside", validation_fraction=0.3)
    folder = StudyDir(epath.Path(tmp_path) / "study")
    with monkeypatch.context() as earlier:
        earlier.setattr(suites, "_options_identity", lambda suite, tokenizer: {})
        prepare_data(configured, folder, lambda line: None)
    with pytest.raises(LosslineError, match="made by an earlier lossline, .*run `lossline-jax prepare` again"):
        open_prepared_data(configured, folder)
    prepare_data(configured, folder, lambda line: None)
    assert open_prepared_data(configured, folder).problems == {}
