"""The exceptions that a user can act on, the words for a missing package, and "did you mean"."""

import difflib
import typing
from collections.abc import Callable, Mapping
from typing import Any

BUSY_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, try again later
RESTART_EXIT_CODE = 42  # "checkpointed, restart me": xpk and the launchers of this house restart on it


class LosslineError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and the mend.

    The command line prints it without a stack trace and exits with `exit_code`.
    """

    exit_code = 2


class ArgumentError(LosslineError):
    """A fault in an argument of a function, which is a flag where a command called it.

    The message is a template: `{level}` is the argument of that name, and `values` fill in the other fields. `{at_x}`
    is the argument `x` of a prediction, whose flag is --at-x because --x names a column.
    """

    def __init__(self, template: str, **values: Any):
        super().__init__(template.format_map(_Filled(values, _argument)))
        self._template, self._values = template, values

    def said(self, spelling: Callable[[str], str]) -> str:
        """Return the message with the name of each argument as `spelling` writes it."""
        return self._template.format_map(_Filled(self._values, spelling))


def _argument(name: str) -> str:
    return name.removeprefix("at_")


class _Filled(dict):
    """Values of a template, and the names of arguments in another spelling."""

    def __init__(self, values: Mapping[str, Any], spelling: Callable[[str], str]):
        super().__init__(values)
        self._spelling = spelling

    def __missing__(self, name: str) -> str:
        return self._spelling(name)


def install_hint(extra: str) -> str:
    """Return the command that installs an extra of setup.py. lossline is on no index, so a checkout is needed."""
    return f"pip install -e '.[{extra}]' in your checkout of lossline"


Explainer = Callable[[Exception], LosslineError | None]
_explainers: list[Explainer] = []


def explain_with(explainer: Explainer) -> None:
    """Let `explainer` say what an error of a library means for the user; it returns None where it cannot."""
    if explainer not in _explainers:
        _explainers.append(explainer)


def explanation(error: Exception) -> LosslineError | None:
    """Return what an error of a library means for the user. None: no explainer knows it."""
    return next((meaning for explain in _explainers if (meaning := explain(error)) is not None), None)


class RunLocked(LosslineError):
    """Another process is working on the run. It is no mistake: the same command may be given again later."""

    exit_code = BUSY_EXIT_CODE


class Restart(LosslineError):
    """Something outside the run broke off (a peer died, a machine is wanted back): the same command goes on."""

    exit_code = RESTART_EXIT_CODE


class RunFailed(LosslineError):
    """A run that cannot go on (non-finite loss, damaged checkpoint). Permanent: not to be retried."""

    exit_code = 1


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` or an empty string."""
    match = likeliest_name(name, known)
    return f"; did you mean {match!r}?" if match else ""


def likeliest_name(name: str, known: typing.Iterable[str]) -> str | None:
    """Return the known name most like `name`. None: no name is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)
