"""Lines of news on stderr, so that stdout carries results only.

The first of several processes on one run speaks. The others speak only when something goes wrong, and each line
then tells which process speaks. Characters that the encoding of a stream lacks are written in ASCII.
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

from lossline_jax.formatting import shown_lines

ERRORS = "lossline-plain"  # how a stream writes what its encoding lacks
PLAIN = {
    **dict.fromkeys("─−–", "-"),
    **dict.fromkeys("╭╮╰╯├┤", "+"),
    **{"│": "|", "±": "+-", "→": "->", "²": "2", "∞": "inf", "…": "...", "’": "'", "“": '"', "”": '"'},
}


@dataclass
class _Speaker:
    """Which of how many processes this one is: set once, by what starts them, and told without asking jax."""

    index: int = 0
    count: int = 1


_speaker = _Speaker()

ExitHandler = Callable[[int | str | None, bool], None]
_exit_handlers: list[ExitHandler] = []


def set_process(index: int, count: int) -> None:
    """From now on this process speaks as number `index`, from 0, of `count`."""
    _speaker.index, _speaker.count = index, count


def is_one_of_several() -> bool:
    """Return whether this process works on a run together with others."""
    return _speaker.count > 1


def process_prefix() -> str:
    """`[p1/4] ` in the second of four processes; nothing in a process that is alone."""
    return f"[p{_speaker.index}/{_speaker.count}] " if _speaker.count > 1 else ""


def result(text: str) -> None:
    """Print a result on stdout."""
    print(shown_lines(text))


class _StderrHandler(logging.Handler):
    """A handler that writes to the stderr of the moment, each line with the process that speaks."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = "\n".join(process_prefix() + line for line in record.getMessage().split("\n"))
        print(lines, file=sys.stderr, flush=True)


_logger = logging.getLogger("lossline")
_logger.setLevel(logging.INFO)
_logger.propagate = False  # a handler of the root would print each line again
_logger.addHandler(_StderrHandler())
_logger.addFilter(lambda record: record.levelno >= logging.WARNING or _speaker.index == 0)


def info(message: str) -> None:
    """Log progress and news. Process 0 alone writes them; `logging.getLogger("lossline")` sets the level."""
    _logger.info(_writable(message))


def warning(message: str) -> None:
    """Log that something went wrong. The process that it happens to writes it."""
    _logger.warning(_writable(message))


def _writable(message: str) -> str:
    """Return a message that any handler can write: no control characters, and half a character as its escape."""
    return shown_lines(message).encode("utf-8", "backslashreplace").decode("utf-8")


def take_any_text() -> None:
    """Let stdout and stderr write whatever a command says, and a stream that is closed take it and drop it."""
    codecs.register_error(ERRORS, _in_ascii)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (as long as the process)
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


@functools.cache  # once a process: commands may follow one another
def drop_late_complaints() -> None:
    """Drop what a save that failed prints later, until the process ends: the error of the save says what is lost.

    Writes that were under way complain that their event loop is closed, or that nobody waits for them. The threads of
    orbax log what they raised with its stack.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    sys.unraisablehook = but_for_closed_loops(sys.unraisablehook)


def but_for_closed_loops(
    print_error: Callable[["sys.UnraisableHookArgs"], None],
) -> Callable[["sys.UnraisableHookArgs"], None]:
    """Make a hook for `sys.unraisablehook` that drops complaints of a closed event loop and prints all others."""

    def print_others(error: "sys.UnraisableHookArgs") -> None:
        if str(error.exc_value) != "Event loop is closed":
            print_error(error)

    return print_others


def on_exit(handler: ExitHandler) -> None:
    """Call `handler(exit_code, together)` when the command ends; a handler that is known already is called once.

    `together` says whether all processes of a run come to this end, so that they can wait for each other.
    """
    if handler not in _exit_handlers:
        _exit_handlers.append(handler)


def call_exit_handlers(exit_code: int | str | None, together: bool) -> None:
    """Call the handlers of `on_exit`, in their order."""
    for handler in _exit_handlers:
        handler(exit_code, together)


def reader_has_left() -> bool:
    """Return whether stdout or stderr is a pipe that no one reads any more, as with `| head`."""
    return any(_is_broken(stream) for stream in (sys.stdout, sys.stderr))


def finish() -> None:
    """Write out what is left. A stream that refuses drops it: the interpreter would print a stack about it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (PLAIN.get(each) or each.encode("unicode_escape").decode("ascii") for each in lacking)
    return "".join(plain), error.end


def _is_broken(stream: io.TextIOBase) -> bool:
    with contextlib.suppress(OSError, ValueError):  # of a stream without a descriptor
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False
