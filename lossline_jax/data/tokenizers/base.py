"""What every tokenizer has in common: each id stands for a string of bytes, its surface."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from lossline_jax.storage.inputs import open_input

# what tokenizers are known to lose: runs of spaces, newlines, other forms of a letter, rare letters,
# sentencepiece's own mark for a space, texts that look like special tokens
PROBES = (
    "The quick brown fox.",
    "  two\n\n    lines\t with \r\n spaces  ",
    "\u00e9 e\u0301 \ufb01 \u00bd \uff46\uff55 \u0130 \u212b",  # a letter's several forms
    "数学 Ελληνικά עברית 😀👩‍🚀 \x01\x7f\u2028\ufeff\U0010ffff",
    "a\u2581b \u2585 <s>x</s> <unk> <0x41> <|endoftext|>",
)
UNKNOWN_LETTER = "\U0010fffd"  # for private use, so that only a vocabulary of bytes has it


class BytesPerIdTokenizer(ABC):
    """Ids to bytes and back.

    Attributes:
        vocab_size: number of ids, specials included.
        bos_id, eos_id: what a document begins and ends with; they may be the same id.
        fingerprint: of everything that decides how a text is encoded.
    """

    def __init__(self, bytes_of_ids: Sequence[bytes], bos_id: int, eos_id: int, fingerprint: str, prefix: str = ""):
        self._bytes_of_ids = tuple(bytes_of_ids)
        self._prefix = prefix  # what the tokenizer puts before every text: the space of Llama 2 and Mistral
        self.vocab_size = len(self._bytes_of_ids)
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.fingerprint = fingerprint

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The ids of `text` as int32, without specials."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text; faster where the library has threads."""
        return [self.encode(text) for text in texts]

    @property
    def adds_prefix(self) -> bool:
        """True when the tokenizer puts something of its own before each text."""
        return bool(self._prefix)

    @functools.cached_property
    def fuses_unknown(self) -> bool:
        """True when a row of letters that the vocabulary lacks becomes one token, which has no bytes."""
        one, two = self.encode(UNKNOWN_LETTER), self.encode(2 * UNKNOWN_LETTER)
        return len(one) > 0 and len(one) == len(two) and not self.surface(one[-1:])

    def encode_rest(self, text: str) -> np.ndarray:
        """The ids of a text that goes on where another one ends: as `encode`, without what begins a text.

        Raises:
            LosslineError: the tokenizer cannot say the rest of a word.
        """
        return self.encode(text)

    def surface(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for."""
        return b"".join(self._bytes_of_ids[index] for index in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; specials are left out, bytes that are not UTF-8 become U+FFFD."""
        return self.surface(ids).decode("utf-8", errors="replace").removeprefix(self._prefix)

    @functools.cached_property
    def lossless(self) -> bool:
        """Whether texts with everything that tokenizers tend to lose come back as they were."""
        return all(self.decode(self.encode(text)) == text for text in PROBES)


def special_ids(bos_id: int | None, eos_id: int | None) -> tuple[int, int] | None:
    """BOS and EOS, one standing in for the other where only one exists; None where there is neither."""
    if bos_id is None and eos_id is None:
        return None
    return (eos_id if bos_id is None else bos_id), (bos_id if eos_id is None else eos_id)


def tokenizer_content(path: epath.Path) -> bytes:
    """The bytes of a tokenizer's file. Raises LosslineError, naming it, if it cannot be read."""
    with open_input(path, "tokenizer file") as file:
        return file.read()
