"""What every tokenizer has in common: each id stands for a string of bytes, its surface."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# what tokenizers are known to lose: runs of spaces, newlines, other forms of a letter, rare letters,
# sentencepiece's own mark for a space, texts that look like special tokens
PROBES = (
    "The quick brown fox.",
    "  two\n\n    lines\t with \r\n spaces  ",
    "\u00e9 e\u0301 \ufb01 \u00bd \uff46\uff55 \u0130 \u212b",  # a letter's several forms
    "数学 Ελληνικά עברית 😀👩‍🚀 \x01\x7f\u2028\ufeff\U0010ffff",
    "a\u2581b \u2585 <s>x</s> <unk> <0x41> <|endoftext|>",
)


class SurfaceTokenizer(ABC):
    """Ids to bytes and back.

    Attributes:
        vocab_size: number of ids, specials included.
        bos_id, eos_id: what a document begins and ends with; they may be the same id.
        fingerprint: of everything that decides how a text is encoded.
        token_bytes_V: int32 (V,), UTF-8 bytes of each id's surface; 0 for specials. Over the ids of a text
            they sum to its bytes plus `prefix_bytes` where the tokenizer is lossless.
        prefix_bytes: what the tokenizer puts before every text (1: the space of Llama 2 and Mistral).
    """

    def __init__(self, surfaces: Sequence[bytes], bos_id: int, eos_id: int, fingerprint: str, prefix: str = ""):
        self._surfaces = tuple(surfaces)
        self._prefix = prefix
        self.vocab_size = len(self._surfaces)
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.fingerprint = fingerprint
        self.prefix_bytes = len(prefix.encode("utf-8"))
        self.token_bytes_V = np.array([len(surface) for surface in self._surfaces], dtype=np.int32)

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The ids of `text` as int32, without specials."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text; faster where the library has threads."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; specials are left out, bytes that are not UTF-8 become U+FFFD."""
        text = b"".join(self._surfaces[index] for index in ids).decode("utf-8", errors="replace")
        return text.removeprefix(self._prefix)

    @functools.cached_property
    def lossless(self) -> bool:
        """Whether texts with everything that tokenizers tend to lose come back as they were."""
        return all(self.decode(self.encode(text)) == text for text in PROBES)


def special_ids(bos_id: int | None, eos_id: int | None) -> tuple[int, int] | None:
    """BOS and EOS, one standing in for the other where only one exists; None where there is neither."""
    if bos_id is None and eos_id is None:
        return None
    return (eos_id if bos_id is None else bos_id), (bos_id if eos_id is None else eos_id)


def bytes_per_token(tokenizer: Any, text: str, ids: np.ndarray) -> np.ndarray:
    """How many UTF-8 bytes of `text` each of its tokens stands for.

    Exact where the surfaces of the ids make up the text. Otherwise (the tokenizer changed the text) the
    bytes of the original text are shared out in proportion to the surfaces.

    Args:
        tokenizer: which made `ids`.
        text: the original text.
        ids: (N,), `tokenizer.encode(text)`.

    Returns:
        (N,) int64; for N > 0 it sums to `len(text.encode("utf-8"))`.
    """
    total = len(text.encode("utf-8"))
    counts_N = tokenizer.token_bytes_V[ids].astype(np.int64)
    if not counts_N.size:
        return counts_N
    counts_N[0] = max(counts_N[0] - tokenizer.prefix_bytes, 0)
    return counts_N if counts_N.sum() == total else _share_out(total, counts_N)


def _share_out(total: int, weights_N: np.ndarray) -> np.ndarray:
    """`total` split over N in whole numbers, in proportion to the weights; equally if all of them are 0."""
    if not weights_N.any():
        weights_N = np.ones_like(weights_N)
    ends_N = np.cumsum(weights_N) * total // weights_N.sum()
    return np.diff(ends_N, prepend=0)
