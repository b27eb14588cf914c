"""Turn the nats of each request into the numbers of each set. Sums come first, one float64 division at the end."""

import numpy as np

from lossline_jax.evaluate.packing.rows import Requests
from lossline_jax.losses.loss_row import SetScore
from lossline_jax.units import LOG_2


def ratio_of_sums(y_n: np.ndarray, x_n: np.ndarray) -> tuple[float, float]:
    """Return R = sum(y) / sum(x) over n >= 2 clusters, and its standard error by the delta method.

        se(R) = sqrt(n / (n - 1) * sum((y_i - R x_i)^2)) / sum(x)

    This is Cochran 1977, section 6.4, without the finite-population correction. The independent draws are clusters
    and not tokens, because the tokens of one document depend on each other.

    Args:
        y_n: the numerator of each cluster.
        x_n: the denominator of each cluster.
    """
    n = len(y_n)
    ratio = y_n.sum() / x_n.sum()
    residual_n = y_n - ratio * x_n
    return float(ratio), float(np.sqrt(n / (n - 1) * np.square(residual_n).sum()) / x_n.sum())


def score_set(kind: str, requests: Requests, nats_Q: np.ndarray, greedy_Q: np.ndarray) -> SetScore:
    """Return the score of one set.

    An item of several options is answered right if the gold option has the fewest nats. An item of one option (the
    last word of LAMBADA) is answered right if each token of the option is the model's likeliest token.
    A task of one-option items has no other options to compare with, so it has no accuracy per character or byte.

    Args:
        kind: "validation" or "task".
        requests: the requests of this set, item by item and option by option, in the order of `pack_sets`. Every item
            has exactly one gold request, and there are at least two items.
        nats_Q: float64, the nats of each request.
        greedy_Q: bool, whether each token of the request was the model's likeliest token.
    """
    gold_Q = requests.gold_Q
    nats_n, bytes_n, tokens_n = (x[gold_Q] for x in (nats_Q, requests.bytes_Q, requests.tokens_Q))
    nats_per_token, token_error = ratio_of_sums(nats_n, tokens_n)
    nats_per_byte, byte_error = ratio_of_sums(nats_n, bytes_n)
    by_document = all_options = right = per_char = per_byte = (None, None)  # values and their standard errors
    if kind == "validation":
        by_document = ratio_of_sums(nats_n / tokens_n, np.ones(len(nats_n)))
    elif len(gold_Q) == len(nats_n):  # every item has one option
        right = _share(np.where(np.isnan(nats_Q), np.nan, greedy_Q))
    else:
        all_options = _all_options(requests, nats_Q)
        right = _share(_is_cheapest(requests, nats_Q))
        per_char = _share(_is_cheapest(requests, nats_Q / requests.chars_Q))
        per_byte = _share(_is_cheapest(requests, nats_Q / requests.bytes_Q))
    return SetScore(
        nats_per_token=nats_per_token,
        bits_per_byte=nats_per_byte / LOG_2,
        nats_sum=float(nats_n.sum()),
        nats_per_token_standard_error=token_error,
        bits_per_byte_standard_error=byte_error / LOG_2,
        nats_per_token_document_mean=by_document[0],
        nats_per_token_document_mean_standard_error=by_document[1],
        nats_per_token_all_options=all_options[0],
        nats_per_token_all_options_standard_error=all_options[1],
        accuracy=right[0],
        accuracy_standard_error=right[1],
        accuracy_per_char=per_char[0],
        accuracy_per_char_standard_error=per_char[1],
        accuracy_per_byte=per_byte[0],
        accuracy_per_byte_standard_error=per_byte[1],
        num_tokens=int(tokens_n.sum()),
        num_bytes=int(bytes_n.sum()),
        n=len(nats_n),
    )


def _all_options(requests: Requests, nats_Q: np.ndarray) -> tuple[float, float]:
    """Return the mean over all options of the option's nats per token. The clusters are the items."""
    start_n = _starts(requests.item_Q)
    options_n = np.diff(start_n, append=len(nats_Q))
    return ratio_of_sums(np.add.reduceat(nats_Q / requests.tokens_Q, start_n), options_n)


def _is_cheapest(requests: Requests, cost_Q: np.ndarray) -> np.ndarray:
    """Return for each item 1.0 if the gold option has the lowest cost, else 0.0. Of equal options the first is lowest.

    All results are NaN if any cost is NaN.
    """
    if np.isnan(cost_Q).any():
        return np.full(int(requests.gold_Q.sum()), np.nan)
    start_n = _starts(requests.item_Q)
    options_n = np.diff(start_n, append=len(cost_Q))
    is_least_Q = cost_Q == np.repeat(np.minimum.reduceat(cost_Q, start_n), options_n)
    first_n = np.minimum.reduceat(np.where(is_least_Q, np.arange(len(cost_Q)), len(cost_Q)), start_n)
    return requests.gold_Q[first_n].astype(np.float64)


def _starts(item_Q: np.ndarray) -> np.ndarray:
    """Return the index of the first request of each item."""
    return np.flatnonzero(np.diff(item_Q, prepend=item_Q[0] - 1))


def _share(right_n: np.ndarray) -> tuple[float, float]:
    """Return the share of right items and its standard error."""
    return ratio_of_sums(right_n, np.ones(len(right_n)))
