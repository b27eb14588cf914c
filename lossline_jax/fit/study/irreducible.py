"""Name the source of the irreducible losses of a line: one mode for E_x and one for E_y, for every group of a table."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.option_types import require_field_types
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.tables.rows import require_different_columns
from lossline_jax.fit.tables.wide import positive

NamedMode = Literal["free", "law"]
Mode = float | NamedMode


@dataclass(frozen=True)
class IrreducibleModes:
    """The source of E_x and of E_y: "free", a number, or "law".

    "law" takes E of the compute law of that loss, fitted to the same rows.

    Args:
        e_x: the source of E_x.
        e_y: the source of E_y.
        form: form of the compute law.
        params: column of parameters. None: not named; "law" needs it.
        tokens: column of training tokens. None: not named; "law" needs it.

    Raises:
        ArgumentError: an unknown mode, "law" without the columns that it needs, a value of a wrong type, or
            one column for parameters and tokens.
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
        require_field_types(self)
        require_different_columns({"{params}": self.params, "{tokens}": self.tokens})

    def of_points(self, points: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Return the arguments of `line.fit_line` for one group. With both irreducible losses known the fit is log-log.

        Args:
            points: the rows of the group.
            x: (n,) losses on the horizontal axis.
            y: (n,) losses on the vertical axis.

        Raises:
            LosslineError: a compute law has no curve.
        """
        modes = {"e_x": self._source("e_x", self.e_x, points, x), "e_y": self._source("e_y", self.e_y, points, y)}
        both_known = all(mode != "free" for mode in modes.values())
        return modes | ({"residual": "log-log"} if both_known else {})

    def _source(self, name: str, mode: Mode, points: pd.DataFrame, loss: np.ndarray) -> Mode | FitResult:
        """Return the mode, or the fitted compute law in place of "law"."""
        if mode != "law" or self.params is None or self.tokens is None:
            return mode
        fit = fit_compute_law(loss, N=positive(points, self.params), D=positive(points, self.tokens), form=self.form)
        if not fit.has_curve:
            raise LosslineError(f"{name}: the compute law is {fit.status!r} ({fit.note})")
        return fit
