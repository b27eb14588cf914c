"""The common part of all tokenizers. Each id stands for a string of bytes, which is called its surface."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from lossline_jax.storage.inputs import open_input

# Texts with everything that tokenizers are known to lose: runs of spaces, newlines, other forms of a letter, rare
# letters, sentencepiece's mark for a space, and texts that look like special tokens.
PROBES = (
    "The quick brown fox.",
    "  two\n\n    lines\t with \r\n spaces  ",
    "\u00e9 e\u0301 \ufb01 \u00bd \uff46\uff55 \u0130 \u212b",  # several forms of one letter
    "数学 Ελληνικά עברית 😀👩‍🚀 \x01\x7f\u2028\ufeff\U0010ffff",
    "a\u2581b \u2585 <s>x</s> <unk> <0x41> <|endoftext|>",
)
UNKNOWN_LETTER = "\U0010fffd"  # a letter for private use, so that only a vocabulary of bytes can encode it


class BytesPerIdTokenizer(ABC):
    """A tokenizer that knows the bytes of every id.

    Args:
        bytes_of_ids: the bytes of each id, empty for special tokens.
        bos_id: id at the beginning of a document.
        eos_id: id at the end of a document; it may be the same as `bos_id`.
        fingerprint: identity of everything that decides how a text is encoded.
        prefix: text that the tokenizer puts before every text, such as the space of Llama 2 and Mistral.

    Attributes:
        vocab_size: number of ids, including special tokens.
    """

    def __init__(
        self, bytes_of_ids: Sequence[bytes], *, bos_id: int, eos_id: int, fingerprint: str, prefix: str = ""
    ) -> None:
        self._bytes_of_ids = tuple(bytes_of_ids)
        self._prefix = prefix
        self.vocab_size = len(self._bytes_of_ids)
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.fingerprint = fingerprint

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Return the ids of `text` as int32, without special tokens."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text, as `encode` does. Libraries with threads do this faster than single calls."""
        return [self.encode(text) for text in texts]

    @property
    def adds_prefix(self) -> bool:
        """True if the tokenizer puts a prefix of its own before each text."""
        return bool(self._prefix)

    @functools.cached_property
    def fuses_unknown(self) -> bool:
        """True if a run of letters that are not in the vocabulary becomes one token, which has no bytes."""
        one, two = self.encode(UNKNOWN_LETTER), self.encode(2 * UNKNOWN_LETTER)
        return len(one) > 0 and len(one) == len(two) and not self.surface(one[-1:])

    def encode_rest(self, text: str) -> np.ndarray:
        """Return the ids of a text that continues another text, as `encode` does but without the prefix.

        Args:
            text: the continuation.

        Raises:
            LosslineError: the tokenizer cannot encode the rest of a word.
        """
        return self.encode(text)

    def surface(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of the ids."""
        return b"".join(self._bytes_of_ids[index] for index in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids. Special tokens are left out, and bytes that are not UTF-8 become U+FFFD."""
        return self.surface(ids).decode("utf-8", errors="replace").removeprefix(self._prefix)

    @functools.cached_property
    def lossless(self) -> bool:
        """True if all of `PROBES` are the same text after encoding and decoding."""
        return all(self.decode(self.encode(text)) == text for text in PROBES)


def special_ids(bos_id: int | None, eos_id: int | None) -> tuple[int, int] | None:
    """Return the ids of BOS and EOS. If only one of them exists, it serves as both. None: neither exists.

    Args:
        bos_id: id of BOS. None: the tokenizer has no BOS.
        eos_id: id of EOS. None: the tokenizer has no EOS.
    """
    if bos_id is None:
        return None if eos_id is None else (eos_id, eos_id)
    return bos_id, (bos_id if eos_id is None else eos_id)


def tokenizer_content(path: epath.Path) -> bytes:
    """Return the bytes of a tokenizer's file.

    Args:
        path: the file.

    Raises:
        LosslineError: the file cannot be read.
    """
    with open_input(path, "tokenizer file") as file:
        return file.read()
