"""Every token is scored once, in the windows written down here by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.evaluate.rows import (
    MAX_ROW_LENGTHS,
    WORTH_COMPILING,
    Request,
    choose_row_lengths,
    fill_share,
    mix_sets,
)
from lossline_jax.evaluate.windows import Row, document_rows, option_row, windows

BOS = 0


@pytest.mark.parametrize(
    ("num_tokens", "context_length", "overlap", "golden"),
    [
        # (inputs of the window, positions that it scores), position 0 being BOS
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
    found = windows(num_tokens, context_length, overlap)
    scored = [list(range(w.start + w.first + 1, w.stop + 1)) for w in found]
    assert [((w.start, w.stop), s) for w, s in zip(found, scored, strict=True)] == golden


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_each_token_once_with_at_least_the_asked_context(num_tokens, context_length, data):
    overlap = data.draw(st.integers(0, context_length - 1))
    ids = np.arange(1, num_tokens + 1)  # each token is its own position
    scored = []
    for row in document_rows(ids, BOS, context_length, overlap):
        assert row.num_inputs <= context_length
        targets = row.ids[1:]
        for k in range(row.first, row.num_inputs):
            scored.append(int(targets[k]))
            context = row.ids[: k + 1]
            np.testing.assert_array_equal(context, np.arange(targets[k] - len(context), targets[k]))
            assert len(context) >= min(overlap + 1, targets[k])
    assert scored == list(range(1, num_tokens + 1))


def test_option_keeps_bos_and_the_end_of_a_long_context():
    row = option_row(np.array([1, 2, 3, 4, 5]), np.array([8, 9]), BOS, context_length=4)
    assert row.ids.tolist() == [BOS, 4, 5, 8, 9]
    assert row.num_inputs == 4
    assert row.ids[row.first + 1 :].tolist() == [8, 9]
    alone = option_row(np.array([], np.int32), np.array([8, 9]), BOS, context_length=4)
    assert (alone.ids.tolist(), alone.first) == ([BOS, 8, 9], 0)
    full = option_row(np.array([1]), np.array([6, 7, 8, 9]), BOS, context_length=4)
    assert (full.ids.tolist(), full.first) == ([BOS, 6, 7, 8, 9], 0)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_row_lengths_are_few_and_waste_little(num_inputs):
    lengths = choose_row_lengths(np.array(num_inputs), context_length=64)
    assert len(lengths) <= MAX_ROW_LENGTHS
    assert lengths[-1] >= max(num_inputs)

    def padded(ends):
        return sum(min(end for end in ends if end >= -(-n // 4) * 4) for n in num_inputs)

    ends = range(4, 65, 4)
    least = min(padded((low, middle, lengths[-1])) for low in ends for middle in ends)
    assert least <= padded(lengths) <= least / (1 - WORTH_COMPILING) ** 2


def test_a_length_that_saves_little_is_not_compiled():
    assert choose_row_lengths(np.array([64] * 99 + [32]), context_length=64) == (64,)
    assert choose_row_lengths(np.array([64] * 50 + [32] * 50), context_length=64) == (32, 64)
    assert choose_row_lengths(np.array([64, 40, 20, 16]), context_length=64) == (20, 40, 64)
    assert choose_row_lengths(np.array([7]), context_length=10) == (7,)


def test_rows_of_all_sets_are_mixed_and_none_is_lost():
    def request(item, *lengths):
        rows = tuple(Row(np.full(n + 1, 100 * item + n, np.int32), first=n // 2) for n in lengths)
        return Request(rows, item, option=0, gold=True, num_bytes=7 * item)

    sets = [[request(0, 60, 5), request(1, 9)], [request(0, 64), request(1, 30, 33)]]
    requests, blocks = mix_sets(sets, context_length=64)
    assert requests.dataset_Q.tolist() == [0, 0, 1, 1]
    assert requests.tokens_Q.tolist() == [30 + 3, 5, 32, 15 + 17]
    assert requests.bytes_Q.tolist() == [0, 7, 0, 7]
    found = sorted(
        (int(request), int(length), int(first), int(ids[0]), int(ids[length]), int(ids[length + 1 :].sum()))
        for block in blocks
        for request, length, first, ids in zip(
            block.request_B, block.length_B, block.first_B, block.ids_BT, strict=True
        )
    )
    assert found == sorted(
        (q, n, n // 2, 100 * item + n, 100 * item + n, 0)
        for q, item, n in [(0, 0, 60), (0, 0, 5), (1, 1, 9), (2, 0, 64), (3, 1, 30), (3, 1, 33)]
    )
    assert all(block.length_B.max() <= block.row_length <= 64 for block in blocks)
    assert fill_share(blocks) == pytest.approx(201 / sum(b.ids_BT[:, 1:].size for b in blocks))
