"""What a command says while it works: lines on stderr, so that stdout carries results only.

Of several processes on one run, the first one speaks, the others only when something goes wrong; each line then
tells who speaks.
"""

import sys
from dataclasses import dataclass


@dataclass
class _Speaker:
    """Which of how many processes this one is: set once, by what starts them, and told without asking jax."""

    index: int = 0
    count: int = 1


_speaker = _Speaker()


def set_process(index: int, count: int) -> None:
    """From now on this process speaks as number `index`, from 0, of `count`."""
    _speaker.index, _speaker.count = index, count


def prefix() -> str:
    """`[p1/4] ` in the second of four processes; nothing in a process that is alone."""
    return f"[p{_speaker.index}/{_speaker.count}] " if _speaker.count > 1 else ""


def say(message: str) -> None:
    """Progress and news: said once, by process 0."""
    if _speaker.index == 0:
        warn(message)


def warn(message: str) -> None:
    """Something went wrong: said by whichever process it happens to."""
    lines = "\n".join(prefix() + line for line in message.split("\n"))
    print(lines, file=sys.stderr, flush=True)
