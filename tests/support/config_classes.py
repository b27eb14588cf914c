"""Find the config classes that a study is made of."""

import dataclasses
import typing


def parts(hint):
    """Return the types that an annotation is made of."""
    arguments = typing.get_args(hint)
    return {part for argument in arguments for part in parts(argument)} if arguments else {hint}


def reachable(kind):
    """Return every config class that a value of `kind` may hold."""
    kinds = {kind}
    for hint in typing.get_type_hints(kind).values():
        for part in parts(hint):
            if dataclasses.is_dataclass(part):
                kinds |= reachable(part)
    return kinds
