"""Multiple-choice items: from JSONL files, and as tokens."""

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.config import ChoiceTask

if TYPE_CHECKING:
    from lossline_jax.data.tokenizers import Tokenizer


@dataclass(frozen=True)
class Item:
    """One question. Option k is scored as the continuation of context k; `where` names it in errors."""

    contexts: tuple[str, ...]  # the same for every option, but where the options differ inside a sentence
    options: tuple[str, ...]
    gold: int
    where: str


def read_items(task: ChoiceTask) -> list[Item]:
    """Items of a JSONL or JSONL.GZ file.

    A line holds `context`, `choices` (each with its own leading space) and `gold`; or, for partial scoring
    (WinoGrande; Trinh & Le 2018), `partial_contexts` and the `continuation` that all of them share. With
    `task.max_items` the items kept are spread evenly over the file, which is often sorted by subject.

    Raises:
        LosslineError: no such file, not JSONL, or an item that cannot be scored, named by file and line.
    """
    lines = _read_text(epath.Path(task.path)).split("\n")
    items = [_parse(line, f"{task.path}:{k}") for k, line in enumerate(lines, start=1) if line.strip()]
    if len(items) < 2:
        raise LosslineError(f"{task.path}: {len(items)} items; task {task.name!r} needs at least 2")
    if task.max_items is None or task.max_items >= len(items):
        return items
    kept = np.linspace(0, len(items) - 1, task.max_items).round().astype(int)
    return [items[k] for k in kept]


def _read_text(path: epath.Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such task file; mend `path` of its ChoiceTask") from error
    except UnicodeDecodeError as error:
        raise LosslineError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise LosslineError(f"{path}: cannot be read ({error}); fetch the file again") from error


def _parse(line: str, where: str) -> Item:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise LosslineError(f"{where}: not JSON ({error}); each line is one item") from error
    if not isinstance(fields, dict):
        raise LosslineError(f"{where}: expected an object with `context`, `choices` and `gold`")
    if "partial_contexts" in fields:
        contexts = _strings(fields, "partial_contexts", where)
        options = (_string(fields, "continuation", where),) * len(contexts)
    elif "choices" in fields:
        options = _strings(fields, "choices", where)
        contexts = (_string(fields, "context", where),) * len(options)
    else:
        raise LosslineError(
            f"{where}: has no `choices` (its fields: {', '.join(fields)}); only multiple choice can be scored"
        )
    gold = fields.get("gold")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(options):
        raise LosslineError(f"{where}: `gold` is {gold!r}; it must be an index 0 .. {len(options) - 1}")
    return Item(contexts, options, gold, where)


def _string(fields: dict, name: str, where: str) -> str:
    if not isinstance(fields.get(name), str):
        raise LosslineError(f"{where}: `{name}` is {fields.get(name)!r}; it must be a string")
    return fields[name]


def _strings(fields: dict, name: str, where: str) -> tuple[str, ...]:
    value = fields[name]
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
        raise LosslineError(f"{where}: `{name}` is {value!r:.80}; it must list at least 2 strings")
    return tuple(value)


@dataclass(frozen=True)
class OptionTokens:
    """A context and its continuation as tokens (int32), and the UTF-8 bytes of the scored continuation."""

    context_ids: np.ndarray
    option_ids: np.ndarray
    num_bytes: int


def encode_option(tokenizer: "Tokenizer", context: str, option: str) -> OptionTokens:
    """Tokens of `option` as the continuation of `context`.

    White space at the end of the context counts as the beginning of the option (as in lm-evaluation-harness):
    tokenizers attach a space to the word after it. The tokens are those of the joined text, split after the
    tokens of the context alone. Where the joined text has no token boundary there (an option that goes on
    inside a word), the two are encoded apart, so that exactly the bytes of the option are scored.
    """
    stem = context.rstrip()
    option = context[len(stem) :] + option
    context_ids, joined_ids = tokenizer.encode(stem), tokenizer.encode(stem + option)
    split = len(context_ids)
    is_boundary = np.array_equal(joined_ids[:split], context_ids)
    option_ids = joined_ids[split:] if is_boundary else tokenizer.encode(option)
    return OptionTokens(context_ids, option_ids, len(option.encode("utf-8")))


def encode_item(tokenizer: "Tokenizer", item: Item, context_length: int) -> list[OptionTokens]:
    """Tokens of every option of an item.

    Raises:
        LosslineError: an option encodes to nothing or is longer than the window.
    """
    encoded = []
    for k, (context, option) in enumerate(zip(item.contexts, item.options, strict=True)):
        tokens = encode_option(tokenizer, context, option)
        if not option or not len(tokens.option_ids):
            raise LosslineError(f"{item.where}: option {k} ({option!r}) encodes to no tokens; remove the item")
        if len(tokens.option_ids) > context_length:
            raise LosslineError(
                f"{item.where}: option {k} has {len(tokens.option_ids)} tokens, more than "
                f"suite.context_length={context_length}; raise that or shorten the option"
            )
        encoded.append(tokens)
    return encoded
