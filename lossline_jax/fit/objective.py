"""What a fit minimises: the sum over points of r^2 / 2 or of Huber(r). Sums, never means."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """Residuals are y - f, or ln(y - offset) - ln(f - offset) where `logarithmic`.

    The offset is the value of the parameter of that name (None: 0). Huber is r^2 / 2 up to `delta` and
    delta (|r| - delta / 2) beyond; None: least squares.
    """

    name: str
    logarithmic: bool = False
    delta: float | None = None
    offset: str | None = None


LEAST_SQUARES = Loss("least squares")
LOG_LEAST_SQUARES = Loss("log least squares", logarithmic=True)
LOG_LOG_LEAST_SQUARES = Loss("log-log least squares", logarithmic=True, offset="E_y")
LOG_HUBER = Loss("log Huber", logarithmic=True, delta=1e-3)
HUBER = Loss("Huber, delta 0.01", delta=0.01)

LOSSES = {loss.name: loss for loss in (LEAST_SQUARES, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES, LOG_HUBER, HUBER)}
