"""We read each file of `tokenizers` with the same ids, or refuse it in one line with the file and the field."""

import json

import pytest
from etils import epath
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from lossline_jax.config.data import HuggingFaceTokenizer, SentencePieceFile
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.errors import LosslineError
from tests.support.prefix_tokenizers import BYTE_LEVEL, JSON_KINDS, json_description, json_tokenizer

TEXTS = ["The capital of Fra", " nce 12", "é e\u0301 数\n\n😀", "", "A-B, a.b"]
SPECIALS = [("<s>", 0), ("</s>", 1)]
PARTS = {
    "normalizer": [
        normalizers.BertNormalizer(),
        normalizers.Strip(),
        normalizers.StripAccents(),
        normalizers.NFC(),
        normalizers.NFD(),
        normalizers.NFKC(),
        normalizers.NFKD(),
        normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]),
        normalizers.Nmt(),
        normalizers.Replace("a", "b"),
        normalizers.ByteLevel(),
    ],
    "pre_tokenizer": [
        pre_tokenizers.BertPreTokenizer(),
        pre_tokenizers.CharDelimiterSplit("-"),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Split(" ", "removed"),
        pre_tokenizers.Punctuation(),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.UnicodeScripts(),
        pre_tokenizers.FixedLength(5),
    ],
    "decoder": [
        decoders.BPEDecoder(),
        decoders.WordPiece(),
        decoders.Metaspace(),
        decoders.CTC(),
        decoders.Replace("\u2581", " "),
        decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
    ],
    "post_processor": [
        processors.BertProcessing(("</s>", 1), ("<s>", 0)),
        processors.RobertaProcessing(("</s>", 1), ("<s>", 0)),
        processors.ByteLevel(),
        processors.TemplateProcessing(single="<s> $A", special_tokens=SPECIALS),
        processors.Sequence([processors.ByteLevel()]),
    ],
}
CASES = [(name, part) for name, members in PARTS.items() for part in members]


@pytest.fixture(scope="module")
def plain():
    return json_description()


def with_part(description, name, part):
    made = Tokenizer.from_str(json.dumps(description))
    setattr(made, name, part)
    return json.loads(made.to_str())


@pytest.mark.parametrize(("name", "part"), CASES, ids=[f"{name}-{type(part).__name__}" for name, part in CASES])
def test_every_part_is_read_with_the_ids_of_the_library(tmp_path, plain, name, part):
    description = with_part(plain, name, part)
    tokenizer = json_tokenizer(tmp_path, description)
    library = Tokenizer.from_str(json.dumps(description))
    for text in TEXTS:
        assert tokenizer.encode(text).tolist() == library.encode(text, add_special_tokens=False).ids
    assert not tokenizer.adds_prefix
    assert isinstance(tokenizer.lossless, bool)
    tokenizer.encode_rest("nce 12")


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "?": 3}, unk_token="?"),
        models.WordPiece({"<s>": 0, "</s>": 1, "a": 2, "##b": 3, "?": 4}, unk_token="?"),
        models.Unigram([("<s>", 0.0), ("</s>", 0.0), ("a", -1.0), ("?", -9.0)], 3, False),
        models.BPE({"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}, [("a", "b")]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_model_is_read_with_the_ids_of_the_library(tmp_path, model):
    library = Tokenizer(model)
    library.add_special_tokens(["<s>", "</s>"])
    tokenizer = json_tokenizer(tmp_path, json.loads(library.to_str()))
    for text in ("ab", "a", ""):
        assert tokenizer.encode(text).tolist() == library.encode(text, add_special_tokens=False).ids
    assert (tokenizer.bos_id, tokenizer.eos_id) == (0, 1)


@pytest.mark.parametrize("token", ["数", "a b", "x\u2581"])
def test_a_raw_token_in_a_byte_level_vocabulary_is_its_own_text(tmp_path, token):
    description = JSON_KINDS["byte_level"]()
    index = len(description["model"]["vocab"])
    description["model"]["vocab"][token] = index
    tokenizer = json_tokenizer(tmp_path, description)
    assert tokenizer.decode([index]) == token
    assert tokenizer.decode([index]) == Tokenizer.from_str(json.dumps(description)).decode([index])
    assert tokenizer.lossless


def test_parts_that_are_not_in_the_file_are_none(tmp_path, plain):
    for name in ("normalizer", "pre_tokenizer", "decoder", "post_processor", "truncation", "padding", "version"):
        without = {key: value for key, value in plain.items() if key != name}
        assert (
            json_tokenizer(tmp_path, without).encode("Fra").tolist()
            == json_tokenizer(tmp_path, plain).encode("Fra").tolist()
        )
    bare = json_tokenizer(tmp_path, {"model": plain["model"]}, bos_id=5, eos_id=6)
    assert (bare.bos_id, bare.eos_id, bare.vocab_size) == (5, 6, len(plain["model"]["vocab"]))


def refusal(folder, description, **ids):
    with pytest.raises(LosslineError) as error:
        json_tokenizer(folder, description, **ids).encode("unknown")
    assert str(error.value).startswith(f"{folder / 'tokenizer.json'}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path, plain):
    def change_model(**fields):
        return plain | {"model": plain["model"] | fields}

    renamed = [token | {"content": f"[{k}]"} for k, token in enumerate(plain["added_tokens"])]
    vocabulary = {f"[{text}]" if text in ("<s>", "</s>") else text: k for text, k in plain["model"]["vocab"].items()}
    message = refusal(tmp_path, plain | {"added_tokens": renamed})
    assert "none of its added tokens ('[0]' (" in message
    assert "HuggingFaceTokenizer(path, bos_id=ID, eos_id=ID), or as bos_token_id and eos_token_id in the" in message
    assert "none of its added tokens (it has none)" in refusal(
        tmp_path, change_model(vocab=vocabulary) | {"added_tokens": []}
    )
    assert "field model.dropout=0.1: encodes at random" in refusal(tmp_path, change_model(dropout=0.1))
    far = change_model(vocab=plain["model"]["vocab"] | {"far": 2**31})
    assert f"field model.vocab: has an id {2**31} but only" in refusal(tmp_path, far)
    assert "has no tokens [9999], which are given" in refusal(tmp_path, plain, bos_id=9999)
    assert "has no tokens [-1], which are given" in refusal(tmp_path, plain, eos_id=-1)
    ignorant = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "?"}
    assert "cannot encode a text (WordLevel error" in refusal(tmp_path, {"model": ignorant}, bos_id=0, eos_id=1)
    for content in ({}, [], {"model": None}, {"model": {"type": "Other"}}, plain | {"decoder": {"type": "Other"}}):
        assert "not a tokenizer.json (" in refusal(tmp_path, content)


def test_a_folder_or_nothing_in_place_of_a_file_is_named(tmp_path):
    for name, config in (("x.model", SentencePieceFile), ("x.json", HuggingFaceTokenizer)):
        (tmp_path / name).mkdir()
        with pytest.raises(LosslineError, match=f"{name}: cannot be read: it is a folder"):
            prepare_tokenizer(config(str(tmp_path / name)), {}, tmp_path)
    with pytest.raises(LosslineError, match=r"tokenizer.json: no such tokenizer file"):
        HuggingFaceTokenizerFile(epath.Path(tmp_path) / "tokenizer.json")


def test_a_prefix_is_known_by_the_parts_and_not_by_a_text(tmp_path):
    """No token here begins with a space and a letter, so the ids of a text do not show the prefix."""
    description = json_description(pre_tokenizer=BYTE_LEVEL(add_prefix_space=True), by_bytes=True)
    description["model"] |= {"merges": []}
    tokenizer = json_tokenizer(tmp_path, description)
    assert tokenizer.adds_prefix
    assert tokenizer.encode_rest("nce").tolist() == tokenizer.encode("nce").tolist()[1:]
