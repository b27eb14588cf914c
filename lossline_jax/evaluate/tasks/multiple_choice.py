"""The items of a task: from files of rows, and as tokens."""

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
    """Items of a file of JSON lines, compressed or not, or of a Parquet file.

    Without a spec a row holds `context`, `choices` (each with its own leading space) and `gold`; or, for partial
    scoring (WinoGrande; Trinh & Le 2018), `partial_contexts` and the `continuation` that all of them share; or
    `context` and the `continuation` that a space joins to it (LAMBADA). With `task.max_items` the items kept are
    spread evenly over the file, which is often sorted by subject.

    Args:
        spec: that of `task.spec` where it has been loaded before.

    Raises:
        LosslineError: a file that cannot be read, rows that are no items or not of the same kind as those before
            them: the first by file and line.
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
    """One option is right where it is what the model would say, one of several where it is the cheapest."""
    others = [item for item in items if (len(item.options) == 1) != (len(items[0].options) == 1)]
    if others:
        one, several = "one option", "several options"
        has, before = (one, several) if len(others[0].options) == 1 else (several, one)
        raise LosslineError(
            f"{others[0].where}: an item of {has} after items of {before}, whose accuracy means something else; "
            "give each kind a file and a ChoiceTask of its own"
        )


def _rows(path: epath.Path) -> Iterator[tuple[str, str | dict[str, Any]]]:
    """What names a row in errors, and the row: a dict, or a line that has yet to be parsed."""
    what = "task file; mend `path` of its ChoiceTask"
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
            "give the task a `spec` that makes items of such rows"
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
    """A context and its continuation as tokens (int32), and the UTF-8 bytes of the scored continuation."""

    context_ids: np.ndarray
    option_ids: np.ndarray
    num_bytes: int
    apart: bool  # whether no token of the joined text begins where the continuation does


def encode_option(tokenizer: "Tokenizer", context: str, option: str) -> OptionTokens:
    """Tokens of `option` as the continuation of `context`.

    White space at the end of the context counts as the beginning of the option (as in lm-evaluation-harness):
    tokenizers attach a space to the word after it. The tokens are those of the joined text, split after the
    tokens of the context alone. Where the joined text has no token boundary there (an option that goes on
    inside a word), the two are encoded apart, so that exactly the bytes of the option are scored: a space that the
    tokenizer puts before every text is not put before the option.

    Raises:
        LosslineError: the option begins inside a word, and the tokenizer cannot say the rest of a word.
    """
    stem = context.rstrip()
    option = context[len(stem) :] + option
    context_ids, joined_ids = tokenizer.encode(stem), tokenizer.encode(stem + option)
    split = len(context_ids)
    apart = not np.array_equal(joined_ids[:split], context_ids) or _is_fused(tokenizer, context_ids, joined_ids, option)
    option_ids = tokenizer.encode_rest(option) if apart else joined_ids[split:]
    return OptionTokens(context_ids, option_ids, len(option.encode("utf-8")), apart)


def _is_fused(tokenizer: "Tokenizer", context_ids: np.ndarray, joined_ids: np.ndarray, option: str) -> bool:
    """Return whether one unknown token of the joined text stands for letters on both sides of the cut.

    Some tokenizers, as T5's, make one token of a row of letters that they do not know. The option then has a token
    for its own unknown letters only where it is encoded apart.
    """
    unknown = context_ids[-1:]
    if not tokenizer.fuses_unknown or not len(unknown) or tokenizer.surface(unknown):  # an unknown token has no bytes
        return False
    behind_cut = joined_ids[len(context_ids) :][:1]
    return not np.array_equal(behind_cut, unknown) and np.array_equal(tokenizer.encode_rest(option)[:1], unknown)


def encode_item(tokenizer: "Tokenizer", item: Item, context_length: int) -> list[OptionTokens]:
    """Tokens of every option of an item.

    Raises:
        LosslineError: an option encodes to nothing, cannot be encoded, or is longer than the window.
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
