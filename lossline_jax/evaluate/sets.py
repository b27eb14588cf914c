"""One evaluation set as tokens: the documents of a validation split, or the items of a task."""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.config import SuiteConfig, ValidationSet
from lossline_jax.evaluate.rows import Request
from lossline_jax.evaluate.tasks import Item, encode_item
from lossline_jax.evaluate.windows import document_rows, option_row

if TYPE_CHECKING:
    from lossline_jax.data.tokenizers import Tokenizer


@dataclass(frozen=True)
class TokenisedSet:
    """One set before it is mixed with the others."""

    name: str
    kind: str  # "validation" or "task"
    requests: tuple[Request, ...]
    num_truncated: int = 0  # items of a task that lost the start of their context to the window

    @property
    def n(self) -> int:
        """Documents, or items."""
        return sum(request.gold for request in self.requests)

    @property
    def fingerprint(self) -> str:
        """Of the tokens and of which of them are scored; other sets and row lengths leave it alone."""
        digest = hashlib.sha256()
        for request in self.requests:
            digest.update(f"{request.item},{request.option},{request.gold},{request.num_bytes}".encode())
            for row in request.rows:
                digest.update(f";{row.first},{len(row.ids)}:".encode() + row.ids.astype("<i4").tobytes())
        return digest.hexdigest()[:10]


def tokenise_documents(
    config: ValidationSet, texts: Iterable[str], tokenizer: "Tokenizer", suite: SuiteConfig
) -> TokenisedSet:
    """A validation set: each document alone, after a BOS of its own, in sliding windows.

    Raises:
        LosslineError: fewer than 2 documents, one without tokens, or none as long as the context.
    """
    documents = _sample(config, texts)
    if len(documents) < 2:
        raise LosslineError(
            f"validation set {config.name!r}: {len(documents)} held-out documents, at least 2 are needed; "
            "give the corpus more documents or raise validation_fraction"
        )
    requests, longest = [], 0
    for item, text in enumerate(documents):
        ids = tokenizer.encode(text)
        if not len(ids):
            raise LosslineError(
                f"validation set {config.name!r}: the document {text!r:.60} encodes to no tokens; remove it"
            )
        longest = max(longest, len(ids))
        rows = document_rows(ids, tokenizer.bos_id, suite.context_length, suite.overlap)
        # All of a document is scored, so the bytes are those of its text, lossless tokenizer or not.
        requests.append(Request(tuple(rows), item, option=0, gold=True, num_bytes=len(text.encode("utf-8"))))
    if longest < suite.context_length:
        raise LosslineError(
            f"validation set {config.name!r}: its longest document has {longest} tokens, less than "
            f"suite.context_length={suite.context_length}; lower that or give the set longer documents"
        )
    return TokenisedSet(config.name, "validation", tuple(requests))


def tokenise_items(name: str, items: Sequence[Item], tokenizer: "Tokenizer", suite: SuiteConfig) -> TokenisedSet:
    """A task: every option of every item in a row of its own, behind BOS and the end of its context.

    Raises:
        LosslineError: an option that cannot be scored, named by file and line.
    """
    requests, num_truncated = [], 0
    for number, item in enumerate(items):
        options = encode_item(tokenizer, item, suite.context_length)
        for k, option in enumerate(options):
            row = option_row(option.context_ids, option.option_ids, tokenizer.bos_id, suite.context_length)
            requests.append(Request((row,), number, option=k, gold=k == item.gold, num_bytes=option.num_bytes))
        num_truncated += any(
            len(option.context_ids) + len(option.option_ids) > suite.context_length for option in options
        )
    return TokenisedSet(name, "task", tuple(requests), num_truncated)


def _sample(config: ValidationSet, texts: Iterable[str]) -> list[str]:
    """At most `max_documents` of the texts, by salted hash: the head of a sorted corpus is no sample."""
    if config.max_documents is not None:

        def rank(text: str) -> bytes:
            return hashlib.sha256(b"lossline validation sample\n" + text.encode("utf-8")).digest()

        texts = heapq.nsmallest(config.max_documents, texts, key=rank)
    if config.max_document_bytes is None:
        return list(texts)
    return [text.encode("utf-8")[: config.max_document_bytes].decode("utf-8", "ignore") for text in texts]
