"""Every token is scored once. The expected windows are written here by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.evaluate.packing.windows import document_texts, option_text, windows

BOS = 0


@pytest.mark.parametrize(
    ("num_tokens", "context_length", "overlap", "golden"),
    [
        # Each window is (its inputs, the positions that it scores). Position 0 is BOS.
        (1, 4, 0, [((0, 1), [1])]),
        (4, 4, 0, [((0, 4), [1, 2, 3, 4])]),
        (5, 4, 0, [((0, 4), [1, 2, 3, 4]), ((4, 5), [5])]),
        (9, 4, 0, [((0, 4), [1, 2, 3, 4]), ((4, 8), [5, 6, 7, 8]), ((8, 9), [9])]),
        (7, 4, 2, [((0, 4), [1, 2, 3, 4]), ((2, 6), [5, 6]), ((4, 7), [7])]),
        (6, 4, 3, [((0, 4), [1, 2, 3, 4]), ((1, 5), [5]), ((2, 6), [6])]),
        (8, 5, 1, [((0, 5), [1, 2, 3, 4, 5]), ((4, 8), [6, 7, 8])]),
        (10, 5, 1, [((0, 5), [1, 2, 3, 4, 5]), ((4, 9), [6, 7, 8, 9]), ((8, 10), [10])]),
    ],
)
def test_golden_windows(num_tokens, context_length, overlap, golden):
    actual = windows(num_tokens, context_length, overlap)
    scored = [list(range(w.start + w.first + 1, w.stop + 1)) for w in actual]
    assert [((w.start, w.stop), s) for w, s in zip(actual, scored, strict=True)] == golden


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_each_token_once_with_at_least_the_asked_context(num_tokens, context_length, data):
    overlap = data.draw(st.integers(0, context_length - 1))
    ids = np.arange(1, num_tokens + 1)  # each token is its own position
    scored = []
    for text in document_texts(ids, BOS, context_length, overlap):
        assert text.num_inputs <= context_length
        targets = text.ids[1:]
        for k in range(text.first, text.num_inputs):
            scored.append(int(targets[k]))
            context = text.ids[: k + 1]
            np.testing.assert_array_equal(context, np.arange(targets[k] - len(context), targets[k]))
            assert len(context) >= min(overlap + 1, targets[k])
    assert scored == list(range(1, num_tokens + 1))


def test_option_keeps_bos_and_the_end_of_a_long_context():
    text = option_text(np.array([1, 2, 3, 4, 5]), np.array([8, 9]), BOS, context_length=4)
    assert text.ids.tolist() == [BOS, 4, 5, 8, 9]
    assert text.num_inputs == 4
    assert text.ids[text.first + 1 :].tolist() == [8, 9]
    alone = option_text(np.array([], np.int32), np.array([8, 9]), BOS, context_length=4)
    assert (alone.ids.tolist(), alone.first) == ([BOS, 8, 9], 0)
    full = option_text(np.array([1]), np.array([6, 7, 8, 9]), BOS, context_length=4)
    assert (full.ids.tolist(), full.first) == ([BOS, 6, 7, 8, 9], 0)
