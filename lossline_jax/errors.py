"""The exceptions that a user can act on, and parts of their messages: install hints and "did you mean"."""

import difflib
import typing
from collections.abc import Callable, Mapping
from typing import Any

BUSY_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, try again later
RESTART_EXIT_CODE = 42  # "checkpointed, restart me": xpk and the scripts in launch/ restart a run on this code


class LosslineError(Exception):
    """An error that the user can fix. Its message is one line: where it is, what is wrong, and what to do.

    The command line prints the message without a stack trace and exits with `exit_code`.
    """

    exit_code = 2


class ArgumentError(LosslineError):
    """An error in an argument of a function. On the command line the argument is a flag.

    The message is a template. `{level}` stands for the argument `level`, and `values` fill in the other fields.
    `{at_x}` stands for the argument `x` of a prediction, whose flag is --at-x because --x names a column.

    Args:
        template: the message, with fields in braces.
        **values: values of the fields that are not names of arguments.
    """

    def __init__(self, template: str, **values: Any) -> None:
        super().__init__(template.format_map(_Filled(values, lambda name: name.removeprefix("at_"))))
        self._template, self._values = template, values

    def message_with(self, spelling: Callable[[str], str]) -> str:
        """Return the message for another way to write arguments.

        Args:
            spelling: turns the name of an argument into the text for the message, such as the name of a flag.
        """
        return self._template.format_map(_Filled(self._values, spelling))


class _Filled(dict):
    """The values of a template's fields, where a field without a value is the name of an argument."""

    def __init__(self, values: Mapping[str, Any], spelling: Callable[[str], str]) -> None:
        super().__init__(values)
        self._spelling = spelling

    def __missing__(self, name: str) -> str:
        return self._spelling(name)


def install_hint(extra: str) -> str:
    """Return the command that installs an extra. lossline is on no package index, so the command needs a checkout.

    Args:
        extra: name of an extra in setup.py.
    """
    return f"pip install -e '.[{extra}]' in your checkout of lossline"


Explainer = Callable[[Exception], LosslineError | None]
_explainers: list[Explainer] = []


def explain_with(explainer: Explainer) -> None:
    """Register a function that turns errors of a library into errors with a message for the user.

    Args:
        explainer: returns the error for the user. None: it does not know the library's error.
    """
    if explainer not in _explainers:
        _explainers.append(explainer)


def explanation(error: Exception) -> LosslineError | None:
    """Return an error with a message for the user. None: no registered explainer knows `error`.

    Args:
        error: the error of a library.
    """
    return next((known for explain in _explainers if (known := explain(error)) is not None), None)


class RunLocked(LosslineError):
    """The error that another process is working on the run. The user can give the same command again later."""

    exit_code = BUSY_EXIT_CODE


class Restart(LosslineError):
    """The error that an event outside the run has stopped it. The same command continues the run.

    Examples are a process that died and a machine that its owner takes back.
    """

    exit_code = RESTART_EXIT_CODE


class RunFailed(LosslineError):
    """The error that a run cannot continue (non-finite loss, damaged checkpoint). A new try would fail too."""

    exit_code = 1


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """Return `; did you mean 'x'?` as the end of a message, or an empty string if no known name is similar.

    Args:
        name: name as the user wrote it.
        known: valid names.
    """
    match = likeliest_name(name, known)
    return f"; did you mean {match!r}?" if match else ""


def likeliest_name(name: str, known: typing.Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`. None: no name is similar.

    Args:
        name: name as the user wrote it.
        known: valid names.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)
