"""Conversion of frozen dataclasses to JSON and strictly back, and the fingerprint of their content."""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from lossline_jax.errors import LosslineError, likeliest_name, suggestion
from lossline_jax.formatting import utf8

T = TypeVar("T")
NO_CLASSES: Mapping[str, type] = types.MappingProxyType({})


def to_json(value: Any) -> Any:
    """Return a dataclass tree as plain JSON values. Each dataclass carries its class name under `type`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    return value


def fingerprint(value: Any, digits: int = 10) -> str:
    """Return the first hex digits of the SHA-256 of the canonical JSON of `value`.

    A field that is declared with `since` in its metadata is left out while it has its default value, at every depth.
    Ids from before the field existed therefore stay valid. The default and the meaning of such a field may never
    change.

        tied: bool = dataclasses.field(default=False, metadata={"since": 2})

    Args:
        value: a dataclass tree, as `to_json` takes it.
        digits: number of hex digits to return.

    Raises:
        TypeError: a field with `since` in its metadata has no default to compare with.
    """
    canonical = json.dumps(identity(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(utf8(canonical, "a configuration")).hexdigest()[:digits]


def identity(value: Any) -> Any:
    """Return the JSON of `to_json` without the `since` fields that have their default value.

    Args:
        value: a dataclass tree, as `to_json` takes it.

    Raises:
        TypeError: a field with `since` in its metadata has no default to compare with.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if "since" not in f.metadata or not _is_at_default(value, f)]
        return {"type": type(value).__name__} | {f.name: identity(getattr(value, f.name)) for f in fields}
    if isinstance(value, (list, tuple)):
        return [identity(item) for item in value]
    if isinstance(value, dict):
        return {str(key): identity(item) for key, item in value.items()}
    return value


def _is_at_default(value: Any, field: dataclasses.Field) -> bool:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        raise TypeError(f"{type(value).__name__}.{field.name} has `since` in its metadata and needs a default")
    return to_json(getattr(value, field.name)) == to_json(default)


def from_json(cls: type[T], value: Any, where: str = "config", classes: Mapping[str, type] = NO_CLASSES) -> T:
    """Return the value that `to_json` was given.

    A field that is declared with `formerly` in its metadata is also read under that earlier name. A field that is
    part of an identity may not be renamed in this way.

    Args:
        cls: the annotated type to build. The `type` of the JSON selects one dataclass of a union.
        value: plain JSON values.
        where: start of the error message. The path of the field is appended.
        classes: further dataclasses by name. Each may stand where a union has one of its base classes.

    Raises:
        LosslineError: a field is unknown or missing, or a value has the wrong type.
    """
    return _Decoder(classes).decode(cls, value, where)


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """A reader of JSON that knows further dataclasses by name."""

    classes: Mapping[str, type]

    def decode(self, hint: Any, value: Any, where: str) -> Any:
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            return self._decode_union(typing.get_args(hint), value, where)
        if origin is typing.Literal:
            if value not in typing.get_args(hint):
                raise LosslineError(f"{where}: {value!r} is not one of {list(typing.get_args(hint))}")
            return value
        if origin is tuple:
            return self._decode_tuple(typing.get_args(hint), value, where)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self._decode_dataclass(hint, value, where)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
            raise LosslineError(f"{where}: expected {hint.__name__}, got {value!r}")
        return value

    def _decode_union(self, choices: tuple, value: Any, where: str) -> Any:
        if value is None and type(None) in choices:
            return None
        classes: dict[str, type] = {
            c.__name__: c for c in choices if isinstance(c, type) and dataclasses.is_dataclass(c)
        }
        classes |= {name: c for name, c in self.classes.items() if not set(c.__mro__).isdisjoint(classes.values())}
        if isinstance(value, dict) and classes:
            name = value.get("type")
            if not isinstance(name, str) or name not in classes:
                raise LosslineError(
                    f"{where}: type {name!r} is not one of {sorted(classes)}{suggestion(str(name), classes)}"
                )
            return self._decode_dataclass(classes[name], value, where)
        plain = [c for c in choices if c is not type(None) and not dataclasses.is_dataclass(c)]
        for choice in plain:
            try:
                return self.decode(choice, value, where)
            except LosslineError:
                continue
        raise LosslineError(f"{where}: {value!r} is none of {[getattr(c, '__name__', c) for c in choices]}")

    def _decode_tuple(self, args: tuple, value: Any, where: str) -> tuple:
        if not isinstance(value, (list, tuple)):
            short = value.get("type", "a mapping") if isinstance(value, dict) else repr(value)
            raise LosslineError(f"{where}: expected a tuple, got {short}; a tuple of one is written (x,)")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(self.decode(args[0], item, f"{where}[{k}]") for k, item in enumerate(value))
        if len(args) != len(value):
            raise LosslineError(f"{where}: expected {len(args)} items, got {len(value)}")
        return tuple(
            self.decode(arg, item, f"{where}[{k}]") for k, (arg, item) in enumerate(zip(args, value, strict=True))
        )

    def _decode_dataclass(self, cls: type, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise LosslineError(f"{where}: expected the fields of {cls.__name__}, got {value!r}")
        if value.get("type", cls.__name__) != cls.__name__:
            raise LosslineError(f"{where}: type {value['type']!r} is not {cls.__name__!r}, which belongs here")
        hints = typing.get_type_hints(cls)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        new_names: dict[str, str] = {
            f.metadata["formerly"]: f.name for f in fields.values() if "formerly" in f.metadata
        }
        named_values: dict[str, Any] = value
        given = {new_names.get(name, name): item for name, item in named_values.items() if name != "type"}
        for name in given:
            if name not in fields:
                raise LosslineError(
                    f"{where}: {cls.__name__} has no field {name!r}{suggestion(name, fields)}"
                    f"{'' if likeliest_name(name, fields) else f'; it has {sorted(fields)}'}"
                )
        missing = [
            f.name
            for f in fields.values()
            if f.name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise LosslineError(f"{where}: {cls.__name__} needs {missing}")
        return cls(**{name: self.decode(hints[name], item, f"{where}.{name}") for name, item in given.items()})
