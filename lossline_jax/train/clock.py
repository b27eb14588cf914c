"""Where the time of a run goes, over all its restarts."""

import contextlib
import time
from collections.abc import Iterator, Mapping

PARTS = ("setup", "compile", "checkpoint", "evaluate")


class Clock:
    """Seconds of a run by what they went on: the `PARTS`, and the rest, which is training."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._earlier_wall = 0.0
        self._parts = dict.fromkeys(PARTS, 0.0)

    def add_earlier(self, seconds: Mapping[str, float]) -> None:
        """Add the `seconds()` that an interrupted part of the run had saved."""
        self._earlier_wall += seconds["wall"]
        for part in PARTS:
            self._parts[part] += seconds[part]

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
    def training(self) -> float:
        """Seconds in steps: all but the named parts."""
        return self.wall - sum(self._parts.values())

    def seconds(self) -> dict[str, float]:
        """By part, with `wall` and `train`: what a checkpoint and done.json hold."""
        rounded = {part: round(value, 3) for part, value in self._parts.items()}
        return {"wall": round(self.wall, 3), "train": round(self.training, 3), **rounded}
