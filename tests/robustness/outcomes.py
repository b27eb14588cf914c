"""Run one command on bad input, name its outcome, and make the table of all cases.

`call` runs a command in this process, and `outcome` names the outcome:

    noticed         it ended with an exit code other than 0 and one line that says why
    told            it went on, gave other numbers or fewer, and printed a message about it
    healed          it rebuilt the damaged file, and its numbers did not change
    without effect  its numbers did not change
    accepted        it read the file, and its numbers are those of the changed file
    SILENT          exit code 0 and other numbers without a message
    TRACE           a stack trace
    MUTE            an exit code other than 0, and no line that says why

The last three are faults. Damaged folders, kills and malformed input share these names, so that their tables can be
compared.
"""

import contextlib
import io
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lossline_jax.cli.main import main
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import shown, text_table

FAULTS = ("SILENT", "TRACE", "MUTE")
OUTCOMES = ("noticed", "told", "healed", "without effect", "accepted", *FAULTS)


@dataclass(frozen=True)
class Answer:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str  # with the stack trace, if there was one

    @property
    def last_line(self) -> str:
        """The last line that the command wrote on stderr."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    use: str  # which file, read by which command
    damage: str
    outcome: str
    detail: str = ""  # the message, or the names of files that differ


def call(arguments: Sequence[str]) -> Answer:
    """Run `lossline-jax ARGUMENTS` in this process. An exception becomes part of the answer."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except Exception:  # noqa: BLE001 - a stack trace is an outcome to count
            code = 1
            traceback.print_exc(file=sys.stderr)
    return Answer(code, out.getvalue(), err.getvalue())


def outcome(answer: Answer, equal: bool, healed: bool = False, reported: bool = False) -> str:
    """Name the outcome of a command.

    Args:
        equal: whether every number is that of an undamaged case.
        healed: whether the damaged file has been rebuilt.
        reported: whether a message explains numbers that differ.
    """
    if "Traceback (most recent call last)" in answer.err:
        return "TRACE"
    if answer.code:
        return "noticed" if is_one_line(answer) else "MUTE"
    if equal:
        return "healed" if healed else "without effect"
    return "told" if reported else "SILENT"


def attempt(read: Callable[[], object], named: str = "") -> tuple[str, str, object]:
    """Return the outcome of a read, its message, and the value that was read.

    Args:
        named: text that a refusal must contain, such as the name of the file.
    """
    try:
        return "accepted", "", read()
    except LosslineError as error:
        is_line = bool(str(error)) and "\n" not in str(error) and named in str(error)
        return ("noticed" if is_line else "MUTE"), shown(str(error)), None  # as a command shows it
    except BaseException as error:  # panics of Rust libraries derive from BaseException
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return "TRACE", f"{type(error).__name__}: {error}", None


def is_one_line(answer: Answer) -> bool:
    """Return whether a refusal ends with one line of the package, or with the usage that the parser prints."""
    line = answer.last_line
    usage = answer.code == 2 and ("╯" in line or "Error parsing" in answer.err or "error" in answer.err.split("\n")[0])
    return (line.startswith("lossline: ") and len(line) > len("lossline: ")) or usage


def cases_table(cases: Sequence[Case]) -> str:
    """Return a table with a row for every case."""
    return text_table(
        ["use", "damage", "outcome", "what was said"],
        [[case.use, case.damage, case.outcome, case.detail[:160]] for case in cases],
    )


def counts_table(cases_of: Mapping[str, Sequence[Case]]) -> str:
    """Return a table of the outcomes, with a row for each kind of case."""
    counters = {kind: Counter(case.outcome for case in cases) for kind, cases in cases_of.items()}
    rows = [
        [kind, str(counter.total()), *(str(counter[name] or "") for name in OUTCOMES)]
        for kind, counter in counters.items()
    ]
    return text_table(["kind", "cases", *OUTCOMES], rows)


def counts(cases: Iterable[Case]) -> str:
    """Return counts such as `267 cases: 185 noticed, 16 healed, 66 without effect`."""
    counter = Counter(case.outcome for case in cases)
    return f"{counter.total()} cases: " + ", ".join(f"{counter[name]} {name}" for name in OUTCOMES if counter[name])


def faults(cases: Iterable[Case]) -> list[Case]:
    """Return the cases that no user should meet."""
    return [case for case in cases if case.outcome in FAULTS]
