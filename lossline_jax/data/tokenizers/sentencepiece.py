"""Tokenizers from sentencepiece models, which are trained here without loss or read from a `.model` file."""

import functools
import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import sentencepiece

# protobuf defines this class when the module is imported, so that type checkers do not see it.
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]

from lossline_jax.config.data import TrainedTokenizer
from lossline_jax.data.tokenizers.base import BytesPerIdTokenizer, special_ids
from lossline_jax.errors import LosslineError

SPACE_MARK = "\u2581"  # sentencepiece writes a space as this character; in a text it stands for itself
TRAIN_THREADS = 4  # fixed, since the sums of unigram training depend on the number of threads
SENTENCE_CHARACTERS = 4096  # longest sentence for the trainer, which aborts at 2^16 characters
GUARD = "\ue000lossline\ue000"  # begins and ends with a letter for private use
# The trainer skips sentences with a character that it uses itself: space mark, tab, unknown.
RESERVED = re.compile("[\u2581\t\u2585]")


class SentencePieceTokenizer(BytesPerIdTokenizer):
    """A tokenizer that uses a sentencepiece model.

    If the model does not change the text and falls back to bytes, this class makes the encoding exact. It adds the
    space that a model may put before each text. It encodes U+2581, which sentencepiece would turn into a space, as its
    three bytes. The token ids are the same as those of the model.

    Args:
        model: content of the `.model` file.
        where: source of the model, as the start of error messages.

    Raises:
        LosslineError: the model cannot be used.
    """

    def __init__(self, model: bytes, where: str) -> None:
        proto = _parse(model, where)
        self.model = model
        self.where = where
        normaliser = proto.normalizer_spec
        self._exact = (
            not normaliser.precompiled_charsmap
            and not normaliser.remove_extra_whitespaces
            and proto.trainer_spec.byte_fallback
            and not proto.trainer_spec.treat_whitespace_as_suffix
        )
        prefix = " " if normaliser.add_dummy_prefix else ""
        if self._exact:
            normaliser.add_dummy_prefix = False
        self._model = _processor(proto, where)
        self._added = prefix if self._exact else ""
        self._mark_ids = [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode("utf-8")]
        self._proto = proto
        ids = special_ids(*(i if i >= 0 else None for i in (self._model.bos_id(), self._model.eos_id())))
        if ids is None:
            raise LosslineError(f"{where}: the model has neither BOS nor EOS; train it with one of them")
        super().__init__(
            _bytes_of_ids(self._model, where),
            bos_id=ids[0],
            eos_id=ids[1],
            fingerprint=hashlib.sha256(model).hexdigest(),
            prefix=prefix,
        )

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of `text` as int32, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text. The library encodes the texts in parallel."""
        return self._encode([self._added + text if text else "" for text in texts])

    def encode_rest(self, text: str) -> np.ndarray:
        """Return the ids of a text that continues another text.

        Args:
            text: the continuation.

        Raises:
            LosslineError: the model writes a space at the end of each word, and so cannot encode the rest of a word.
        """
        if self._exact:
            return self._encode([text])[0]
        if self._proto.trainer_spec.treat_whitespace_as_suffix:
            raise LosslineError(
                f"{self.where}: writes a space at the end of each word, so {text!r:.60} cannot be encoded as the rest "
                "of a word; let the option begin with a word"
            )
        return np.array(self._behind_guard.encode(GUARD + text)[1:], dtype=np.int32)

    @functools.cached_property
    def _behind_guard(self) -> sentencepiece.SentencePieceProcessor:
        """The model with the additional piece `GUARD`, which merges with no other piece.

        Text after this piece is therefore encoded as text inside a longer text.
        """
        proto = ModelProto.FromString(self._proto.SerializeToString())
        proto.normalizer_spec.add_dummy_prefix = False
        proto.pieces.add(piece=GUARD, score=0.0, type=ModelProto.SentencePiece.USER_DEFINED)
        return _processor(proto, self.where)

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        parts, part_counts = [], []
        for text in texts:
            parts_of_text = text.split(SPACE_MARK) if self._exact else [text]
            parts += parts_of_text
            part_counts.append(len(parts_of_text))
        encoded = iter(self._model.encode(parts, num_threads=min(len(parts), os.cpu_count() or 1)))
        return [self._joined([next(encoded) for _ in range(count)]) for count in part_counts]

    def _joined(self, parts: list[list[int]]) -> np.ndarray:
        ids = parts[0]
        for part in parts[1:]:
            ids = ids + self._mark_ids + part
        return np.array(ids, dtype=np.int32)


def train_sentencepiece(texts: Iterable[str], config: TrainedTokenizer) -> bytes:
    """Train a lossless model and return the content of its `.model` file.

    The model does not normalise text, keeps every space, and encodes text without a piece as bytes. The same texts
    give the same model on every machine.

    Args:
        texts: documents to train on.
        config: kind and size of the vocabulary.

    Raises:
        LosslineError: the text does not support a vocabulary of that size.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocab_size,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=4 * SENTENCE_CHARACTERS,
            num_threads=TRAIN_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise LosslineError(_training_failure(str(error), config)) from error
    return model.getvalue()


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for part in RESERVED.split(text):
            for start in range(0, len(part), SENTENCE_CHARACTERS):
                yield part[start : start + SENTENCE_CHARACTERS]


def _training_failure(message: str, config: TrainedTokenizer) -> str:
    where = f"tokenizer {config.kind} on corpus {config.corpus!r}: vocab_size {config.vocab_size}"
    if largest := re.search(r"Vocabulary size too high .*<= (\d+)", message):
        return f"{where} is more than its text supports; the largest possible is {largest[1]}"
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return f"{where} is too small for its bytes and letters; the smallest possible is {smallest[1]}"
    return f"{where}: sentencepiece cannot train ({' '.join(message.split())})"


def _parse(model: bytes, where: str) -> ModelProto:
    try:
        proto = ModelProto.FromString(model)
    except Exception as error:  # DecodeError of protobuf, whose module depends on the implementation
        raise LosslineError(f"{where}: not a sentencepiece model ({error})") from error
    if not proto.pieces:
        raise LosslineError(f"{where}: not a sentencepiece model (it has no pieces)")
    return proto


def _processor(proto: ModelProto, where: str) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    except (RuntimeError, UnicodeDecodeError) as error:  # the second if the message quotes a damaged piece
        raise LosslineError(_damaged(where, error)) from error


def _bytes_of_ids(model: sentencepiece.SentencePieceProcessor, where: str) -> list[bytes]:
    try:
        return [_surface(model, index) for index in range(model.vocab_size())]
    except (RuntimeError, ValueError) as error:
        raise LosslineError(_damaged(where, error)) from error


def _damaged(where: str, error: Exception) -> str:
    return f"{where}: a damaged sentencepiece model ({' '.join(str(error).split())}); fetch it again"


def _surface(model: sentencepiece.SentencePieceProcessor, index: int) -> bytes:
    piece = model.id_to_piece(index)
    if model.is_byte(index):
        return bytes.fromhex(piece[3:5])
    if model.is_control(index) or model.is_unknown(index):
        return b""
    return piece.replace(SPACE_MARK, " ").encode("utf-8")
