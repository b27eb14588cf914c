"""Tokenizers give back every text, count exact bytes, and are refused if they cannot be made."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
import sentencepiece
from etils import epath
from hypothesis import example, given, settings

from lossline_jax.config.data import (
    ByteTokenizer,
    FilesCorpus,
    HuggingFaceTokenizer,
    SentencePieceFile,
    TrainedTokenizer,
)
from lossline_jax.data.corpora.prepare import prepare_corpus
from lossline_jax.data.tokenizers.build import planned_vocab_size, prepare_tokenizer
from lossline_jax.errors import LosslineError
from tests.support.shared_data import shared_path

ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
LIKE_ENGLISH = st.text(st.sampled_from("the caterpillar \n\t.,\u2581<0x41>é"), max_size=60)
TRAPS = [
    "",
    " ",
    "\u2581",
    "a \u2581\u2581 b",
    "<s></s><unk><0xE2>",
    "  x\r\n\ty\u2585\u2047",
    "e\u0301\ufeff\u2028",
]
SHARED = {
    "gpt2": HuggingFaceTokenizer("data/tokenizers/gpt2/tokenizer.json"),
    "mistral": SentencePieceFile("data/tokenizers/mistral/tokenizer.model.v1"),
    "neox": HuggingFaceTokenizer("data/tokenizers/gpt_neox/20B_tokenizer.json"),
    "fineweb": SentencePieceFile("data/tokenizers/fineweb_bpe/fineweb_1024_bpe.model"),
    "t5": SentencePieceFile("data/tokenizers/t5/t5-base.spiece.model"),
    "stories260k": HuggingFaceTokenizer("data/models/stories260K/tokenizer.json"),
}


def alice(number):
    return f"Alice met {number} caterpillars,\n  and\u2581 each was {number * 7} inches\ttall. Çà! " * 3


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    lines = [json.dumps({"text": alice(number)}) for number in range(300)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return {"alice": prepare_corpus(FilesCorpus("alice", (f"{folder}/a.jsonl",)), epath.Path(folder), 0.1)}


@pytest.fixture(scope="module")
def tokenizers(corpora, tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("tokenizers"))
    configs = {
        "bytes": ByteTokenizer(),
        "bpe": TrainedTokenizer("alice", 400, "bpe"),
        "unigram": TrainedTokenizer("alice", 350, "unigram"),
    }
    return {name: prepare_tokenizer(config, corpora, folder) for name, config in configs.items()}


@pytest.fixture(scope="module")
def shared_tokenizer():
    made = {}

    def get(name):
        if name not in made:
            config = SHARED[name]
            made[name] = prepare_tokenizer(type(config)(str(shared_path(config.path))), {}, epath.Path("unused"))
        return made[name]

    return get


@pytest.mark.parametrize("name", ["bytes", "bpe", "unigram"])
@settings(deadline=None)
@given(text=ANY_TEXT | LIKE_ENGLISH)
@example(text=TRAPS[2])
@example(text=TRAPS[3])
@example(text=TRAPS[4])
@example(text=TRAPS[5])
@example(text=TRAPS[6])
def test_own_tokenizers_lose_nothing(tokenizers, name, text):
    tokenizer = tokenizers[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not np.isin(ids, [tokenizer.bos_id, tokenizer.eos_id]).any()


@pytest.mark.parametrize("name", ["gpt2", "mistral"])
@settings(deadline=None, max_examples=50)
@given(text=ANY_TEXT | LIKE_ENGLISH)
@example(text="a<|endoftext|>b</s>")
@example(text="a\u2581b")
def test_lossless_files_lose_nothing(shared_tokenizer, name, text):
    tokenizer = shared_tokenizer(name)
    ids = tokenizer.encode(text)
    assert tokenizer.lossless
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["neox", "fineweb", "t5", "stories260k"])
def test_lossy_tokenizers_say_so(shared_tokenizer, name):
    assert not shared_tokenizer(name).lossless


def test_ids_of_a_model_file_are_its_own(shared_tokenizer):
    path = shared_path(SHARED["mistral"].path)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in ("Hello world", "  two  spaces\n", "é 数 😀", ""):
        assert shared_tokenizer("mistral").encode(text).tolist() == reference.encode(text)


def test_gpt2_ids_are_the_published_ones(shared_tokenizer):
    tokenizer = shared_tokenizer("gpt2")
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (50256, 50256, 50257)
    assert (shared_tokenizer("t5").bos_id, shared_tokenizer("t5").eos_id) == (1, 1)


def test_planned_vocabulary_is_that_of_the_tokenizer(tokenizers, shared_tokenizer):
    assert planned_vocab_size(ByteTokenizer()) == tokenizers["bytes"].vocab_size == 258
    assert planned_vocab_size(TrainedTokenizer("alice", 400)) == tokenizers["bpe"].vocab_size == 400
    path = str(shared_path(SHARED["t5"].path))
    assert planned_vocab_size(SentencePieceFile(path)) == shared_tokenizer("t5").vocab_size == 32_000


def test_batches_encode_as_single_texts(tokenizers):
    texts = [*TRAPS, alice(1)]
    for tokenizer in tokenizers.values():
        for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True):
            np.testing.assert_array_equal(ids, tokenizer.encode(text))
            assert ids.dtype == np.int32


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_training_is_deterministic_and_kept(corpora, tmp_path, kind):
    config = TrainedTokenizer("alice", 330, kind)
    first = prepare_tokenizer(config, corpora, epath.Path(tmp_path / "a"))
    second = prepare_tokenizer(config, corpora, epath.Path(tmp_path / "b"))
    assert first.fingerprint == second.fingerprint
    (model,) = (tmp_path / "a").glob("*/tokenizer.model")
    stamp = model.stat().st_mtime_ns
    prepare_tokenizer(config, corpora, epath.Path(tmp_path / "a"))
    assert model.stat().st_mtime_ns == stamp


def test_newlines_and_runs_of_spaces_get_pieces(corpora, tokenizers):
    tokenizer = tokenizers["bpe"]
    pieces = [tokenizer.decode([index]) for index in range(259, tokenizer.vocab_size)]
    assert "\n" in pieces
    assert any(piece.startswith("  ") for piece in pieces)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_impossible_vocabularies_are_refused_in_one_line(corpora, tmp_path, kind, capfd):
    def message(vocab_size):
        with pytest.raises(LosslineError) as caught:
            prepare_tokenizer(TrainedTokenizer("alice", vocab_size, kind), corpora, epath.Path(tmp_path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    too_large = message(100_000)
    assert "vocab_size 100000" in too_large
    assert "'alice'" in too_large
    largest = int(too_large.split("the largest possible is ")[1])
    assert prepare_tokenizer(TrainedTokenizer("alice", largest, kind), corpora, epath.Path(tmp_path))
    smallest = int(message(260).split("the smallest possible is ")[1])
    assert 259 < smallest < largest
    assert capfd.readouterr() == ("", "")


def test_unknown_corpus_and_bad_files_are_refused(corpora, tmp_path):
    def message(config):
        with pytest.raises(LosslineError) as caught:
            prepare_tokenizer(config, corpora, epath.Path(tmp_path))
        return str(caught.value)

    (tmp_path / "x.model").write_bytes(b"nonsense")
    (tmp_path / "x.json").write_bytes(b"{}")
    assert "did you mean 'alice'?" in message(TrainedTokenizer("alise", 300))
    assert "not a sentencepiece model" in message(SentencePieceFile(str(tmp_path / "x.model")))
    assert "not a tokenizer.json" in message(HuggingFaceTokenizer(str(tmp_path / "x.json")))
    assert "no such file" in message(SentencePieceFile(str(tmp_path / "y.model")))
