"""A position of a packed row sees its own text and nothing else. Few rows are needed, and they are nearly full."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.evaluate.packing.device_batches import batch_for_devices
from lossline_jax.evaluate.packing.pack import (
    LONGEST_BRANCHING_ROW,
    QUADRATIC_LENGTH,
    WORTH_COMPILING,
    choose_row_lengths,
    item_pieces,
    pack,
)
from lossline_jax.evaluate.packing.rows import (
    MAX_BRANCHING_LENGTHS,
    MAX_PLAIN_LENGTHS,
    Request,
    fill_share,
    pack_sets,
    select_requests,
)
from lossline_jax.evaluate.packing.windows import Text, document_texts, option_text
from tests.support.scoring_stand_ins import one_text_a_row

BOS = 9
TOKENS = st.lists(st.integers(0, 8), max_size=12)


def ids(tokens):
    return np.array(tokens, np.int32)


@st.composite
def sets_of_requests(draw, context_length):
    """Draw documents in windows, and items whose options share all, a part or nothing of their context."""
    documents = draw(st.lists(st.integers(1, 3 * context_length), max_size=3))
    overlap = draw(st.integers(0, context_length - 1))
    validation = [
        Request(tuple(document_texts(np.arange(n) % 8, BOS, context_length, overlap)), item, 0, True, n, n)
        for item, n in enumerate(documents)
    ]
    task = []
    for item, context in enumerate(draw(st.lists(TOKENS, min_size=1, max_size=6))):
        own_context = draw(st.booleans())
        for k, option in enumerate(draw(st.lists(TOKENS.filter(len), min_size=1, max_size=5))):
            start = [k, *context] if own_context else context
            text = option_text(ids(start), ids(option), BOS, context_length)
            task.append(Request((text,), item, k, k == 0, len(option), len(option)))
    return [validation, task]


def scored_tokens(blocks):
    """Return each scored token as (request, the visible tokens, the token), by the definition of `until`."""
    scored = []
    for block in blocks:
        for source, target, request in zip(block.source_S, block.target_S, block.request_S, strict=True):
            row, place = divmod(int(source), block.row_length)
            visible_places = [k for k in range(place + 1) if block.visible_until_BT[row, k] >= place]
            assert visible_places[-1] == place < block.length_B[row]
            scored.append((int(request), tuple(block.ids_BT[row, visible_places].tolist()), int(target)))
    return sorted(scored)


def first_of_equal_options(sets):
    """Return for each request the first request of its item with the same tokens."""
    requests = [(dataset, request) for dataset, members in enumerate(sets) for request in members]

    def key(dataset, request):
        return dataset, request.item, [(text.ids.tolist(), text.first) for text in request.texts]

    keys = [key(*entry) for entry in requests]
    return [keys.index(entry) for entry in keys]


def expected_tokens(sets, numbers):
    requests = list(itertools.chain.from_iterable(sets))
    return sorted(
        (number, tuple(text.ids[: place + 1].tolist()), int(text.ids[place + 1]))
        for number in numbers
        for text in requests[number].texts
        for place in range(text.first, text.num_inputs)
    )


@given(sets_of_requests(context_length=16))
def test_every_token_is_predicted_from_its_own_text_alone(sets):
    requests, blocks = pack_sets(sets, context_length=16)
    twins = first_of_equal_options(sets)
    assert requests.duplicate_of_Q.tolist() == twins
    assert scored_tokens(blocks) == expected_tokens(sets, sorted({*twins}))
    tokens_Q = np.bincount(np.concatenate([block.request_S for block in blocks]), minlength=len(twins))
    np.testing.assert_array_equal(requests.tokens_Q, tokens_Q[twins])
    assert sum(block.has_branches for block in blocks) <= MAX_BRANCHING_LENGTHS
    assert sum(not block.has_branches for block in blocks) <= MAX_PLAIN_LENGTHS
    for block in blocks:
        assert block.length_B.max() <= block.row_length <= 16
        if not block.has_branches:  # these numbers are read as segment numbers
            assert (np.diff(block.visible_until_BT, axis=1) >= 0).all()
    assert scored_tokens(one_text_a_row(sets)) == expected_tokens(sets, range(len(twins)))


@given(sets_of_requests(context_length=16), st.randoms())
def test_rows_of_some_requests_score_these_alone(sets, random):
    requests, blocks = pack_sets(sets, context_length=16)
    selected_Q = np.array([random.random() < 0.3 for _ in requests.item_Q])
    kept = select_requests(blocks, selected_Q)
    assert scored_tokens(kept) == [
        scored_token for scored_token in scored_tokens(blocks) if selected_Q[scored_token[0]]
    ]
    for block in kept:  # every remaining row has a scored token
        assert {*(block.source_S // block.row_length).tolist()} == {*range(len(block.ids_BT))}


@given(sets_of_requests(context_length=16))
def test_a_path_forks_once_as_a_scan_over_the_positions_needs(sets):
    for block in pack_sets(sets, context_length=16)[1]:
        for until_T in block.visible_until_BT:
            visible_places = [[k for k in range(i) if until_T[k] >= i] for i in range(len(until_T))]
            parent = [places[-1] if places else None for places in visible_places]
            forks = {p for p in parent if p is not None and parent.count(p) > 1}
            assert all(len(forks.intersection(places)) <= 1 for places in visible_places)


def options_of(context, *options, context_length=64):
    return [option_text(ids(context), ids(option), BOS, context_length) for option in options]


def pieces_of(texts, longest=64):
    return [(len(piece.ids), piece.branches) for piece in item_pieces(texts, range(len(texts)), longest)]


def test_options_branch_off_what_they_share():
    texts = options_of([1, 2], [3, 4, 5], [3, 6], [7])
    (tree,) = item_pieces(texts, [10, 11, 12], longest=64)
    assert tree.ids.tolist() == [BOS, 1, 2, 3, 4, 3]
    assert tree.until.tolist() == [5, 5, 5, 4, 4, 5]
    assert tree.source.tolist() == [2, 3, 4, 2, 5, 2]
    assert tree.target.tolist() == [3, 4, 5, 3, 6, 7]
    assert tree.request.tolist() == [10, 10, 10, 11, 11, 12]


def test_equal_options_are_laid_out_once_and_equal_items_each():
    texts = options_of([1, 2], [3, 4], [5, 6], [3, 4])
    items = [[Request((text,), item, k, k == 0, 1, k) for k, text in enumerate(texts)] for item in range(2)]
    requests, blocks = pack_sets([items[0] + items[1]], 64)
    assert requests.duplicate_of_Q.tolist() == [0, 1, 0, 3, 4, 3]
    assert requests.tokens_Q.tolist() == [2] * 6
    assert sorted(np.concatenate([block.request_S for block in blocks])) == [0, 0, 1, 1, 3, 3, 4, 4]


def test_options_of_one_token_cost_no_more_than_one_of_them():
    assert pieces_of(options_of([1] * 20, [3], [4], [5], [6])) == [(21, False)]
    assert pieces_of(options_of([1] * 20, [3], [4]), longest=10) == [(21, False)]  # this piece does not branch


def test_a_tree_is_split_where_it_is_too_long_and_left_where_it_saves_little():
    options = [[k] * 9 for k in range(4)]  # 8 inputs each
    assert pieces_of(options_of([8] * 9, *options)) == [(42, True)]
    assert pieces_of(options_of([8] * 9, *options), longest=41) == [(34, True), (18, False)]
    assert pieces_of(options_of([8] * 9, *options), longest=25) == [(18, False)] * 4
    assert pieces_of(options_of([], *options)) == [(9, False)] * 4  # only BOS is shared: 33 positions against 36
    assert pieces_of(options_of([8], *options)) == [(34, True)]  # 34 positions against 40


@given(st.lists(st.integers(1, 64), min_size=1, max_size=80), st.integers(1, 64))
def test_rows_are_never_overfull_and_half_full_at_least(sizes, short):
    rows = pack(sizes, sorted({short, 64}))
    assert sorted(k for _, members in rows for k in members) == list(range(len(sizes)))
    filled = [(length, sum(sizes[k] for k in members)) for length, members in rows]
    assert all(used <= length for length, used in filled)
    for length in {short, 64}:  # no two rows of a length fit into one row
        used = sorted(used for row_length, used in filled if row_length == length)
        assert len(used) < 2 or used[0] + used[1] > length


def test_a_piece_goes_where_it_leaves_the_least_room():
    assert pack([6, 5, 4, 3, 2], [10]) == [(10, [0, 2]), (10, [1, 3, 4])]
    assert pack([2, 9, 4, 1], [5, 10]) == [(10, [1]), (5, [2, 3]), (5, [0])]


def test_row_lengths_by_hand():
    assert choose_row_lengths(np.array([64] * 99 + [32]), longest=64, max_lengths=2) == (64,)
    assert choose_row_lengths(np.array([20] * 100), longest=512, max_lengths=4) == (20,)  # attention costs least
    assert choose_row_lengths(np.array([500] * 9 + [60] * 99), longest=512, max_lengths=1) == (512,)
    assert choose_row_lengths(np.array([500] * 9 + [60] * 99), longest=512, max_lengths=2) == (60, 512)
    assert choose_row_lengths(np.array([33] * 50), longest=512, max_lengths=4) == (36,)  # 8 lengths an octave
    assert choose_row_lengths(np.array([7]), longest=10, max_lengths=2) == (7,)
    assert choose_row_lengths(np.array([10]), longest=10, max_lengths=2) == (10,)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_each_row_length_saves_what_it_must(sizes):
    lengths = choose_row_lengths(np.array(sizes), longest=64, max_lengths=3)
    assert max(sizes) <= lengths[-1] <= 64
    assert list(lengths) == sorted(set(lengths))
    assert lengths == choose_row_lengths(np.array(sizes[::-1]), longest=64, max_lengths=3)

    def work(ends):
        return sum(length * (QUADRATIC_LENGTH + length) for length, _ in pack(sizes, ends))

    ends = [*range(1, 16), *range(16, 32, 2), *range(32, 64, 4), 64]
    single = min(work((top,)) for top in ends if top >= max(sizes))
    assert len(lengths) <= 3
    assert work(lengths) <= (1 - WORTH_COMPILING) ** (len(lengths) - 1) * single


def test_real_proportions_fill_the_rows_and_halve_the_tokens():
    """The items are like those of real tasks: a context of about 40 tokens and four options of about 10."""
    rng = np.random.Generator(np.random.PCG64(0))
    task = [
        Request((option_text(context, rng.integers(0, 8, rng.integers(4, 16)), BOS, 1024),), item, k, k == 0, 1, 1)
        for item in range(300)
        for context in [rng.integers(0, 8, rng.integers(20, 60))]
        for k in range(4)
    ]
    task.append(Request((Text(np.zeros(801, np.int32), 0),), 300, 0, True, 1, 1))  # too long for a branching row
    _, blocks = pack_sets([task], context_length=1024)
    assert fill_share(blocks) > 0.93
    assert sum(block.ids_BT.size for block in blocks) < 0.55 * sum(r.texts[0].num_inputs for r in task)
    assert max(block.row_length for block in blocks if block.has_branches) <= LONGEST_BRANCHING_ROW


@given(sets_of_requests(context_length=16), st.integers(1, 5), st.integers(1, 200), st.booleans())
def test_rows_are_dealt_out_whole_and_evenly(sets, num_shards, tokens_per_shard, reuse_shapes):
    for block in pack_sets(sets, context_length=16)[1]:
        layout = batch_for_devices(block, num_shards, tokens_per_shard, reuse_shapes)
        num_batches, _, num_slots = layout.source_GAS.shape
        rows_per_shard = layout.ids_GBT.shape[1] // num_shards
        shape = (num_batches * num_shards, -1)
        ids_NP, until_NP = (x.reshape(shape) for x in (layout.ids_GBT, layout.visible_until_GBT))
        shard_S, slot_S = np.divmod(layout.slot_S, num_slots)
        place_S = layout.source_GAS.reshape(shape)[shard_S, slot_S]
        assert len(set(layout.slot_S.tolist())) == len(block.source_S)
        np.testing.assert_array_equal(layout.target_GAS.reshape(shape)[shard_S, slot_S], block.target_S)
        length = block.row_length
        for source, shard, place in zip(block.source_S, shard_S, place_S, strict=True):
            row, start = source // length, place - source % length
            np.testing.assert_array_equal(ids_NP[shard, start : start + length], block.ids_BT[row])
            np.testing.assert_array_equal(until_NP[shard, start : start + length], block.visible_until_BT[row])
        slots_of_row = np.bincount(block.source_S // length)
        if reuse_shapes:
            needed = -(-len(block.ids_BT) // (num_shards * max(tokens_per_shard // length, 1)))
            assert needed <= num_batches <= 1.25 * needed
            assert rows_per_shard * length <= max(tokens_per_shard, length)
        else:
            assert rows_per_shard * length <= max(tokens_per_shard, length)
            assert num_batches * num_shards * (rows_per_shard - 1) < len(block.ids_BT)
            assert num_slots <= rows_per_shard * slots_of_row.max()


def test_the_scored_tokens_of_batches_are_about_as_many():
    texts = [Text(np.zeros(65, np.int32), first) for first in [0] * 40 + [62] * 120]
    _, (block,) = pack_sets([[Request((text,), k, 0, True, 1, 1) for k, text in enumerate(texts)]], 64)
    layout = batch_for_devices(block, num_shards=2, tokens_per_shard=64 * 20)
    # Each of the 4 * 2 parts has 5 whole rows and 15 rows of two tokens.
    assert layout.source_GAS.shape == (4, 2, 5 * 64 + 15 * 2)


def test_the_rows_with_most_scored_tokens_are_dealt_out_first():
    texts = [Text(np.zeros(65, np.int32), 64 - scored) for scored in (5, 2, 8, 5)]
    _, (block,) = pack_sets([[Request((text,), k, 0, True, 1, 1) for k, text in enumerate(texts)]], 64)
    # The shards have 8 + 2 and 5 + 5 scored tokens.
    assert batch_for_devices(block, num_shards=2, tokens_per_shard=128).source_GAS.shape == (1, 2, 10)


def test_few_shapes_are_shared_by_blocks_of_other_sizes():
    def shape(num_rows):
        texts = [Text(np.zeros(33, np.int32), 20 + k % 3) for k in range(num_rows)]
        (block,) = pack_sets([[Request((text,), k, 0, True, 1, 1) for k, text in enumerate(texts)]], 32)[1]
        return batch_for_devices(block, 1, 32 * 4, reuse_shapes=True).source_GAS.shape

    assert len({shape(n) for n in range(36, 41)}) == 1
    # There are four numbers of batches for each factor of two, and at most two numbers of slots for each.
    assert len({shape(n) for n in range(16, 257)}) <= 17 * 2
