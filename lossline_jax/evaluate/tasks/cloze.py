"""Cloze items from held-out text: which of these continuations belongs to this passage?

Items are made of text, before any tokenizer, so every model of a study answers the same questions.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lossline_jax.config.evaluation import ClozeTask
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.item import Item, joined_item

WORD_SLACK_BYTES = 32  # a cut waits this long for white space, then falls between any two characters


class Passage(NamedTuple):
    """Consecutive text of one document; the white space between the two belongs to the continuation."""

    context: str
    continuation: str


def cloze_items(task: ClozeTask, texts: Iterable[str]) -> list[Item]:
    """`task.num_items` items, spread as evenly over the documents as their lengths allow.

    The wrong options are true continuations of other documents. The same texts and seed give the same items.

    Raises:
        LosslineError: fewer than 2 items asked for, too few documents, or too little text for so many items.
    """
    if task.num_items < 2:
        raise LosslineError(f"task {task.name!r}: num_items={task.num_items}; set it to at least 2")
    documents = [passages for text in texts if (passages := split_passages(task, text))]
    if len(documents) < task.num_choices:
        raise LosslineError(
            f"task {task.name!r}: {len(documents)} held-out documents of {task.corpus!r} are long enough, "
            f"{task.num_choices} are needed; give the corpus more documents, or shorten context_bytes"
        )
    rng = np.random.Generator(np.random.PCG64(task.seed))
    chosen = _spread(documents, rng)[: task.num_items]
    if len(chosen) < task.num_items:
        raise LosslineError(
            f"task {task.name!r}: the held-out text of {task.corpus!r} gives {len(chosen)} items, not "
            f"{task.num_items}; set num_items={len(chosen)} or give the corpus more documents"
        )
    return [_item(task, number, documents, place, rng) for number, place in enumerate(chosen)]


def split_passages(task: ClozeTask, text: str) -> list[Passage]:
    """Cut a document into passages of about `context_bytes + continuation_bytes`, end to end."""
    code_points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    bytes_per_char = 1 + (code_points > 0x7F) + (code_points > 0x7FF) + (code_points > 0xFFFF)
    byte_ends = np.cumsum(bytes_per_char)
    passages, start = [], 0
    while (middle := _cut(text, byte_ends, start, task.context_bytes)) is not None:
        end = _cut(text, byte_ends, middle, task.continuation_bytes)
        if end is None:
            break
        passage = Passage(text[start:middle].lstrip(), text[middle:end])
        if passage.context and not passage.continuation.isspace():
            passages.append(passage)
        start = end
    return passages


def _cut(text: str, byte_ends: np.ndarray, start: int, num_bytes: int) -> int | None:
    """The first word end at least `num_bytes` after character `start`; None beyond the end of the text."""
    origin = byte_ends[start - 1] if start else 0
    earliest = int(np.searchsorted(byte_ends, origin + num_bytes)) + 1
    if earliest > len(text):
        return None
    latest = int(np.searchsorted(byte_ends, origin + num_bytes + WORD_SLACK_BYTES))
    for place in range(earliest, latest + 1):
        if place == len(text) or (text[place].isspace() and not text[place - 1].isspace()):
            return place
    return earliest


def _spread(documents: Sequence[Sequence[Passage]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Every (document, passage) in random order, but all documents once before any of them twice."""
    ranked = [
        (rank, int(tie), d, int(p))
        for d, (tie, passages) in enumerate(zip(rng.permutation(len(documents)), documents, strict=True))
        for rank, p in enumerate(rng.permutation(len(passages)))
    ]
    return [(d, p) for _, _, d, p in sorted(ranked)]


def _item(
    task: ClozeTask,
    number: int,
    documents: Sequence[Sequence[Passage]],
    place: tuple[int, int],
    rng: np.random.Generator,
) -> Item:
    document_index, passage = place
    truth = documents[document_index][passage]
    options = [truth.continuation]
    for other in rng.permutation(len(documents)):
        candidate = documents[other][int(rng.integers(len(documents[other])))].continuation
        if other != document_index and candidate not in options:  # boilerplate recurs from document to document
            options.append(candidate)
        if len(options) == task.num_choices:
            break
    if len(options) < task.num_choices:
        raise LosslineError(
            f"task {task.name!r}: the documents of {task.corpus!r} repeat each other, so an item finds only "
            f"{len(options)} different continuations of {task.num_choices}; remove the duplicates"
        )
    gold = int(rng.integers(task.num_choices))
    options[0], options[gold] = options[gold], options[0]
    return joined_item((truth.context,) * task.num_choices, options, gold, f"task {task.name!r}, item {number}")
