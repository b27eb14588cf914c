"""Refuse a class of a study's own that lossline could not use, before any work. This module does not import jax."""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from lossline_jax.config.custom import CUSTOM, METHODS, custom_classes, custom_values
from lossline_jax.config.serialise import to_json
from lossline_jax.errors import LosslineError


def check_custom_classes(config: Any, taken: Collection[str]) -> None:
    """Refuse a class that a run could not be trained with, or that a study could not know by its name and fields.

    Args:
        config: as for `custom.custom_values`.
        taken: names of lossline's own classes that stand in the same fields.

    Raises:
        LosslineError: the message names the class.
    """
    for name, cls in custom_classes(config).items():
        fault = _fault_of_class(cls, taken)
        if fault:
            raise LosslineError(f"{name}: {fault}")
    for value in custom_values(config):
        for field in dataclasses.fields(value):
            if not _is_plain(getattr(value, field.name)):
                raise LosslineError(
                    f"{type(value).__name__}: its field {field.name} is "
                    f"{type(getattr(value, field.name)).__name__}; give a number, a text, None, or a tuple of these"
                )


def _fault_of_class(cls: type, taken: Collection[str]) -> str:
    """Return what is wrong with a class. Empty: nothing."""
    base = next(base for base in CUSTOM if issubclass(cls, base))
    method = METHODS[base]
    if cls.__name__ in taken:
        return "is the name of a class of lossline; choose another one"
    if "__dataclass_fields__" not in vars(cls):
        return "is no dataclass; write @dataclass(frozen=True) above the class"
    if "." in cls.__qualname__:
        return "stands inside another class or function; define it at the top of its file"
    if getattr(cls, method) is getattr(base, method):
        return f"has no method {method!r}, which {base.__name__} asks for"
    hidden = [field.name for field in dataclasses.fields(cls) if not field.init]
    if hidden:
        return f"its field {hidden[0]} is no argument, so the study could not read it back; leave out init=False"
    return ""


def check_read_back(config: Any, read: Any) -> None:
    """Refuse values of a study's own classes that differ after they were written and read.

    Args:
        config: the config as the experiment made it.
        read: the same config after `from_json(to_json(config))`.

    Raises:
        LosslineError: the message names the class.
    """
    for value, same in zip(custom_values(config), custom_values(read), strict=True):
        if value != same:
            raise LosslineError(
                f"{type(value).__name__}: is {value} and would be read back as {same}; "
                "keep the fields as they were given, without a __post_init__ that changes them"
            )


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(to_json(value))
    except (TypeError, ValueError):
        return False
    return True
