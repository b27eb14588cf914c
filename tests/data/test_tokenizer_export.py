"""The tokenizer.json of each tokenizer gives the same ids for any text, in our reader and in transformers."""

import sys

import hypothesis.strategies as st
import pytest
from etils import epath
from hypothesis import example, given, settings
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec

import lossline_jax.data.tokenizers.export as module
from lossline_jax.config.data import TrainedTokenizer
from lossline_jax.data.tokenizers.base import PROBES
from lossline_jax.data.tokenizers.build import BytesTokenizer
from lossline_jax.data.tokenizers.export import tokenizer_json
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.data.tokenizers.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from lossline_jax.errors import LosslineError
from tests.support.shared_data import shared_path

pytest.importorskip("tokenizers")

NAMES = ["bytes", "bpe", "prefixed", "runs", "mistral"]
ALICE = [f"Alice met {n} caterpillars,\n  and\u2581 each was\t{n * 7} inches tall. Çà! 数学\n\n" * 3 for n in range(60)]
# The pieces of these texts can overlap themselves in several ways.
RUNS = [letters * 40 for letters in ("ab", "aab", "abaab", "=", "-=", "\n  ", " ", "ababc")]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from("the caterpillar \n\t.,\u2581<0x41>é数"), max_size=60),
    st.text(st.sampled_from("ab=\n -"), max_size=80),
    st.builds(lambda unit, times, end: unit * times + end, st.text("ab =", max_size=4), st.integers(0, 50), st.text()),
)


def train_model(texts, vocab_size, kind="bpe"):
    return train_sentencepiece(texts, TrainedTokenizer("alice", vocab_size, kind))


def add_prefix(model):
    proto = ModelProto.FromString(model)
    proto.normalizer_spec.add_dummy_prefix = True
    return proto.SerializeToString()


@pytest.fixture(scope="module")
def alice_model():
    return train_model(ALICE, 400)


@pytest.fixture(scope="module")
def pair(alice_model, tmp_path_factory):
    """Return a function from a name to the tokenizer, its file and the tokenizer read from the file.

    Each file is written once, because Mistral's takes a while.
    """
    made = {}
    models = {
        "bpe": lambda: alice_model,
        "prefixed": lambda: add_prefix(alice_model),
        "runs": lambda: train_model(RUNS, 320),
        "mistral": lambda: shared_path("data/tokenizers/mistral/tokenizer.model.v1").read_bytes(),
    }

    def get(name):
        if name not in made:
            tokenizer = BytesTokenizer() if name == "bytes" else SentencePieceTokenizer(models[name](), name)
            path = epath.Path(tmp_path_factory.mktemp(name)) / "tokenizer.json"
            path.write_bytes(tokenizer_json(tokenizer))
            made[name] = tokenizer, path, HuggingFaceTokenizerFile(path)
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(text=TEXTS)
@example(text="<s></s><unk><0xE2> \u2581\u2581 a\u2581")
@example(text=PROBES[1])
def test_any_text_has_the_same_ids(pair, name, text):
    tokenizer, _, read = pair(name)
    ids = tokenizer.encode(text)
    assert read.encode(text).tolist() == ids.tolist()
    assert read.decode(ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_runs_have_the_same_ids(pair, name):
    """Mistral's vocabulary has runs of all lengths but 15, and gives them equal scores."""
    tokenizer, _, read = pair(name)
    texts = [f"x{unit * times}y" for unit in (" ", "\n", "=", "ab", "aab", "\n ", "-=") for times in range(70)]
    for ids, read_ids in zip(tokenizer.encode_batch(texts), read.encode_batch(texts), strict=True):
        assert ids.tolist() == read_ids.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_back_is_the_same_tokenizer(pair, name):
    tokenizer, path, read = pair(name)
    for attribute in ("vocab_size", "bos_id", "eos_id", "lossless"):
        assert getattr(read, attribute) == getattr(tokenizer, attribute)
    every_id = [[index] for index in range(tokenizer.vocab_size)]
    assert [read.decode(ids) for ids in every_id] == [tokenizer.decode(ids) for ids in every_id]
    assert tokenizer_json(read) == path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_transformers_gives_the_same_ids(pair, name):
    transformers = pytest.importorskip("transformers")
    tokenizer, path, _ = pair(name)
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    assert len(reference) == tokenizer.vocab_size
    for text in ["", " ", ALICE[3], "a\u2581b <0x41>\0", *RUNS, *PROBES]:
        ids = tokenizer.encode(text).tolist()
        assert reference.encode(text, split_special_tokens=True) == ids
        assert reference.decode(ids, clean_up_tokenization_spaces=False) == text


def refusal(tokenizer):
    with pytest.raises(LosslineError) as caught:
        tokenizer_json(tokenizer)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rename(proto, text):
    piece = next(piece for piece in proto.pieces if len(piece.piece) > 1 and piece.type == 1)
    piece.piece = text


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("normalises", lambda proto: setattr(proto.normalizer_spec, "precompiled_charsmap", b"\0" * 8)),
        ("extra whitespace", lambda proto: setattr(proto.normalizer_spec, "remove_extra_whitespaces", True)),
        ("in its own way", lambda proto: setattr(proto.trainer_spec, "treat_whitespace_as_suffix", True)),
        ("fall back", lambda proto: setattr(proto.trainer_spec, "byte_fallback", False)),
        ("user-defined", lambda proto: proto.pieces.add(piece="<mask>", score=0, type=4)),
        ("neither", lambda proto: setattr(proto.trainer_spec, "model_type", TrainerSpec.CHAR)),
        ("letters", lambda proto: rename(proto, "ж!")),
        ("plain space", lambda proto: rename(proto, "a e")),
        ("equal score", lambda proto: setattr(proto.pieces[262], "score", proto.pieces[263].score)),
    ],
)
def test_what_the_format_cannot_express_is_named(alice_model, reason, change):
    tokenizer = SentencePieceTokenizer(alice_model, "a.model")
    proto = ModelProto.FromString(alice_model)
    change(proto)
    tokenizer.model = proto.SerializeToString()
    message = refusal(tokenizer)
    assert message.startswith("a.model: ")
    assert reason in message


def test_unigram_is_refused_because_its_ties_differ():
    assert "use a bpe tokenizer" in refusal(SentencePieceTokenizer(train_model(ALICE, 320, "unigram"), "u.model"))


def test_other_ids_are_never_handed_out(alice_model, monkeypatch):
    ordered = module._merges
    monkeypatch.setattr(module, "_merges", lambda texts: ordered(texts)[::-1])
    assert "the same ids for '" in refusal(SentencePieceTokenizer(alice_model, "a.model"))


def test_strangers_and_a_missing_extra_are_refused(alice_model, monkeypatch):
    assert "cannot express a object" in refusal(object())
    tokenizer = SentencePieceTokenizer(alice_model, "a.model")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert "pip install -e '.[hf]'" in refusal(tokenizer)
