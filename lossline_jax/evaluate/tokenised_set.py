"""Tokenise one evaluation set: the documents of a validation split, or the items of a task."""

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

# The version of scoring, a part of every fingerprint. Raise it when the scores of the same tokens change their meaning:
# the answers counted as right, the average or the divisor. Old rows are then scored again, and not mixed with new rows.
SCORING = 1

# The version of options that are encoded apart from their context. It concerns tokenizers that begin every text with a
# space or fuse unknown letters. Raise it when such options get other tokens. Suites of these tokenizers are then
# prepared again, and the sets with changed tokens are scored again.
# 2: an option has no added space, and has its own token for its unknown letters.
OPTIONS_APART = 2


@dataclass(frozen=True)
class TokenisedSet:
    """A set in tokens, before it is packed together with other sets."""

    name: str
    kind: str  # "validation" or "task"
    definition: str  # the loss in words: the quantity, the average, and the context
    requests: tuple[Request, ...]
    num_truncated: int = 0  # items of a task whose context lost its start, because the window is too short

    @property
    def n(self) -> int:
        """The number of documents or items."""
        return sum(request.gold for request in self.requests)

    @property
    def fingerprint(self) -> str:
        """A hash of the tokens, of the choice of scored tokens, and of `SCORING`.

        It does not depend on other sets or on the row lengths.
        """
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
    """Tokenise a validation set. Each document has its own BOS and is cut into sliding windows.

    Args:
        config: the set, with its limits.
        texts: the held-out documents of the corpus.
        tokenizer: the tokenizer.
        suite: the suite, for the context length and the overlap of the windows.

    Raises:
        LosslineError: there are fewer than 2 documents, a document has no tokens, or no document fills the context.
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
        windows = document_texts(ids, tokenizer.bos_id, suite.context_length, suite.overlap)
        # The whole document is scored, so its bytes are the bytes of its text, even if the tokenizer is lossy.
        num_bytes = len(text.encode("utf-8"))
        requests.append(Request(tuple(windows), item, option=0, gold=True, num_bytes=num_bytes, num_chars=len(text)))
    return TokenisedSet(config.name, "validation", _validation_definition(config, suite), tuple(requests))


def tokenise_items(
    name: str, items: Sequence[Item], tokenizer: "Tokenizer", suite: SuiteConfig, *, prompts: str | None = None
) -> TokenisedSet:
    """Tokenise a task. Every option of every item comes after BOS and the end of its context.

    Args:
        name: the name of the task.
        items: the items of the task.
        tokenizer: the tokenizer.
        suite: the suite, for the context length.
        prompts: the source of the wording of the items, for the loss definition. None: not stated.

    Raises:
        LosslineError: some options cannot be scored. The message names the file and line of the first one, and the
            number of the rest.
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
            num_bytes, num_chars, is_gold = option.num_bytes, item.num_chars[k], k == item.gold
            requests.append(Request((text,), number, option=k, gold=is_gold, num_bytes=num_bytes, num_chars=num_chars))
        is_apart |= any(option.apart for option in options)
        num_truncated += any(
            len(option.context_ids) + len(option.option_ids) > suite.context_length for option in options
        )
    if problems:
        raise LosslineError(first_of_many(problems))
    definition = _task_definition(items, prompts, bare=is_apart and changes_apart(tokenizer))
    return TokenisedSet(name, "task", definition, tuple(requests), num_truncated)


def changes_apart(tokenizer: "Tokenizer") -> bool:
    """Return whether `OPTIONS_APART` concerns a tokenizer, which adds a prefix to texts or fuses unknown letters.

    Args:
        tokenizer: the tokenizer.
    """
    return tokenizer.adds_prefix or tokenizer.fuses_unknown


def _validation_definition(config: ValidationSet, suite: SuiteConfig) -> str:
    windows = f"windows of {suite.context_length} tokens, {suite.overlap} of them context"
    cut = f"; the first {config.max_document_bytes} bytes of a document" if config.max_document_bytes else ""
    return f"token-weighted; {windows}{cut}; BOS first"


def _task_definition(items: Sequence[Item], prompts: str | None, bare: bool) -> str:
    """Return the loss definition of a task.

    `bare` says that some options begin inside a word and lack the space that the tokenizer adds before a text.
    """
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
    """Return at most `max_documents` of the texts, chosen by salted hash, because a corpus may be sorted.

    Without a limit the texts have the same order. So a limit above the number of documents does not change the set.
    """

    def rank(text: str) -> bytes:
        return hashlib.sha256(b"lossline validation sample\n" + text.encode("utf-8")).digest()

    limit = config.max_documents
    sample = sorted(texts, key=rank) if limit is None else heapq.nsmallest(limit, texts, key=rank)
    if config.max_document_bytes is None:
        return sample
    return [text.encode("utf-8")[: config.max_document_bytes].decode("utf-8", "ignore") for text in sample]
