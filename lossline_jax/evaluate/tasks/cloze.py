"""Make cloze items from held-out text. A cloze item asks for the true continuation of a passage.

Items are made from text, before tokenisation, so every model of a study answers the same questions.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lossline_jax.config.evaluation import ClozeTask
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.item import Item, joined_item

# A cut searches at most this many bytes for white space. Without white space it splits a word between two characters.
WORD_SLACK_BYTES = 32


class Passage(NamedTuple):
    """A stretch of one document in two parts. The white space between the parts belongs to the continuation."""

    context: str
    continuation: str


def cloze_items(task: ClozeTask, texts: Iterable[str]) -> list[Item]:
    """Return `task.num_items` items, spread as evenly over the documents as their lengths allow.

    The wrong options are true continuations in other documents. The same texts and seed give the same items.

    Args:
        task: the task.
        texts: the held-out documents of the task's corpus.

    Raises:
        LosslineError: the task has fewer than 2 items, or the corpus has too few documents or too little text.
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
    return [_item(task, documents, place, number=number, rng=rng) for number, place in enumerate(chosen)]


def split_passages(task: ClozeTask, text: str) -> list[Passage]:
    """Cut a document into passages of about `context_bytes + continuation_bytes`, end to end.

    Args:
        task: the task, which has the lengths.
        text: the document.
    """
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
    """Return the first word end at least `num_bytes` after character `start`. None: the text is too short."""
    origin = byte_ends[start - 1] if start else 0
    earliest = int(np.searchsorted(byte_ends, origin + num_bytes)) + 1
    if earliest > len(text):
        return None
    latest = int(np.searchsorted(byte_ends, origin + num_bytes + WORD_SLACK_BYTES))
    for end in range(earliest, latest + 1):
        if end == len(text) or (text[end].isspace() and not text[end - 1].isspace()):
            return end
    return earliest


def _spread(documents: Sequence[Sequence[Passage]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return every (document, passage) in random order, in which every document comes once before any comes twice."""
    ranked = [
        (rank, int(tie), d, int(p))
        for d, (tie, passages) in enumerate(zip(rng.permutation(len(documents)), documents, strict=True))
        for rank, p in enumerate(rng.permutation(len(passages)))
    ]
    return [(d, p) for _, _, d, p in sorted(ranked)]


def _item(
    task: ClozeTask,
    documents: Sequence[Sequence[Passage]],
    place: tuple[int, int],
    *,
    number: int,
    rng: np.random.Generator,
) -> Item:
    """Return item `number`, whose correct passage is at `place` = (document, passage)."""
    document_index, passage_index = place
    passage = documents[document_index][passage_index]
    options = [passage.continuation]
    for other in rng.permutation(len(documents)):
        candidate = documents[other][int(rng.integers(len(documents[other])))].continuation
        if other != document_index and candidate not in options:  # documents may share boilerplate text
            options.append(candidate)
        if len(options) == task.num_choices:
            break
    if len(options) < task.num_choices:
        raise LosslineError(
            f"task {task.name!r}: the documents of {task.corpus!r} repeat each other, so an item has only "
            f"{len(options)} different continuations and needs {task.num_choices}; remove the duplicates"
        )
    gold = int(rng.integers(task.num_choices))
    options[0], options[gold] = options[gold], options[0]
    return joined_item((passage.context,) * task.num_choices, options, gold, f"task {task.name!r}, item {number}")
