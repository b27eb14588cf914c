"""Measure the time that a run spends on each kind of work, over all its restarts."""

import contextlib
import time
from collections.abc import Iterator, Mapping

PARTS = ("setup", "compile", "input", "checkpoint", "evaluate")


class RunTimer:
    """A timer that counts the seconds of a run by kind of work: the `PARTS`, and training, which is the rest."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._earlier_wall = 0.0
        self._parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def add_earlier(self, seconds: Mapping[str, float]) -> None:
        """Add the `seconds()` that an earlier process of the run saved."""
        self._earlier_wall += seconds["wall"]
        for part in PARTS:
            self._parts[part] += seconds.get(part, 0.0)  # an older lossline did not count every part

    @contextlib.contextmanager
    def spending(self, part: str) -> Iterator[None]:
        """Count the time inside the block as `part`."""
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
        """Seconds of waiting for batches and placing them. The devices may have been computing meanwhile."""
        return self._parts["input"]

    @property
    def stepping(self) -> float:
        """Seconds of training and of waiting for input. The speed of a run is measured with these."""
        return self._training + self.input

    @property
    def _training(self) -> float:
        return self.wall - sum(self._parts.values())

    def seconds(self) -> dict[str, float]:
        """Return the seconds by part, with `wall` and `train`, as a checkpoint and done.json hold them."""
        rounded = {part: round(value, 3) for part, value in self._parts.items()}
        return {"wall": round(self.wall, 3), "train": round(self._training, 3), **rounded}
