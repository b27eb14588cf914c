"""Units agree with values computed by hand."""

import math

import pytest

from lossline_jax import formatting, units


def test_bits_per_byte_of_a_uniform_byte_model_is_eight():
    num_bytes = 1000
    assert units.bits_per_byte(num_bytes * math.log(256), num_bytes) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (1234567, "1.23M"), (6.6e20, "6.60e+20"), (2.5e12, "2.5T"), (0.5, "0.5")],
)
def test_human_counts(value, text):
    assert formatting.human_count(value) == text


@pytest.mark.parametrize(("value", "text"), [(9.6, "10s"), (61, "1m01s"), (3725, "1h02m")])
def test_human_seconds(value, text):
    assert formatting.human_seconds(value) == text
