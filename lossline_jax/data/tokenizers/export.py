"""Our tokenizers as the content of a Hugging Face `tokenizer.json` (extra `hf`), with the same ids for every text."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec

from lossline_jax.data.tokenizers.base import PROBES
from lossline_jax.data.tokenizers.build import BytesTokenizer, Tokenizer
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile, byte_of_character, import_tokenizers
from lossline_jax.data.tokenizers.sentencepiece import SPACE_MARK, SentencePieceTokenizer
from lossline_jax.errors import LosslineError

_Piece = ModelProto.SentencePiece
_OWN_TYPES = {_Piece.NORMAL, _Piece.BYTE, _Piece.CONTROL, _Piece.UNKNOWN}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """The content of a `tokenizer.json` that encodes every text to the ids that `tokenizer` gives.

    Like `encode` it adds no BOS or EOS, unless it is a file that was read: that comes back as it was.
    transformers takes a text such as "</s>" for the special token of that name, unless it is told
    `split_special_tokens=True`; we encode it as text.

    Raises:
        LosslineError: the extra is missing, or the format cannot express the tokenizer: a unigram model, or a
            sentencepiece model that changes its text, has no bytes to fall back to, or has symbols of its user.
    """
    match tokenizer:
        case HuggingFaceTokenizerFile():
            return tokenizer.content
        case BytesTokenizer():
            return _dumped(_of_bytes(tokenizer))
        case SentencePieceTokenizer():
            content = _dumped(_of_sentencepiece(ModelProto.FromString(tokenizer.model), tokenizer.where))
            _check_ids(tokenizer, content)
            return content
    raise LosslineError(f"tokenizer.json: cannot express a {type(tokenizer).__name__}")


def _of_bytes(tokenizer: BytesTokenizer) -> dict[str, Any]:
    specials = {"<s>": tokenizer.bos_id, "</s>": tokenizer.eos_id}
    model = {"type": "BPE", "vocab": byte_of_character() | specials, "merges": []}
    return _description(model, specials, pre_tokenizer=_BYTE_LEVEL, decoder=_BYTE_LEVEL)


def _of_sentencepiece(proto: ModelProto, where: str) -> dict[str, Any]:
    """A space is spelt as itself: sentencepiece's mark is then a letter without a piece, and becomes its bytes."""
    texts = {_spelt(piece): piece.score for piece in proto.pieces if piece.type == _Piece.NORMAL}
    if reason := _inexpressible(proto, texts):
        raise LosslineError(f"{where}: no tokenizer.json gives the same ids: {reason}")
    vocabulary = {_spelt(piece): index for index, piece in enumerate(proto.pieces)}
    specials = {
        piece.piece: index for index, piece in enumerate(proto.pieces) if piece.type in (_Piece.CONTROL, _Piece.UNKNOWN)
    }
    model = {
        "type": "BPE",
        "unk_token": proto.pieces[proto.trainer_spec.unk_id].piece,
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocabulary,
        "merges": _merges(texts),
    }
    decoders: list[dict[str, Any]] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if not proto.normalizer_spec.add_dummy_prefix:
        return _description(model, specials, decoder={"type": "Sequence", "decoders": decoders})
    decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    normalizer = {"type": "Prepend", "prepend": " "}  # which leaves an empty text empty, as we do
    return _description(model, specials, normalizer=normalizer, decoder={"type": "Sequence", "decoders": decoders})


def _spelt(piece: _Piece) -> str:
    return piece.piece.replace(SPACE_MARK, " ") if piece.type == _Piece.NORMAL else piece.piece


def _inexpressible(proto: ModelProto, texts: dict[str, float]) -> str | None:
    """What keeps the model out of the format, for the end of an error line."""
    trainer, normaliser = proto.trainer_spec, proto.normalizer_spec
    by_score = defaultdict(list)
    for text, score in texts.items():
        if len(text) > 1:
            by_score[score].append(text)
    reasons = {
        "of a unigram model sentencepiece adds the scores in 32 bits and tokenizers in 64, which breaks near ties "
        "in different ways; use a bpe tokenizer": trainer.model_type == TrainerSpec.UNIGRAM,
        "it is neither a bpe nor a unigram model": trainer.model_type not in (TrainerSpec.BPE, TrainerSpec.UNIGRAM),
        f"it normalises its text ({normaliser.name})": bool(normaliser.precompiled_charsmap),
        "it removes extra whitespace": normaliser.remove_extra_whitespaces,
        "it treats whitespace in its own way": trainer.treat_whitespace_as_suffix or not normaliser.escape_whitespaces,
        "it does not fall back to bytes": not trainer.byte_fallback,
        "it has user-defined or unused pieces": any(piece.type not in _OWN_TYPES for piece in proto.pieces),
        "it has pieces with letters that are no pieces": not texts.keys() >= set("".join(texts)),
        "it has pieces with a plain space": any(" " in piece.piece for piece in proto.pieces),
        "it has pieces of equal score": any(
            len(tied) > 1 and any(len(set(text)) > 1 for text in tied) for tied in by_score.values()
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _merges(texts: dict[str, float]) -> list[list[str]]:
    """All the ways to join two pieces to a piece, in the order in which sentencepiece would.

    It takes the piece of the best score, and the leftmost place among equals. Ranks here are those of pairs, and
    no two the same, so equals are ranked such that what lies to the left comes first: where the pairs (x, y) and
    (y, z) of a text x y z make the same piece, y begins that piece; and of runs of one letter, which may have one
    score for all lengths, the run that has grown longest grows on.
    """

    def splits() -> Iterator[tuple[tuple[float, bool, int], str, str]]:
        for text, score in texts.items():
            for at in range(1, len(text)):
                left, right = text[:at], text[at:]
                if left in texts and right in texts:
                    yield (-score, not text.startswith(right), -at), left, right

    return [[left, right] for _, left, right in sorted(splits())]


def _description(model: dict[str, Any], specials: dict[str, int], **parts: Any) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": content, **flags} for content, index in specials.items()],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": model,
        **parts,
    }


def _dumped(description: dict[str, Any]) -> bytes:
    return json.dumps(description, ensure_ascii=False, indent=1).encode("utf-8")


def _check_ids(tokenizer: SentencePieceTokenizer, content: bytes) -> None:
    """Raises LosslineError if a piece, thrice in a row so that it meets itself, or a probe has other ids."""
    made = import_tokenizers("tokenizer.json").Tokenizer.from_buffer(content)
    made.encode_special_tokens = True
    pieces = (tokenizer.decode([index]) * 3 for index in range(tokenizer.vocab_size))
    texts = [*PROBES, *pieces]
    theirs = made.encode_batch(texts, add_special_tokens=False)
    for text, ours, encoding in zip(texts, tokenizer.encode_batch(texts), theirs, strict=True):
        if ours.tolist() != encoding.ids:
            raise LosslineError(f"{tokenizer.where}: no tokenizer.json gives the same ids for {text!r}")
