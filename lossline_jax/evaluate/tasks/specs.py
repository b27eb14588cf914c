"""How a row of a dataset becomes an item, as declarative specs: prompt, options and scoring, in a TOML file.

The built-in ones stand in `task_specs.toml`; docs/tasks.md tells how to write another. Templates and expressions
are Jinja in a sandbox, over the fields of the row: a spec is data, and a field that a row lacks is an error.
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
    """One task of a TOML file. Templates give text with `{{ }}`; expressions give a value and have no braces."""

    source: str  # where the wording is from, for the losses table
    scoring: Literal["choice", "partial", "continuation"]
    context: str | None = None  # template
    options: str | None = None  # expression, a list of texts; in partial scoring the contexts to choose from
    continuation: str | None = None  # template, of the text that is scored after every context
    gold: str | None = None  # expression, the index of the correct option or its label
    labels: str | None = None  # expression, the list that `gold` is looked up in
    delimiter: str = " "  # between a context and what is scored after it
    filter: str | None = None  # expression, whether the row is an item at all


def load_spec(name: str) -> TaskSpec:
    """A built-in spec by its name, or that of a user's file as `path.toml:name`.

    Raises:
        LosslineError: no such file or spec, or one that is not well formed, named by file, spec and field.
    """
    path, _, name = name.rpartition(":")
    file = reachable_path(path) if path else BUILT_IN
    specs = _read_toml(file)
    if name not in specs:
        problem = f"{file}: has no task spec {name!r}" if path else f"there is no built-in task spec {name!r}"
        mend = "" if path else "; one of your own is named as my_tasks.toml:name"
        raise LosslineError(f"{problem}{suggestion(name, specs) or f'; there are {sorted(specs)}'}{mend}")
    spec = from_json(TaskSpec, specs[name], f"{file}: {name}")
    _check(spec, f"{file}: {name}")
    return spec


def spec_items(spec: TaskSpec, row: Mapping[str, Any], where: str) -> list[Item]:
    """The item of a row of the dataset, or nothing where the spec's filter leaves the row out.

    Raises:
        LosslineError: the row lacks a field, has null in it, or holds what cannot be scored.
    """
    values = {}
    row = _without_nulls(row)
    if spec.filter is not None and not _value(spec, "filter", row, where):
        return []
    for name in ("context", "options", "continuation", "labels", "gold"):
        if getattr(spec, name) is not None:
            values[name] = _value(spec, name, row, where)
    if spec.scoring == "continuation":
        return [delimited_item((values["context"],), (values["continuation"],), spec.delimiter, 0, where)]
    options = values["options"]
    if not isinstance(options, (list, tuple)) or len(options) < 2 or not all(isinstance(o, str) for o in options):
        raise LosslineError(f"{where}: `options` gives {options!r:.80}; it must list at least 2 texts")
    gold = _index(values["gold"], values.get("labels"), len(options), where)
    if spec.scoring == "partial":
        shared = (values["continuation"],) * len(options)
        return [delimited_item(options, shared, spec.delimiter, gold, where)]
    return [delimited_item((values["context"],) * len(options), options, spec.delimiter, gold, where)]


def _without_nulls(value: Any, name: str = "") -> Any:
    """Each null as an undefined field: as text it would be the word "None"."""
    if value is None:
        return jinja2.StrictUndefined(hint=f"'{name}' is null")
    if isinstance(value, Mapping):
        return {key: _without_nulls(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nulls(each, f"{name}[{k}]") for k, each in enumerate(value)]
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
    except Exception as error:  # an expression may raise anything on a row that it was not written for
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LosslineError(f"{where}: `{name}` of its task spec fails ({reason}); mend the row or the spec") from error


def _defined(value: Any) -> Any:
    """The value itself. Raises where it, or an element of it, is a field that the row lacks."""
    for each in [value, *(value if isinstance(value, (list, tuple)) else [])]:
        if isinstance(each, jinja2.Undefined):
            str(each)  # a strict Undefined says here which field it was
    return value


def _read_toml(file: epath.Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(file, "file of task specs; mend `spec` of the ChoiceTask"))
    except tomllib.TOMLDecodeError as error:
        raise LosslineError(f"{file}: not TOML ({error})") from error


def _check(spec: TaskSpec, where: str) -> None:
    needed = FIELDS_OF_SCORING[spec.scoring]
    optional = {"source", "scoring", "delimiter", "filter", *({"labels"} if "gold" in needed else ())}
    given = {f.name for f in fields(spec) if getattr(spec, f.name) is not None}
    if needed - given:
        raise LosslineError(f"{where}: scoring {spec.scoring!r} needs {sorted(needed - given)}")
    if given - needed - optional:
        raise LosslineError(f"{where}: scoring {spec.scoring!r} has no use for {sorted(given - needed - optional)}")
    for name in sorted(given & {*TEMPLATES, *EXPRESSIONS}):
        try:
            (_template if name in TEMPLATES else _expression)(getattr(spec, name))
        except jinja2.TemplateSyntaxError as error:
            source = getattr(spec, name)
            raise LosslineError(f"{where}.{name}: not Jinja ({error.message}); it reads {source!r}") from error


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
    """Jinja's own gives 0 for what is no number: an unlabelled row would count the first option as correct."""
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError(f"{value!r} is no integer")
    return number


def _regex_replace(text: str, pattern: str, replacement: str) -> str:
    return re.sub(pattern, replacement, text)
