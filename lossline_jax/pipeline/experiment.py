"""Load an experiment file. It is Python, so it is executed: run only files you trust.

An experiment file defines `def study(...) -> StudyConfig`. The function's arguments are the knobs of the
experiment: each has a type and a default, and each is a flag of the command line. Everything else is derived
from them inside the function, so that no derived number can be overridden out of step with the others.
"""

import contextlib
import functools
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.object_store import expanded

StudyFunction = Callable[..., StudyConfig]


def load_study_function(path: str) -> StudyFunction:
    """The `study` function of an experiment file.

    Raises:
        LosslineError: no such file, it cannot be executed, it has no `study`, or a knob has no type or default.
    """
    path = expanded(path)
    if not Path(path).is_file():
        raise LosslineError(f"{path}: no such experiment file; experiments/ has some to start from")
    module = _execute(Path(path))
    function = getattr(module, "study", None)
    if not callable(function):
        raise LosslineError(f"{path}: needs a function `def study() -> StudyConfig`")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
            raise LosslineError(f"{path}: argument {name!r} of study() needs a type and a default value")

    @functools.wraps(function)
    def named_errors(*args: Any, **kwargs: Any) -> StudyConfig:
        with _errors_named_by_line(path):
            return function(*args, **kwargs)

    return named_errors


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with _errors_named_by_line(str(path)):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _errors_named_by_line(path: str) -> Iterator[None]:
    """Turn whatever the experiment's own code raises into one line that names its file and line."""
    try:
        yield
    except LosslineError:
        raise
    except Exception as error:
        reason = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
        raise LosslineError(f"{path}{_line_in(error, path)}: {type(error).__name__}: {reason}") from error


def _line_in(error: BaseException, filename: str) -> str:
    """`:12`, the last line of `filename` that the error passed through."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if os.path.abspath(trace.tb_frame.f_code.co_filename) == os.path.abspath(filename):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
