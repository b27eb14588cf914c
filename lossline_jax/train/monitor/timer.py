"""Where the time of a run goes, over all its restarts."""

import contextlib
import time
from collections.abc import Iterator, Mapping

PARTS = ("setup", "compile", "input", "checkpoint", "evaluate")


class RunTimer:
    """Seconds of a run by what they went on: the `PARTS`, and the rest, which is training."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._earlier_wall = 0.0
        self._parts = dict.fromkeys(PARTS, 0.0)

    def add_earlier(self, seconds: Mapping[str, float]) -> None:
        """Add the `seconds()` that an interrupted part of the run had saved."""
        self._earlier_wall += seconds["wall"]
        for part in PARTS:
            self._parts[part] += seconds.get(part, 0.0)  # a part that is newer than the run

    @contextlib.contextmanager
    def spending(self, part: str) -> Iterator[None]:
        """Count what happens inside as `part`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._parts[part] += time.perf_counter() - began

    @property
    def wall(self) -> float:
        """All seconds so far."""
        return self._earlier_wall + time.perf_counter() - self._began

    @property
    def input(self) -> float:
        """Seconds of waiting for batches and of placing them; devices may have been at work meanwhile."""
        return self._parts["input"]

    @property
    def stepping(self) -> float:
        """Seconds in the loop of steps, with the wait for input: what speed is measured by."""
        return self._training + self.input

    @property
    def _training(self) -> float:
        return self.wall - sum(self._parts.values())

    def seconds(self) -> dict[str, float]:
        """By part, with `wall` and `train`: what a checkpoint and done.json hold."""
        rounded = {part: round(value, 3) for part, value in self._parts.items()}
        return {"wall": round(self.wall, 3), "train": round(self._training, 3), **rounded}
