"""Export of tokenizers as a Hugging Face `tokenizer.json` (extra `hf`) that gives the same ids for every text."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

# protobuf defines these classes when the module is imported, so that type checkers do not see them.
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec  # pyright: ignore[reportAttributeAccessIssue]

from lossline_jax.data.tokenizers.base import PROBES
from lossline_jax.data.tokenizers.build import BytesTokenizer, Tokenizer
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile, byte_of_character, import_tokenizers
from lossline_jax.data.tokenizers.sentencepiece import SPACE_MARK, SentencePieceTokenizer
from lossline_jax.errors import LosslineError

_Piece = ModelProto.SentencePiece
_EXPORTED_TYPES = {_Piece.NORMAL, _Piece.BYTE, _Piece.CONTROL, _Piece.UNKNOWN}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """Return the content of a `tokenizer.json` that gives the same ids as `tokenizer` for every text.

    Like `encode`, the exported tokenizer adds no BOS or EOS. A tokenizer that was read from a `tokenizer.json` is
    returned unchanged. transformers encodes a text such as "</s>" as the special token of that name, unless
    `split_special_tokens=True` is set. lossline encodes it as text.

    Args:
        tokenizer: the tokenizer to export.

    Raises:
        LosslineError: the extra is missing, or the format cannot express the tokenizer. It cannot express a unigram
            model, or a sentencepiece model that changes its text, does not fall back to bytes, or has user symbols.
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
    """Return the description of a sentencepiece model.

    A space is written as itself and not as sentencepiece's mark. The mark is then a letter without a piece, which is
    encoded as its bytes.
    """
    texts = {_exported_text(piece): piece.score for piece in proto.pieces if piece.type == _Piece.NORMAL}
    if reason := _inexpressible(proto, texts):
        raise LosslineError(f"{where}: no tokenizer.json gives the same ids: {reason}")
    vocabulary = {_exported_text(piece): index for index, piece in enumerate(proto.pieces)}
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
    normalizer = {"type": "Prepend", "prepend": " "}  # leaves an empty text empty, as `SentencePieceTokenizer` does
    return _description(model, specials, normalizer=normalizer, decoder={"type": "Sequence", "decoders": decoders})


def _exported_text(piece: Any) -> str:
    return piece.piece.replace(SPACE_MARK, " ") if piece.type == _Piece.NORMAL else piece.piece


def _inexpressible(proto: ModelProto, texts: dict[str, float]) -> str | None:
    """Return why the format cannot express the model, as the end of a message. None: the format can express it."""
    trainer, normaliser = proto.trainer_spec, proto.normalizer_spec
    by_score = defaultdict(list)
    for text, score in texts.items():
        if len(text) > 1:
            by_score[score].append(text)
    reasons = {
        "for a unigram model sentencepiece adds the scores in 32 bits and tokenizers in 64, which breaks near ties "
        "in different ways; use a bpe tokenizer": trainer.model_type == TrainerSpec.UNIGRAM,
        "it is neither a bpe nor a unigram model": trainer.model_type not in (TrainerSpec.BPE, TrainerSpec.UNIGRAM),
        f"it normalises its text ({normaliser.name})": bool(normaliser.precompiled_charsmap),
        "it removes extra whitespace": normaliser.remove_extra_whitespaces,
        "it treats whitespace in its own way": trainer.treat_whitespace_as_suffix or not normaliser.escape_whitespaces,
        "it does not fall back to bytes": not trainer.byte_fallback,
        "it has user-defined or unused pieces": any(piece.type not in _EXPORTED_TYPES for piece in proto.pieces),
        "it has pieces with letters that are not pieces": not texts.keys() >= set("".join(texts)),
        "it has pieces with a plain space": any(" " in piece.piece for piece in proto.pieces),
        "it has pieces of equal score": any(
            len(tied) > 1 and any(len(set(text)) > 1 for text in tied) for tied in by_score.values()
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _merges(texts: dict[str, float]) -> list[list[str]]:
    """Return all pairs of pieces that join to a piece, in the order in which sentencepiece joins them.

    sentencepiece joins the pair whose piece has the best score, and the leftmost pair among equals. A tokenizer.json
    gives each pair a rank of its own, so the ranks of equals must put the left pair first:

    - In a text x y z, the pairs (x, y) and (y, z) may make the same piece. That piece then begins with y.
    - Runs of one letter may have the same score at all lengths. The longest run is then joined first.
    """

    def splits() -> Iterator[tuple[tuple[float, bool, int], str, str]]:
        for text, score in texts.items():
            for length in range(1, len(text)):
                left, right = text[:length], text[length:]
                if left in texts and right in texts:
                    yield (-score, not text.startswith(right), -length), left, right

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
    """Refuse an export that gives other ids for a probe or for a piece.

    Each piece is repeated three times, so that it also has itself as a neighbour.
    """
    exported = import_tokenizers("tokenizer.json").Tokenizer.from_buffer(content)
    exported.encode_special_tokens = True
    pieces = (tokenizer.decode([index]) * 3 for index in range(tokenizer.vocab_size))
    texts = [*PROBES, *pieces]
    encodings = exported.encode_batch(texts, add_special_tokens=False)
    for text, expected_ids, encoding in zip(texts, tokenizer.encode_batch(texts), encodings, strict=True):
        if expected_ids.tolist() != encoding.ids:
            raise LosslineError(f"{tokenizer.where}: no tokenizer.json gives the same ids for {text!r}")
