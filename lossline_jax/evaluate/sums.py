"""From nats of each request to the numbers of each set: sums first, one division at the end, in float64."""

from dataclasses import dataclass

import numpy as np

from lossline_jax.evaluate.rows import Requests
from lossline_jax.units import LOG_2


@dataclass(frozen=True)
class SetScore:
    """One checkpoint on one set. The fields have the names and meanings of the columns of `table.LossRow`.

    For a task the losses are those of the correct options. Standard errors are clustered by document or item.
    """

    nats_per_token: float
    bits_per_byte: float
    nats_per_token_document_mean: float | None
    nats_per_token_standard_error: float
    bits_per_byte_standard_error: float
    accuracy: float | None
    accuracy_per_byte: float | None
    accuracy_standard_error: float | None
    num_tokens: int
    num_bytes: int
    n: int


def ratio_of_sums(y_n: np.ndarray, x_n: np.ndarray) -> tuple[float, float]:
    """R = sum(y) / sum(x) over n >= 2 clusters, and its standard error by the delta method.

        se(R) = sqrt(n / (n - 1) * sum((y_i - R x_i)^2)) / sum(x)

    (Cochran 1977, section 6.4, without the finite-population correction). Clusters, not tokens, are the
    independent draws: tokens of one document depend on each other.
    """
    n = len(y_n)
    ratio = y_n.sum() / x_n.sum()
    residual_n = y_n - ratio * x_n
    return float(ratio), float(np.sqrt(n / (n - 1) * np.square(residual_n).sum()) / x_n.sum())


def score_set(kind: str, requests: Requests, nats_Q: np.ndarray) -> SetScore:
    """The score of one set.

    Args:
        kind: "validation" or "task".
        requests: those of this set; every item has exactly one gold request.
        nats_Q: float64, the nats of each.
    """
    gold_Q = requests.gold_Q
    nats_n, bytes_n, tokens_n = (x[gold_Q] for x in (nats_Q, requests.bytes_Q, requests.tokens_Q))
    nats_per_token, token_error = ratio_of_sums(nats_n, tokens_n)
    nats_per_byte, byte_error = ratio_of_sums(nats_n, bytes_n)
    n = len(nats_n)
    accuracy = accuracy_per_byte = accuracy_error = None
    if kind == "task":
        accuracy = _accuracy(requests, nats_Q)
        accuracy_per_byte = _accuracy(requests, nats_Q / requests.bytes_Q)
        accuracy_error = float(np.sqrt(accuracy * (1.0 - accuracy) / (n - 1)))
    return SetScore(
        nats_per_token=nats_per_token,
        bits_per_byte=nats_per_byte / LOG_2,
        nats_per_token_document_mean=float(np.mean(nats_n / tokens_n)) if kind == "validation" else None,
        nats_per_token_standard_error=token_error,
        bits_per_byte_standard_error=byte_error / LOG_2,
        accuracy=accuracy,
        accuracy_per_byte=accuracy_per_byte,
        accuracy_standard_error=accuracy_error,
        num_tokens=int(tokens_n.sum()),
        num_bytes=int(bytes_n.sum()),
        n=n,
    )


def _accuracy(requests: Requests, cost_Q: np.ndarray) -> float:
    """Share of the items whose cheapest option is the gold one. NaN where a cost is NaN."""
    if np.isnan(cost_Q).any():
        return float("nan")
    cheapest_first_Q = np.lexsort((requests.option_Q, cost_Q, requests.item_Q))
    _, first = np.unique(requests.item_Q[cheapest_first_Q], return_index=True)
    return float(np.mean(requests.gold_Q[cheapest_first_Q[first]]))
