"""Read the items of a task from a file of rows, and encode items as tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet
from etils import epath

from lossline_jax.config.evaluation import ChoiceTask
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.item import Item, delimited_item, first_of_many, joined_item
from lossline_jax.evaluate.tasks.specs import TaskSpec, load_spec, spec_items
from lossline_jax.storage.inputs import ENDINGS, file_kind, numbered_lines, open_input, parse_object
from lossline_jax.storage.object_store import reachable_path

if TYPE_CHECKING:
    from lossline_jax.data.tokenizers.build import Tokenizer


def read_items(task: ChoiceTask, spec: TaskSpec | None = None) -> list[Item]:
    """Return the items of a file of JSON lines, compressed or not, or of a Parquet file.

    Without a spec, a row has one of three forms:

    - `context`, `choices` (each with its own leading space) and `gold`;
    - `partial_contexts`, `gold` and one `continuation` for all contexts: partial scoring (WinoGrande; Trinh & Le 2018);
    - `context` and `continuation`, joined by a space (LAMBADA).

    With `task.max_items`, the kept items are spread evenly over the file, because files are often sorted by subject.

    Args:
        task: the task, which has the path of the file.
        spec: the loaded spec of the task. None: it is loaded from `task.spec`, if the task has one.

    Raises:
        LosslineError: the file cannot be read, a row is not an item, or the file mixes kinds of items. The message
            names the file and line of the first such row.
    """
    if spec is None and task.spec is not None:
        spec = load_spec(task.spec)
    items, problems = [], []
    for where, row in _rows(reachable_path(task.path)):
        try:
            fields = row if isinstance(row, dict) else parse_object(row, where)
            items += spec_items(spec, fields, where) if spec else [_own_form(fields, where)]
        except LosslineError as error:
            problems.append(str(error))
    if problems:
        raise LosslineError(first_of_many(problems))
    _check_kind(items)
    if task.max_items is not None and task.max_items < len(items):
        kept = np.linspace(0, len(items) - 1, task.max_items).round().astype(int)
        items = [items[k] for k in kept]
    if len(items) < 2:
        raise LosslineError(f"{task.path}: {len(items)} items; task {task.name!r} needs at least 2")
    return items


def _check_kind(items: Sequence[Item]) -> None:
    """Refuse a mix of items with one option and items with several options, because their accuracy differs.

    A single option is right if greedy decoding gives it. One of several options is right if it has the fewest nats.
    """
    odd_items = [item for item in items if (len(item.options) == 1) != (len(items[0].options) == 1)]
    if odd_items:
        one, several = "one option", "several options"
        kind, kind_before = (one, several) if len(odd_items[0].options) == 1 else (several, one)
        raise LosslineError(
            f"{odd_items[0].where}: an item of {kind} after items of {kind_before}, whose accuracy means something "
            "else; give each kind its own file and its own ChoiceTask"
        )


def _rows(path: epath.Path) -> Iterator[tuple[str, str | dict[str, Any]]]:
    """Yield each row, and before it the name of the row in messages. A row is a dict, or a line of JSON as text."""
    what = "task file; fix `path` of its ChoiceTask"
    match file_kind(path).form:
        case "parquet":
            for number, row in enumerate(_parquet_rows(path, what), start=1):
                yield f"{path}: row {number}", row
        case "csv" | "tsv":
            raise LosslineError(f"{path}: a task is JSON lines (also with {ENDINGS}) or Parquet; convert the file")
        case _:
            yield from numbered_lines(path, what)


def _parquet_rows(path: epath.Path, what: str) -> list[dict[str, Any]]:
    try:
        with open_input(path, what) as file:
            return pyarrow.parquet.read_table(pyarrow.BufferReader(file.read())).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise LosslineError(f"{path}: cannot be read ({message}); fetch the file again") from error


def _own_form(fields: dict[str, Any], where: str) -> Item:
    if "partial_contexts" in fields:
        contexts = _strings(fields, "partial_contexts", where)
        options = (_string(fields, "continuation", where),) * len(contexts)
    elif "choices" in fields:
        options = _strings(fields, "choices", where)
        contexts = (_string(fields, "context", where),) * len(options)
    elif "continuation" in fields:
        texts = [_string(fields, name, where) for name in ("context", "continuation")]
        return delimited_item(texts[:1], texts[1:], delimiter=" ", gold=0, where=where)
    else:
        raise LosslineError(
            f"{where}: has neither `choices` nor `continuation` (its fields: {', '.join(fields)}); "
            "give the task a `spec` that turns such rows into items"
        )
    gold = fields.get("gold")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(options):
        raise LosslineError(f"{where}: `gold` is {gold!r}; it must be an index 0 .. {len(options) - 1}")
    return joined_item(contexts, options, gold, where)


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
    """A context and its continuation as tokens."""

    context_ids: np.ndarray  # int32
    option_ids: np.ndarray  # int32
    num_bytes: int  # UTF-8 bytes of the scored continuation
    apart: bool  # whether the two were encoded apart, because no token of the joined text begins at the continuation


def encode_option(tokenizer: "Tokenizer", context: str, option: str) -> OptionTokens:
    """Return the tokens of `option` as the continuation of `context`.

    White space at the end of the context counts as the beginning of the option, as in lm-evaluation-harness, because
    tokenizers attach a space to the next word. The joined text is encoded, and its tokens are split after as many
    tokens as the context alone has.

    If the joined text has no token boundary there (the option continues a word), context and option are encoded apart.
    Then exactly the bytes of the option are scored: the option gets no space that the tokenizer adds before a text.

    Args:
        tokenizer: the tokenizer.
        context: the text before the option.
        option: the text to score.

    Raises:
        LosslineError: the option begins inside a word, and the tokenizer cannot encode the rest of a word.
    """
    stem = context.rstrip()
    option = context[len(stem) :] + option
    context_ids, joined_ids = tokenizer.encode(stem), tokenizer.encode(stem + option)
    split = len(context_ids)
    apart = not np.array_equal(joined_ids[:split], context_ids) or _is_fused(tokenizer, context_ids, joined_ids, option)
    option_ids = tokenizer.encode_rest(option) if apart else joined_ids[split:]
    return OptionTokens(context_ids, option_ids, len(option.encode("utf-8")), apart)


def _is_fused(tokenizer: "Tokenizer", context_ids: np.ndarray, joined_ids: np.ndarray, option: str) -> bool:
    """Return whether one unknown token of the joined text covers letters on both sides of the cut.

    Some tokenizers, such as T5's, encode consecutive unknown letters as one token. Then the option has its own token
    for its unknown letters only if it is encoded apart.
    """
    unknown = context_ids[-1:]
    if not tokenizer.fuses_unknown or not len(unknown) or tokenizer.surface(unknown):  # an unknown token has no bytes
        return False
    first_after_cut = joined_ids[len(context_ids) :][:1]
    return not np.array_equal(first_after_cut, unknown) and np.array_equal(tokenizer.encode_rest(option)[:1], unknown)


def encode_item(tokenizer: "Tokenizer", item: Item, context_length: int) -> list[OptionTokens]:
    """Return the tokens of every option of an item.

    Args:
        tokenizer: the tokenizer.
        item: the item.
        context_length: the largest number of tokens of an option.

    Raises:
        LosslineError: an option encodes to nothing, cannot be encoded, or is longer than the context.
    """
    encoded = []
    for k, (context, option) in enumerate(zip(item.contexts, item.options, strict=True)):
        try:
            tokens = encode_option(tokenizer, context, option)
        except LosslineError as error:
            raise LosslineError(f"{item.where}: option {k}: {error}") from error
        if not option or not len(tokens.option_ids):
            raise LosslineError(f"{item.where}: option {k} ({option!r}) encodes to no tokens; remove the item")
        if len(tokens.option_ids) > context_length:
            raise LosslineError(
                f"{item.where}: option {k} has {len(tokens.option_ids)} tokens, more than "
                f"suite.context_length={context_length}; raise that or shorten the option"
            )
        encoded.append(tokens)
    return encoded
