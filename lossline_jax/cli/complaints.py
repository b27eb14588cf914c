"""One line for each mistake that the parser of flags finds, in place of its box of several lines."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lossline_jax.errors import LosslineError, likeliest_name, suggestion

BAD_FLAGS = 2  # the exit code of the parser after a mistake
WIDE = "10000"  # columns, so that the parser breaks no line
KINDS = {"INT": (int, "a whole number"), "FLOAT": (float, "a number")}  # by the parser's word for a type
FLAG = r"--?[A-Za-z][\w.-]*"

Parsed = TypeVar("Parsed")


def parse(parser: Callable[[], Parsed], words: Sequence[str], prog: str) -> Parsed:
    """Return what the parser returns, and turn its box into an error of one line.

    Args:
        parser: parses `words`. At a mistake it prints a box to stderr and exits with 2.
        words: the words of the user.
        prog: the command without flags, for the advice to ask for help.

    Raises:
        LosslineError: a flag is unknown, is missing, or has a wrong value.
    """
    if {"-h", "--help"} & set(words):
        return parser()  # at the width of the terminal
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), _wide_terminal():
            parsed = parser()
    except SystemExit as leaving:
        if leaving.code == BAD_FLAGS and output.getvalue():
            raise LosslineError(one_line(output.getvalue(), words, prog)) from leaving
        raise
    except Exception:
        sys.stderr.write(output.getvalue())
        raise
    sys.stderr.write(output.getvalue())  # what the user's own `study` has printed
    return parsed


def one_line(box: str, words: Sequence[str], prog: str) -> str:
    """Return the mistake that a box of the parser describes, as one line with the flag and the fix.

    A box of an unknown form is given in full, on one line.

    Args:
        box: the text that the parser has printed.
        words: the words of the user.
        prog: the command without flags.
    """
    lines = _lines(box)
    text = "\n".join(lines)
    see = f"`{prog} --help` lists the flags"
    if found := re.search(r"^Unrecognized options: ?(.*(?:\n +\S+)*)", text, flags=re.MULTILINE):
        return _unknown(re.split(r",?\s+", found[1].strip()), words, lines, see)
    if found := re.search(rf"^Error parsing ({FLAG})\S*: (.*)", text, flags=re.MULTILINE):
        return _wrong_type(found[1], found[2], words, text)
    if found := re.search(r"^invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", text, re.MULTILINE):
        choices = re.findall(r"'([^']*)'", found[3])
        return f"{found[2]}: {found[1]!r} is not one of {', '.join(choices)}{suggestion(found[1], choices)}"
    if found := re.search(rf"^Missing value for argument [('\"]*({FLAG})", text, flags=re.MULTILINE):
        return f"{found[1]}: has no value; write one after it, or leave the flag out"
    if missing := _missing(lines):
        return f"{', '.join(missing)}: missing; `{prog} --help` says what to give"
    return "; ".join(line.strip() for line in lines)


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDE
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _lines(box: str) -> list[str]:
    """Return the lines in a box, without its title, its borders, its rules and the advice at its end.

    Where the terminal cannot draw borders, the title and the lines begin with spaces.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]
    lines = [re.sub(r"^(│ |  )|\s*│?$", "", line) for line in plain]
    lines = [line for line in lines if re.search(r"\w", line)]
    end = next((k for k, line in enumerate(lines) if line.startswith("For full helptext")), len(lines))
    return lines[:end]


def _unknown(tokens: Sequence[str], words: Sequence[str], lines: Sequence[str], see: str) -> str:
    """Return the message for words that are no flag and no value of a flag."""
    flags = [token.split("=")[0] for token in tokens if re.match(FLAG, token)]
    if not flags:
        before = words[: words.index(tokens[0])] if tokens[0] in words else []
        flag = next((word for word in reversed(before) if re.match(FLAG, word)), None)
        if flag is None:
            return f"{tokens[0]!r}: neither a flag nor the value of one; {see}"
        return f"{flag}: {tokens[0]!r} is more than this flag takes; leave it out"
    similar = [found[1] for line in lines if (found := re.match(rf" +({FLAG})", line)) and found[1] not in flags]
    return f"{flags[0]}: no such flag{_likely(flags[0], similar)}; {see}"


def _likely(flag: str, similar: Sequence[str]) -> str:
    """Return `, did you mean ...?` for the best of the flags that the parser found similar."""
    match = likeliest_name(flag, similar) or next(iter(similar), None)
    return f", did you mean {match}?" if match else ""


def _wrong_type(flag: str, reason: str, words: Sequence[str], text: str) -> str:
    """Return the message for a value of a wrong type. The box has the type after the flag, and the default."""
    values = _values(flag, words)
    metavar = re.search(rf"^ +(?:-\w, )?{re.escape(flag)} (.*)$", text, flags=re.MULTILINE)
    kind = next((kind for word, kind in KINDS.items() if metavar and word in metavar[1]), None)
    wrong = [value for value in values if kind is not None and not _is(kind[0], value)]
    if kind is None or not wrong:
        return f"{flag}: {' '.join(values)!r} does not fit ({reason})"
    default = re.search(r"\(default: (-?[\d.e+-]+)\)\s*$", text, flags=re.MULTILINE)
    return f"{flag}: {wrong[0]!r} is not {kind[1]}; give one{f', such as {default[1]}' if default else ''}"


def _is(kind: Callable[[str], object], value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _values(flag: str, words: Sequence[str]) -> list[str]:
    """Return the words that follow a flag, up to the next flag."""
    for k, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag.replace("_", "-"):
            after = [value] if equals else []
            for following in words[k + 1 :]:
                if re.match(FLAG, following):
                    break
                after.append(following)
            return after
    return []


def _missing(lines: Sequence[str]) -> list[str]:
    """Return the flags in a list of flags that are missing. Their help stands below them, further to the right."""
    if not any(line.startswith("Missing from") for line in lines):
        return []
    return [found[1] for line in lines if (found := re.match(rf" {{4}}(?:-\w, )?({FLAG}|[A-Z]+\b)", line))]
