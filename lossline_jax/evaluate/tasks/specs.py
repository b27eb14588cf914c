"""Turn a row of a dataset into an item by a declarative spec of prompt, options and scoring in a TOML file.

`task_specs.toml` has the built-in specs, and docs/tasks.md explains how to write another spec. Templates and
expressions are Jinja in a sandbox, because a spec is data and not code. They use the fields of the row, and a missing
field is an error.
"""

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import jinja2
from etils import epath
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lossline_jax.config.serialise import from_json
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.evaluate.tasks.item import Item, delimited_item
from lossline_jax.storage.inputs import read_text
from lossline_jax.storage.object_store import reachable_path

BUILT_IN = epath.Path(__file__).parent / "task_specs.toml"
FIELDS_OF_SCORING = {
    "choice": {"context", "options", "gold"},
    "partial": {"options", "continuation", "gold"},
    "continuation": {"context", "continuation"},
}
EXPRESSIONS = ("options", "gold", "labels", "filter")
TEMPLATES = ("context", "continuation")


@dataclass(frozen=True)
class TaskSpec:
    """A spec of one task in a TOML file. A template gives text with `{{ }}`. An expression, without braces, is a value.

    `FIELDS_OF_SCORING` has the fields that each kind of scoring needs. None: the spec does not have the field.
    """

    source: str  # the source of the wording, for the losses table
    scoring: Literal["choice", "partial", "continuation"]
    context: str | None = None  # template
    options: str | None = None  # expression for a list of texts; in partial scoring the contexts to choose from
    continuation: str | None = None  # template for the text that is scored after every context
    gold: str | None = None  # expression for the index or the label of the correct option
    labels: str | None = None  # expression for the list of labels that `gold` is searched in
    delimiter: str = " "  # the text between a context and the scored text
    filter: str | None = None  # expression that is true if the row is an item


def load_spec(name: str) -> TaskSpec:
    """Return a task spec.

    Args:
        name: the name of a built-in spec, or `path.toml:name` for a spec in a user's file.

    Raises:
        LosslineError: there is no such file or spec, or the spec is not well formed. The message names the file, the
            spec and the field.
    """
    path, _, name = name.rpartition(":")
    file = reachable_path(path) if path else BUILT_IN
    specs = _read_toml(file)
    if name not in specs:
        problem = f"{file}: has no task spec {name!r}" if path else f"there is no built-in task spec {name!r}"
        hint = "" if path else "; name a spec of your own as my_tasks.toml:name"
        raise LosslineError(f"{problem}{suggestion(name, specs) or f'; there are {sorted(specs)}'}{hint}")
    spec = from_json(TaskSpec, specs[name], f"{file}: {name}")
    _check(spec, f"{file}: {name}")
    return spec


def spec_items(spec: TaskSpec, row: Mapping[str, Any], where: str) -> list[Item]:
    """Return a list with the item of a dataset row, or an empty list if the spec's filter leaves the row out.

    Args:
        spec: the spec of the task.
        row: the fields of the row.
        where: the name of the row in messages.

    Raises:
        LosslineError: a field of the row is missing or null, or the row cannot be scored.
    """
    values = {}
    row = _without_nulls(row)
    if spec.filter is not None and not _value(spec, "filter", row, where):
        return []
    for name in ("context", "options", "continuation", "labels", "gold"):
        if getattr(spec, name) is not None:
            values[name] = _value(spec, name, row, where)
    if spec.scoring == "continuation":
        contexts, texts = (values["context"],), (values["continuation"],)
        return [delimited_item(contexts, texts, delimiter=spec.delimiter, gold=0, where=where)]
    options = values["options"]
    if not isinstance(options, (list, tuple)) or len(options) < 2 or not all(isinstance(o, str) for o in options):
        raise LosslineError(f"{where}: `options` gives {options!r:.80}; it must list at least 2 texts")
    gold = _index(values["gold"], values.get("labels"), len(options), where)
    if spec.scoring == "partial":
        contexts, texts = options, (values["continuation"],) * len(options)
    else:
        contexts, texts = (values["context"],) * len(options), options
    return [delimited_item(contexts, texts, delimiter=spec.delimiter, gold=gold, where=where)]


def _without_nulls(value: Any, name: str = "") -> Any:
    """Replace each null by an undefined field, because Jinja would print null as the word "None"."""
    if value is None:
        return jinja2.StrictUndefined(hint=f"'{name}' is null")
    if isinstance(value, Mapping):
        return {key: _without_nulls(element, key) for key, element in value.items()}
    if isinstance(value, list):
        return [_without_nulls(element, f"{name}[{k}]") for k, element in enumerate(value)]
    return value


def _index(gold: Any, labels: Any, num_options: int, where: str) -> int:
    if labels is not None:
        if not isinstance(labels, (list, tuple)) or isinstance(gold, (bool, float)) or gold not in labels:
            raise LosslineError(f"{where}: `gold` gives {gold!r}, which is not among its labels {labels!r:.80}")
        gold = labels.index(gold)
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < num_options:
        raise LosslineError(f"{where}: `gold` gives {gold!r}; it must be an index 0 .. {num_options - 1}")
    return gold


def _value(spec: TaskSpec, name: str, row: Mapping[str, Any], where: str) -> Any:
    source = getattr(spec, name)
    try:
        if name in TEMPLATES:
            return _template(source).render(row)
        return _defined(_expression(source)(row))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LosslineError(f"{where}: `{name}` of its task spec fails ({reason}); fix the row or the spec") from error


def _defined(value: Any) -> Any:
    """Return the value. Raise an error if the value or an element of it is a missing field."""
    for element in [value, *(value if isinstance(value, (list, tuple)) else [])]:
        if isinstance(element, jinja2.Undefined):
            str(element)  # a strict Undefined raises here, with the name of the field
    return value


def _read_toml(file: epath.Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(file, "file of task specs; fix `spec` of the ChoiceTask"))
    except tomllib.TOMLDecodeError as error:
        raise LosslineError(f"{file}: not TOML ({error}); fix the file") from error


def _check(spec: TaskSpec, where: str) -> None:
    needed = FIELDS_OF_SCORING[spec.scoring]
    optional = {"source", "scoring", "delimiter", "filter", *({"labels"} if "gold" in needed else ())}
    given = {f.name for f in fields(spec) if getattr(spec, f.name) is not None}
    if needed - given:
        raise LosslineError(f"{where}: scoring {spec.scoring!r} needs {sorted(needed - given)}; add what is missing")
    if unused := given - needed - optional:
        raise LosslineError(f"{where}: scoring {spec.scoring!r} does not use {sorted(unused)}; remove these fields")
    for name in sorted(given & {*TEMPLATES, *EXPRESSIONS}):
        try:
            (_template if name in TEMPLATES else _expression)(getattr(spec, name))
        except jinja2.TemplateSyntaxError as error:
            source = getattr(spec, name)
            raise LosslineError(f"{where}.{name}: not Jinja ({error.message}); fix {source!r}") from error


@functools.cache
def _template(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@functools.cache
def _expression(source: str) -> Any:
    return _environment().compile_expression(source, undefined_to_none=False)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_finalize
    )
    environment.filters["int"] = _int
    environment.filters["regex_replace"] = _regex_replace
    return environment


def _finalize(value: Any) -> Any:
    if value is None:
        raise ValueError("an expression gives none")
    return value


def _int(value: Any) -> int:
    """Return a whole number, or raise an error.

    Jinja's own filter gives 0 for a value that is not a number. A row without a label would then count the first option
    as correct.
    """
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError(f"{value!r} is not an integer")
    return number


def _regex_replace(text: str, pattern: str, replacement: str) -> str:
    return re.sub(pattern, replacement, text)
