"""Load an experiment file. The file is Python and is executed, so load only files that you trust.

An experiment file defines `def study(...) -> StudyConfig`. The arguments of the function are the knobs of the
experiment. Each knob has a type and a default value, and becomes a flag of the command line. The function derives
all other numbers from the knobs, so that no derived number can disagree with them.
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

from lossline_jax.config.custom import classes_of_module
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.shipped import experiment_names
from lossline_jax.storage.object_store import expanded

StudyFunction = Callable[..., StudyConfig]


def load_study_function(path: str) -> StudyFunction:
    """Return the `study` function of an experiment file.

    Args:
        path: path of the file.

    Raises:
        LosslineError: the file does not exist, cannot be executed or has no `study`, or a knob has no type or default.
    """
    path = expanded(path)
    if not Path(path).is_file():
        name = Path(path).stem
        shipped_too = f", and lossline has one that goes by its name: {name}" if name in experiment_names() else ""
        raise LosslineError(f"{path}: no such experiment file; `lossline-jax new NAME` writes one{shipped_too}")
    module = _execute(Path(path))
    function: StudyFunction | None = getattr(module, "study", None)
    if not callable(function):
        raise LosslineError(f"{path}: needs a function `def study() -> StudyConfig`")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
            raise LosslineError(f"{path}: argument {name!r} of study() needs a type and a default value")

    @functools.wraps(function)
    def named_errors(*args: Any, **kwargs: Any) -> StudyConfig:
        with errors_named_by_line(path):
            return function(*args, **kwargs)

    return named_errors


def load_classes(path: str) -> dict[str, type]:
    """Return the classes that an experiment file defines or imports for its own runs, by name.

    Args:
        path: path of the file, which is executed.

    Raises:
        LosslineError: the file does not exist or cannot be executed, or it has no such class.
    """
    path = expanded(path)
    if not Path(path).is_file():
        raise LosslineError(f"--experiment: {path}: no such experiment file")
    classes = classes_of_module(vars(_execute(Path(path))))
    if not classes:
        raise LosslineError(
            f"--experiment: {path}: defines and imports no objective, algorithm or optimiser of its own"
        )
    return classes


def _execute(path: Path) -> ModuleType:
    """Execute an experiment file. Its folder is searched for modules of its own, such as a class of an objective."""
    name = f"experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LosslineError(f"{path}: not a Python file; name an experiment file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module here
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with errors_named_by_line(str(path)):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@contextlib.contextmanager
def errors_named_by_line(path: str) -> Iterator[None]:
    """Turn any error of the experiment's own code into a one-line message with the file and the line number.

    Args:
        path: the file of this code.

    Raises:
        LosslineError: the code raised an error.
    """
    try:
        yield
    except LosslineError:
        raise
    except Exception as error:  # the code of the user may raise anything
        reason = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
        raise LosslineError(f"{path}{_line_in(error, path)}: {type(error).__name__}: {reason}") from error


def _line_in(error: BaseException, filename: str) -> str:
    """Return the last line of `filename` that the error passed through, such as `:12`. Empty: there is none."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if os.path.abspath(trace.tb_frame.f_code.co_filename) == os.path.abspath(filename):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
