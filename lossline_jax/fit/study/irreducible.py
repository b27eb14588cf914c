"""Where the irreducible losses of a line come from: named modes, the same for every group of a table."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.tables.wide import positive

NamedMode = Literal["free", "law"]
Mode = float | NamedMode


@dataclass(frozen=True)
class IrreducibleModes:
    """E_x and E_y each: "free", a number, or "law": the E of the compute law of that loss in the same rows.

    Args:
        form: of the compute law.
        params, tokens: columns of the table; needed for "law" alone.

    Raises:
        ArgumentError: a mode that is none, or "law" without the columns it needs.
    """

    e_x: Mode = "free"
    e_y: Mode = "free"
    form: Literal["kaplan", "chinchilla"] = "kaplan"
    params: str | None = None
    tokens: str | None = None

    def __post_init__(self) -> None:
        for name, mode in (("e_x", self.e_x), ("e_y", self.e_y)):
            if isinstance(mode, str) and mode not in get_args(NamedMode):
                raise ArgumentError(f"{{{name}}}" + ": {mode!r} is not a number, 'free' or 'law'", mode=mode)
            if mode == "law" and (self.params is None or self.tokens is None):
                raise ArgumentError(
                    f"{{{name}}}: a compute law needs {{params}} and {{tokens}}, the columns of parameters and tokens"
                )

    def of_points(self, points: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> dict:
        """Arguments of `line.fit_line`. With both irreducible losses told the fit is log-log.

        Raises:
            LosslineError: the compute law has no curve.
        """
        modes = {"e_x": self._of_loss("e_x", self.e_x, points, x), "e_y": self._of_loss("e_y", self.e_y, points, y)}
        both_known = all(mode != "free" for mode in modes.values())
        return modes | ({"residual": "log-log"} if both_known else {})

    def _of_loss(self, name: str, mode: Mode, points: pd.DataFrame, loss: np.ndarray):
        if mode != "law":
            return mode
        fit = fit_compute_law(loss, N=positive(points, self.params), D=positive(points, self.tokens), form=self.form)
        if not fit.has_curve:
            raise LosslineError(f"{name}: the compute law is {fit.status!r} ({fit.note})")
        return fit
