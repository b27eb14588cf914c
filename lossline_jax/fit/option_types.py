"""Check the types of the fields of option classes when they are made, before a fit meets a wrong one deep inside."""

import typing
from collections.abc import Collection, Hashable, Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np

from lossline_jax.errors import ArgumentError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "None",
}


def require_field_types(options: "DataclassInstance") -> None:
    """Raise ArgumentError, which names the field and the value, unless each field has a value of its declared type.

    A list, an array or a single text may stand for a tuple of names. numpy's numbers count as numbers.

    Args:
        options: an instance of an option class.
    """
    for name, kind in typing.get_type_hints(type(options)).items():
        if not _is_a(value := getattr(options, name), kind):
            raise ArgumentError(f"{{{name}}}" + ": {value!r} is not {kind}", value=value, kind=_in_words(kind))


def require_options(name: str, options: Any, kind: type) -> None:
    """Raise ArgumentError unless an argument is an instance of its option class.

    Args:
        name: the argument.
        options: its value.
        kind: the option class.
    """
    if not isinstance(options, kind):
        raise ArgumentError(f"{{{name}}}" + ": {value!r} is not {kind}(...)", value=options, kind=kind.__name__)


def _is_a(value: Any, kind: Any) -> bool:
    """Tell whether a value has a type such as `float | None`, `Literal["a", "b"]` or `Mapping[str, float]`."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, UnionType):
        return any(_is_a(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, Hashable) and value in parts
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _is_a(key, parts[0]) and _is_a(item, parts[1]) for key, item in value.items()
        )
    if origin is not None:  # a tuple or a sequence of names
        is_collection = isinstance(value, Collection) and not isinstance(value, Mapping)
        return is_collection and all(_is_a(item, parts[0]) for item in value)
    if kind is bool:
        return isinstance(value, (bool, np.bool_))
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)


def _in_words(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping of names to numbers, such as {'E': 1.6}"
    if origin is not None:
        return "a tuple of names"
    return _WORDS.get(kind, f"{kind.__name__}(...)" if isinstance(kind, type) else str(kind))
