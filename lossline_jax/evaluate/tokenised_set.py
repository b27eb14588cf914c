"""One evaluation set as tokens: the documents of a validation split, or the items of a task."""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossline_jax.config.evaluation import SuiteConfig, ValidationSet
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.packing.rows import Request
from lossline_jax.evaluate.packing.windows import document_texts, option_text
from lossline_jax.evaluate.tasks.item import Item, first_of_many
from lossline_jax.evaluate.tasks.multiple_choice import encode_item

if TYPE_CHECKING:
    from lossline_jax.data.tokenizers.build import Tokenizer


# Part of every fingerprint. Raise it when the numbers that are made of the same tokens change their meaning (what is
# counted as right, averaged or divided by), so that rows scored before are scored again and not mixed with new ones.
SCORING = 1

# Raised when options that are encoded apart from their context get other tokens, where the tokenizer begins every text
# with a space or fuses unknown letters. Suites of such tokenizers are prepared again, and the sets in which tokens
# changed are scored again. 2: without that space, and with the option's own token for its unknown letters.
OPTIONS_APART = 2


@dataclass(frozen=True)
class TokenisedSet:
    """One set before it is mixed with the others."""

    name: str
    kind: str  # "validation" or "task"
    definition: str  # in words: what is averaged over what, in which context
    requests: tuple[Request, ...]
    num_truncated: int = 0  # items of a task that lost the start of their context to the window

    @property
    def n(self) -> int:
        """Documents, or items."""
        return sum(request.gold for request in self.requests)

    @property
    def fingerprint(self) -> str:
        """Of the tokens, of which are scored, and of `SCORING`; other sets and row lengths leave it alone."""
        digest = hashlib.sha256(f"scoring {SCORING}:".encode())
        for request in self.requests:
            digest.update(f"{request.item},{request.option},{request.gold},".encode())
            digest.update(f"{request.num_bytes},{request.num_chars}".encode())
            for text in request.texts:
                digest.update(f";{text.first},{len(text.ids)}:".encode() + text.ids.astype("<i4").tobytes())
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
    encoded = [tokenizer.encode(text) for text in documents]
    empty = [text for text, ids in zip(documents, encoded, strict=True) if not len(ids)]
    if empty:
        problems = [f"validation set {config.name!r}: the document {text!r:.60} encodes to no tokens" for text in empty]
        raise LosslineError(f"{first_of_many(problems)}; remove it")
    longest = max(map(len, encoded))
    if longest < suite.context_length:
        raise LosslineError(
            f"validation set {config.name!r}: its longest document has {longest} tokens, less than "
            f"suite.context_length={suite.context_length}; lower that or give the set longer documents"
        )
    requests = []
    for item, (text, ids) in enumerate(zip(documents, encoded, strict=True)):
        texts = document_texts(ids, tokenizer.bos_id, suite.context_length, suite.overlap)
        # All of a document is scored, so the bytes are those of its text, lossless tokenizer or not.
        size = {"num_bytes": len(text.encode("utf-8")), "num_chars": len(text)}
        requests.append(Request(tuple(texts), item, option=0, gold=True, **size))
    return TokenisedSet(config.name, "validation", _validation_definition(config, suite), tuple(requests))


def tokenise_items(
    name: str, items: Sequence[Item], tokenizer: "Tokenizer", suite: SuiteConfig, prompts: str | None = None
) -> TokenisedSet:
    """A task: every option of every item behind BOS and the end of its context.

    Args:
        prompts: where the wording of the items is from, in words.

    Raises:
        LosslineError: options that cannot be scored: the first named by file and line, the others counted.
    """
    requests, problems, num_truncated, is_apart = [], [], 0, False
    for number, item in enumerate(items):
        try:
            options = encode_item(tokenizer, item, suite.context_length)
        except LosslineError as error:
            problems.append(str(error))
            continue
        for k, option in enumerate(options):
            text = option_text(option.context_ids, option.option_ids, tokenizer.bos_id, suite.context_length)
            size = {"num_bytes": option.num_bytes, "num_chars": item.num_chars[k]}
            requests.append(Request((text,), number, option=k, gold=k == item.gold, **size))
        is_apart |= any(option.apart for option in options)
        num_truncated += any(
            len(option.context_ids) + len(option.option_ids) > suite.context_length for option in options
        )
    if problems:
        raise LosslineError(first_of_many(problems))
    definition = _task_definition(items, prompts, bare=is_apart and changes_apart(tokenizer))
    return TokenisedSet(name, "task", definition, tuple(requests), num_truncated)


def changes_apart(tokenizer: "Tokenizer") -> bool:
    """Return whether `OPTIONS_APART` concerns the tokenizer: it adds a prefix to texts or fuses unknown letters."""
    return tokenizer.adds_prefix or tokenizer.fuses_unknown


def _validation_definition(config: ValidationSet, suite: SuiteConfig) -> str:
    windows = f"windows of {suite.context_length} tokens, {suite.overlap} of them context"
    cut = f"; the first {config.max_document_bytes} bytes of a document" if config.max_document_bytes else ""
    return f"token-weighted; {windows}{cut}; BOS first"


def _task_definition(items: Sequence[Item], prompts: str | None, bare: bool) -> str:
    """`bare`: whether options begin inside a word, without the space that the tokenizer puts before a text."""
    if all(len(item.options) == 1 for item in items):
        scored = "continuation after its context"
    elif all(len(set(item.options)) == 1 for item in items):
        scored = "continuation after the context of the correct option"
    else:
        scored = "correct option after its context"
    wording = [f"prompts of {prompts}"] if prompts else []
    inside = ["no space added to options inside a word"] if bare else []
    return "; ".join([scored, *wording, *inside, "BOS first"])


def _sample(config: ValidationSet, texts: Iterable[str]) -> list[str]:
    """At most `max_documents` of the texts, by salted hash: the head of a sorted corpus is no sample.

    All of them stand in that order too, so that a limit which is not reached leaves the set as it is.
    """

    def rank(text: str) -> bytes:
        return hashlib.sha256(b"lossline validation sample\n" + text.encode("utf-8")).digest()

    limit = config.max_documents
    sample = sorted(texts, key=rank) if limit is None else heapq.nsmallest(limit, texts, key=rank)
    if config.max_document_bytes is None:
        return sample
    return [text.encode("utf-8")[: config.max_document_bytes].decode("utf-8", "ignore") for text in sample]
