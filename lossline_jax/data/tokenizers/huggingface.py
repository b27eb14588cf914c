"""Tokenizers from Hugging Face `tokenizer.json` files (extra `hf`), in the style of GPT-2, GPT-NeoX, Llama 2 and 3."""

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from etils import epath

from lossline_jax.data.tokenizers.base import BytesPerIdTokenizer, special_ids, tokenizer_content
from lossline_jax.data.tokenizers.huggingface_parts import is_byte_level, text_prefix, without_prefix, word_marker
from lossline_jax.errors import LosslineError, install_hint

BOS_NAMES = ("<s>", "<|begin_of_text|>", "<|startoftext|>", "<bos>", "[CLS]")
EOS_NAMES = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[SEP]")
MAX_UNUSED_IDS = 1 << 20  # limit of ids without a token, since each gets a row of the embedding


class HuggingFaceTokenizerFile(BytesPerIdTokenizer):
    """A tokenizer that is read from a `tokenizer.json` file.

    Text that looks like a special token is encoded as text. If the file has only one of BOS and EOS (`<|endoftext|>`
    of GPT-2), this token serves as both.

    Args:
        path: the file.
        bos_id: id of BOS. None: the first of `BOS_NAMES` among the added tokens.
        eos_id: id of EOS. None: the first of `EOS_NAMES` among the added tokens.

    Attributes:
        content: content of the file.

    Raises:
        LosslineError: the extra or the file is missing, the file is not a tokenizer, or it has no BOS and EOS.
    """

    def __init__(self, path: epath.Path, bos_id: int | None = None, eos_id: int | None = None) -> None:
        self.path = path
        self.content = content = tokenizer_content(path)
        self._tokenizer = _load(content, str(path))
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        num_ids = _num_ids(vocabulary, str(path))
        # The library writes the description in its newest form, whatever the form of the file.
        self._description = description = json.loads(self._tokenizer.to_str())
        if dropout := description["model"].get("dropout"):
            raise LosslineError(f"{path}: field model.dropout={dropout!r}: encodes at random; set it to null")
        self._added = self._tokenizer.get_added_tokens_decoder()
        bytes_of_ids = _bytes_of_ids(vocabulary, num_ids, self._added, is_byte_level(description))
        given_ids = [index for index in (bos_id, eos_id) if index is not None]
        if any(not 0 <= index < len(bytes_of_ids) for index in given_ids):
            raise LosslineError(f"{path}: has no tokens {given_ids}, which are given as its BOS and EOS")
        named_bos, named_eos = self._first_id(BOS_NAMES), self._first_id(EOS_NAMES)
        ids = special_ids(named_bos if bos_id is None else bos_id, named_eos if eos_id is None else eos_id)
        if ids is None:
            raise LosslineError(_no_specials(self._added, str(path)))
        id_suffix = f" {bos_id} {eos_id}".encode() if given_ids else b""
        super().__init__(
            bytes_of_ids,
            bos_id=ids[0],
            eos_id=ids[1],
            fingerprint=hashlib.sha256(content + id_suffix).hexdigest(),
            prefix=text_prefix(description),
        )

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of `text` as int32, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text. The library encodes the texts in parallel."""
        encodings = self._encodings(self._tokenizer, texts)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_rest(self, text: str) -> np.ndarray:
        """Return the ids of a text that continues another text.

        Args:
            text: the continuation.

        Raises:
            LosslineError: the vocabulary has different tokens for the beginning and for the rest of a word.
        """
        if field := word_marker(self._description):
            raise LosslineError(
                f"{self.path}: field {field}: the beginning and the rest of a word have different tokens, so "
                f"{text!r:.60} cannot be encoded as the rest of a word; let the option begin with a word"
            )
        if self._rest is None:
            return self.encode(text)
        rest, whole = (self._encodings(tokenizer, [text])[0] for tokenizer in (self._rest, self._tokenizer))
        if rest.ids and text[: rest.offsets[0][0]].isspace():
            return np.array(whole.ids, dtype=np.int32)  # a word begins after the white space, which is dropped
        # Only the first piece continues the text before it. The tokenizer may put its prefix before each later
        # piece, as it does in the middle of a text.
        head = [index for index, piece in zip(rest.ids, rest.word_ids, strict=True) if piece == 0]
        more_pieces = max(whole.word_ids, default=0) - max(rest.word_ids, default=0)
        tail = [index for index, piece in zip(whole.ids, whole.word_ids, strict=True) if piece > more_pieces]
        return np.array(head + tail, dtype=np.int32)

    @functools.cached_property
    def _rest(self) -> Any | None:
        """The tokenizer without its rules for the beginning of a text. None: it has no such rules."""
        description = without_prefix(self._description)
        if all(description[name] == self._description.get(name) for name in ("normalizer", "pre_tokenizer")):
            return None
        return _load(json.dumps(description).encode("utf-8"), str(self.path))

    def _encodings(self, tokenizer: Any, texts: Sequence[str]) -> list[Any]:
        with _refused(f"{self.path}: cannot encode a text"):  # for example if the model has no token for unknown text
            return tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def _first_id(self, names: Sequence[str]) -> int | None:
        ids = {token.content: index for index, token in self._added.items()}
        return next((ids[name] for name in names if name in ids), None)


def import_tokenizers(where: str) -> ModuleType:
    """Return the package `tokenizers` of the extra `hf`.

    Args:
        where: start of the error message.

    Raises:
        LosslineError: the package is missing.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise LosslineError(f"{where}: needs tokenizers: {install_hint('hf')}") from error
    return tokenizers


def byte_of_character() -> dict[str, int]:
    """Return the byte for each character of a byte-level vocabulary, as in `encoder.py` of GPT-2."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + k): byte for k, byte in enumerate(hidden)}


def _load(content: bytes, where: str) -> Any:
    tokenizers = import_tokenizers(where)
    with _refused(f"{where}: not a tokenizer.json"):
        loaded = tokenizers.Tokenizer.from_buffer(content)
    loaded.encode_special_tokens = True
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


@contextlib.contextmanager
def _refused(message: str) -> Iterator[None]:
    """Raise errors of the library as one line.

    The library raises plain `Exception`, and a panic of its Rust code is only a `BaseException`.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise LosslineError(f"{message} ({' '.join(str(error).split())})") from error


def _no_specials(added: Mapping[int, Any], where: str) -> str:
    tokens_text = ", ".join(f"{token.content!r} ({index})" for index, token in sorted(added.items())[:6])
    return (
        f"{where}: none of its added tokens ({tokens_text or 'it has none'}) has one of the names {BOS_NAMES} or "
        f"{EOS_NAMES}; say which begin and end a document, as HuggingFaceTokenizer(path, bos_id=ID, eos_id=ID), or as "
        "bos_token_id and eos_token_id in the config.json beside it"
    )


def _num_ids(vocabulary: Mapping[str, int], where: str) -> int:
    num_ids = max(vocabulary.values(), default=-1) + 1
    if num_ids > len(vocabulary) + MAX_UNUSED_IDS:
        raise LosslineError(f"{where}: field model.vocab: has an id {num_ids - 1} but only {len(vocabulary)} tokens")
    return num_ids


def _bytes_of_ids(
    vocabulary: Mapping[str, int], num_ids: int, added: Mapping[int, Any], byte_level: bool
) -> list[bytes]:
    bytes_of = byte_of_character()
    bytes_of_ids = [b""] * num_ids
    for token, index in vocabulary.items():
        if index in added:
            bytes_of_ids[index] = b"" if added[index].special else token.encode("utf-8")
        elif byte_level and all(character in bytes_of for character in token):
            bytes_of_ids[index] = bytes(bytes_of[character] for character in token)
        elif not byte_level and (byte := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token)):
            bytes_of_ids[index] = bytes.fromhex(byte[1])
        else:  # in a byte-level vocabulary, the library also decodes such a token to its own text
            bytes_of_ids[index] = token.replace("\u2581", "\u2581" if byte_level else " ").encode("utf-8")
    return bytes_of_ids
