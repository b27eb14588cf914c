"""Make small tokenizers that put a space before every text, in every known way, and a few that do not."""

import io
import json

import sentencepiece
import tokenizers
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.data.tokenizers.sentencepiece import SentencePieceTokenizer

TEXTS = [
    "The capital of France is Paris, and that of Austria is Vienna.",
    "An option that begins inside a word: France, Austria, fraction, vienna.",
    "Çà et là, l'été à Paris; où est la capitale de la France?",
    "def fraction(a, b):\n    return a / b\n\n",
] * 20
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
METASPACE = pre_tokenizers.Metaspace
BYTE_LEVEL = pre_tokenizers.ByteLevel


def sentencepiece_model(**options) -> SentencePieceTokenizer:
    """Train a sentencepiece model with a dummy prefix. `options` replace the settings of Llama."""
    model = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": 330,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": False,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=model, **(settings | options))
    return SentencePieceTokenizer(model.getvalue(), "a model of the test")


def json_description(normalizer=None, pre_tokenizer=None, decoder=None, added=(), by_bytes=False) -> dict:
    """Return the description of a BPE tokenizer with these parts, trained on `TEXTS`, with byte fallback."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=not by_bytes, unk_token=None, fuse_unk=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        tokenizer.decoder = decoder
    specials = ["<s>", "</s>"] + ([] if by_bytes else BYTES)
    alphabet = BYTE_LEVEL.alphabet() if by_bytes else []
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=480, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = [token for token in description["added_tokens"] if token["content"] not in BYTES]
    for content in added:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        index = len(description["model"]["vocab"]) + len(description["added_tokens"]) - 2
        description["added_tokens"].append({"id": index, "content": content, **flags})
    return description


def json_tokenizer(folder, description: dict, **ids) -> HuggingFaceTokenizerFile:
    path = epath.Path(folder) / "tokenizer.json"
    path.write_text(json.dumps(description))
    return HuggingFaceTokenizerFile(path, **ids)


LLAMA_NORMALIZER = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]

# Name of a kind: its description.
JSON_KINDS = {
    "llama": lambda: json_description(normalizers.Sequence(LLAMA_NORMALIZER)),
    "metaspace_always": lambda: json_description(pre_tokenizer=METASPACE(prepend_scheme="always")),
    "metaspace_first": lambda: json_description(
        pre_tokenizer=pre_tokenizers.Sequence([METASPACE(prepend_scheme="first"), pre_tokenizers.Digits()])
    ),
    "metaspace_unsplit": lambda: json_description(pre_tokenizer=METASPACE(prepend_scheme="always", split=False)),
    "metaspace_never": lambda: json_description(pre_tokenizer=METASPACE(prepend_scheme="never")),
    "byte_level_prefix": lambda: json_description(
        pre_tokenizer=BYTE_LEVEL(add_prefix_space=True), decoder=decoders.ByteLevel(), by_bytes=True
    ),
    "byte_level": lambda: json_description(
        pre_tokenizer=BYTE_LEVEL(add_prefix_space=False), decoder=decoders.ByteLevel(), by_bytes=True
    ),
}
# These kinds put their space before every piece of a text, not only before the first.
PIECEWISE_KINDS = {
    "t5": lambda: json_description(
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), METASPACE(prepend_scheme="always")])
    ),
    "digits_byte_level": lambda: json_description(
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(), BYTE_LEVEL(add_prefix_space=True)]),
        decoder=decoders.ByteLevel(),
        by_bytes=True,
    ),
    "llama_added": lambda: json_description(normalizers.Sequence(LLAMA_NORMALIZER), added=("<extra>",)),
    "stripped": lambda: json_description(normalizers.Sequence([normalizers.Strip(), *LLAMA_NORMALIZER])),
}
SENTENCEPIECE_KINDS = {
    "sentencepiece_llama": lambda: sentencepiece_model(),
    "sentencepiece_across_words": lambda: sentencepiece_model(split_by_whitespace=False),
    "sentencepiece_unigram": lambda: sentencepiece_model(model_type="unigram", vocab_size=320),
    "sentencepiece_no_prefix": lambda: sentencepiece_model(add_dummy_prefix=False),
}
WITHOUT_PREFIX = {"metaspace_never", "byte_level", "sentencepiece_no_prefix"}


def normalising_model() -> SentencePieceTokenizer:
    """Train a model with T5's settings: normalised text, no extra white space, no byte fallback."""
    return sentencepiece_model(
        model_type="unigram",
        vocab_size=200,
        byte_fallback=False,
        normalization_rule_name="nmt_nfkc",
        remove_extra_whitespaces=True,
    )
