"""Progress messages and warnings on stderr. Only results are written to stdout.

If several processes work on one run, only process 0 writes progress messages. Every process writes warnings. Each line
then begins with the index of its process. Characters that the encoding of a stream does not have are written in ASCII.
"""

import codecs
import contextlib
import functools
import io
import logging
import os
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from lossline_jax.formatting import shown_lines

ERRORS = "lossline-plain"  # name of the codec error handler that replaces such characters
PLAIN = {
    **dict.fromkeys("─−–", "-"),
    **dict.fromkeys("╭╮╰╯├┤", "+"),
    **{"│": "|", "±": "+-", "→": "->", "²": "2", "∞": "inf", "…": "...", "’": "'", "“": '"', "”": '"'},
}


@dataclass
class _Process:
    """The index of this process and the number of processes. The launcher sets them, so that jax is not needed."""

    index: int = 0
    count: int = 1


_process = _Process()

ExitHandler = Callable[[int | str | None, bool], None]
_exit_handlers: list[ExitHandler] = []


def set_process(index: int, count: int) -> None:
    """Set the index of this process for all later messages.

    Args:
        index: index of this process, from 0.
        count: number of processes that work on the run.
    """
    _process.index, _process.count = index, count


def is_one_of_several() -> bool:
    """Return True if this process works on a run together with other processes."""
    return _process.count > 1


def process_prefix() -> str:
    """Return the start of each line: `[p1/4] ` in the second of four processes, and nothing in a single process."""
    return f"[p{_process.index}/{_process.count}] " if _process.count > 1 else ""


def result(text: str) -> None:
    """Print a result on stdout."""
    print(shown_lines(text))


class _StderrHandler(logging.Handler):
    """A handler that writes each line with its process to `sys.stderr`, even if that has been replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = "\n".join(process_prefix() + line for line in record.getMessage().split("\n"))
        print(lines, file=sys.stderr, flush=True)


_logger = logging.getLogger("lossline")
_logger.setLevel(logging.INFO)
_logger.propagate = False  # otherwise a handler of the root logger would print each line a second time
_logger.addHandler(_StderrHandler())
_logger.addFilter(lambda record: record.levelno >= logging.WARNING or _process.index == 0)


def info(message: str) -> None:
    """Log a progress message. Only process 0 writes it. The level is that of `logging.getLogger("lossline")`."""
    _logger.info(_writable(message))


def warning(message: str) -> None:
    """Log that something went wrong. Every process writes its own warnings."""
    _logger.warning(_writable(message))


def _writable(message: str) -> str:
    """Return a message that any handler can write. Control characters and lone surrogates become escapes."""
    return shown_lines(message).encode("utf-8", "backslashreplace").decode("utf-8")


def take_any_text() -> None:
    """Make stdout and stderr accept every text. A stream that is closed accepts it and drops it."""
    codecs.register_error(ERRORS, _in_ascii)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (open until the process ends)
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


@functools.cache  # one time in each process, even if it runs several commands
def drop_late_complaints() -> None:
    """Drop the messages that a failed save prints later, until the process ends.

    The error of the save already says what is lost. Writes that were still active report that their event loop is
    closed, or that nothing waits for them. The threads of orbax log their errors with a stack trace.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    sys.unraisablehook = but_for_closed_loops(sys.unraisablehook)


def but_for_closed_loops(
    print_error: Callable[["sys.UnraisableHookArgs"], None],
) -> Callable[["sys.UnraisableHookArgs"], None]:
    """Return a hook for `sys.unraisablehook` that drops errors about a closed event loop and prints all others.

    Args:
        print_error: the hook that prints the other errors.
    """

    def print_others(error: "sys.UnraisableHookArgs") -> None:
        if str(error.exc_value) != "Event loop is closed":
            print_error(error)

    return print_others


def on_exit(handler: ExitHandler) -> None:
    """Register a function to call as `handler(exit_code, together)` when the command ends.

    A handler that is registered twice is called once. `together` is True if all processes of a run reach this end, so
    that they can wait for each other.
    """
    if handler not in _exit_handlers:
        _exit_handlers.append(handler)


def call_exit_handlers(exit_code: int | str | None, together: bool) -> None:
    """Call the handlers of `on_exit` in the order of their registration.

    Args:
        exit_code: exit code of the command, as `SystemExit.code` gives it. None: success.
        together: True if all processes of a run reach this end.
    """
    for handler in _exit_handlers:
        handler(exit_code, together)


def reader_has_left() -> bool:
    """Return True if stdout or stderr is a pipe whose reader has ended, as with `| head`."""
    return any(_is_broken(stream) for stream in (sys.stdout, sys.stderr))


def finish() -> None:
    """Flush stdout and stderr. A stream that refuses loses its text, since Python would print a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    plain = (PLAIN.get(character) or character.encode("unicode_escape").decode("ascii") for character in missing)
    return "".join(plain), error.end


def _is_broken(stream: TextIO) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the stream has no descriptor; Windows has no poll
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False
