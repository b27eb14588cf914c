"""Show the progress of a run on the terminal."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from lossline_jax import logs
from lossline_jax.formatting import human_count, human_seconds

LINES = 10  # lines per run, within the two limits below
SHORTEST_PAUSE = 5.0  # seconds between two lines, at least
LONGEST_PAUSE = 60.0  # seconds between two lines, at most


class ProgressBar:
    """A tqdm bar on a terminal. Elsewhere, a plain line after each tenth of the run or each minute. Both on stderr.

    Args:
        label: the beginning of the line.
        num_steps: steps of the run.
        start: number of steps done before.
        show: False: nothing is printed.
    """

    def __init__(self, label: str, num_steps: int, start: int, show: bool) -> None:
        self._label, self._num_steps, self._show = label, num_steps, show
        self._last_line = time.perf_counter()
        bar = show and sys.stderr.isatty()
        self._bar = (
            tqdm(total=num_steps, initial=start, desc=logs.process_prefix() + label, unit="step") if bar else None
        )

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a step that is done, given its row of the step log."""
        step, loss = row["step"], row["loss_nats_per_token"]
        speed = f"{human_count(row['tokens_per_second'])} tok/s"
        if row["mfu"] is not None:
            speed = f"{speed}, {row['mfu']:.1%} MFU"
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {speed}", refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._show and self._line_is_due(step):
            self._last_line = time.perf_counter()
            left = human_seconds(row["step_seconds"] * (self._num_steps - step))
            logs.info(
                f"{self._label}: step {step}/{self._num_steps}, loss {loss:.4f} nats/token, {speed}, {left} to go"
            )

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _line_is_due(self, step: int) -> bool:
        completes_a_tenth = step * LINES // self._num_steps > (step - 1) * LINES // self._num_steps
        pause = time.perf_counter() - self._last_line
        return step == self._num_steps or (completes_a_tenth and pause >= SHORTEST_PAUSE) or pause >= LONGEST_PAUSE
