"""Training windows have a fixed order, which is complete, keeps the mixture, and is the same for any process count."""

import itertools
import json

import grain
import jax
import numpy as np
import pytest
from etils import epath

from lossline_jax.config.data import ByteTokenizer, DataConfig, FilesCorpus
from lossline_jax.data.batches import Batch, BatchSource
from lossline_jax.data.corpora.prepare import prepare_corpus
from lossline_jax.data.token_store import prepare_store
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.errors import LosslineError

TOKENIZER = prepare_tokenizer(ByteTokenizer(), {}, epath.Path("unused"))
FIELDS = ("tokens_BT", "targets_BT", "weights_BT")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Return two corpora without equal windows, because each document contains its own number."""
    folder = tmp_path_factory.mktemp("stores")
    made = {}
    for name, documents in (("small", 30), ("large", 200)):
        lines = [json.dumps({"text": f"{name} {k:05d} " * 3}) for k in range(documents)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        corpus = FilesCorpus(name, (f"{folder}/{name}.jsonl",))
        prepared = prepare_corpus(corpus, epath.Path(folder / "corpora"), 0.0)
        made[name] = prepare_store(prepared, TOKENIZER, epath.Path(folder / "tokens"), shard_tokens=500)
    return made


def source(stores, mixture=(("large", 1.0),), context_length=16, batch_size=8, seed=0, **data):
    config = DataConfig(tuple(mixture), **data)
    sizes = {"context_length": context_length, "batch_size": batch_size}
    return BatchSource(stores, TOKENIZER.vocab_size, config, **sizes, seed=seed)


def windows_of(batch):
    """Return the rows as tuples of context_length + 1 ids."""
    return [(*row, last) for row, last in zip(batch.tokens_BT.tolist(), batch.targets_BT[:, -1].tolist(), strict=True)]


def num_windows(store, context_length=16):
    return (store.num_tokens - 1) // context_length


def same(a, b):
    return all(np.array_equal(getattr(a, field), getattr(b, field)) for field in FIELDS)


def test_rows_are_windows_of_the_stream(stores):
    stream = stores["large"].tokens[:].tolist()
    known = {tuple(stream[k * 16 : k * 16 + 17]) for k in range(num_windows(stores["large"]))}
    batch = source(stores).batch(3)
    assert set(windows_of(batch)) <= known
    np.testing.assert_array_equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])
    np.testing.assert_array_equal(batch.weights_BT, np.ones((8, 16), np.float32))
    assert [getattr(batch, field).dtype for field in FIELDS] == [np.int32, np.int32, np.float32]


def test_documents_of_a_window_are_numbered_where_they_are_to_be_kept_apart(stores):
    batch = source(stores, (("large", 0.5), ("small", 0.5)), context_length=100, separate_documents=True).batch(0)
    is_bos_BT = batch.tokens_BT == TOKENIZER.bos_id
    is_bos_BT[:, 0] = False  # the first document of a window is number 0, even if it began in an earlier window
    np.testing.assert_array_equal(batch.segments_BT, np.cumsum(is_bos_BT, axis=1))
    assert batch.segments_BT.max() > 0
    assert batch.segments_BT.dtype == np.int32
    assert source(stores).batch(0).segments_BT is None


def test_a_batch_is_a_pytree_of_its_arrays(stores):
    """A batch can be placed on devices and passed to the jitted step without any conversion."""
    batch = source(stores, separate_documents=True).batch(0)
    placed = jax.device_put(batch)
    assert isinstance(placed, Batch)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(placed))
    assert same(placed, batch)
    assert len(jax.tree.leaves(source(stores).batch(0))) == 3  # without segments there is no fourth leaf


def test_a_source_holds_no_array_of_its_corpora_between_reads(stores):
    rows = source(stores, separate_documents=True, unique_tokens=320)
    next(rows.iterate(2))
    arrays = [value for value in vars(rows).values() if isinstance(value, (np.ndarray, grain.MapDataset))]
    assert not arrays


def test_every_epoch_has_each_window_once_in_another_order(stores):
    count = num_windows(stores["large"])
    rows = source(stores, batch_size=1)
    epochs = [[windows_of(rows.batch(e * count + k))[0] for k in range(count)] for e in range(3)]
    assert len(set(epochs[0])) == count
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_depends_on_its_number_alone(stores):
    mixture = (("large", 0.7), ("small", 0.3))
    first = source(stores, mixture)
    order = [600, 3, 511, 0, 512]
    batches = {step: first.batch(step) for step in order}
    second = source(stores, mixture)
    assert all(same(batches[step], second.batch(step)) for step in sorted(order))
    assert not same(batches[0], source(stores, mixture, seed=1).batch(0))


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_processes_have_slices_of_the_global_batch(stores, process_count):
    rows = source(stores, (("large", 2.0), ("small", 1.0)))
    for step in (0, 511, 100_000):
        parts = [rows.batch(step, process, process_count) for process in range(process_count)]
        for field in FIELDS:
            joined = np.concatenate([getattr(part, field) for part in parts])
            np.testing.assert_array_equal(joined, getattr(rows.batch(step), field))


def test_iterator_gives_the_batches_from_any_step(stores):
    rows = source(stores, (("large", 2.0), ("small", 1.0)))
    for process, count in ((0, 1), (1, 2)):
        for step, batch in zip(range(37, 60), rows.iterate(37, process, count), strict=False):
            assert same(batch, rows.batch(step, process, count))


def test_mixture_keeps_its_weights(stores):
    rows = source(stores, (("large", 3.0), ("small", 1.0)), batch_size=64, context_length=8)
    small = stores["small"].tokens[:].tolist()
    windows = {tuple(small[8 * k : 8 * k + 9]) for k in range(num_windows(stores["small"], 8))}
    windows -= set(windows_of(source(stores, context_length=8, batch_size=2000).batch(0)))
    of_small = [window in windows for step in range(64) for window in windows_of(rows.batch(step))]
    assert 0.15 < np.mean(of_small) <= 0.25  # some windows, such as "00000 ", are in both corpora
    examples = rows.epochs(64)
    assert examples["large"] * num_windows(stores["large"], 8) == pytest.approx(0.75 * 64 * 64)
    assert examples["small"] * num_windows(stores["small"], 8) == pytest.approx(0.25 * 64 * 64)


def test_order_never_changes(stores):
    """The ids are fixed here, because another order (from us or from a new grain) would change every resumed run."""
    rows = source(stores, (("large", 3.0), ("small", 1.0)), batch_size=4)
    ids = [rows.batch(step).tokens_BT[:, 5].tolist() for step in (0, 7, 1000)]
    assert ids == [[49, 48, 101, 257], [101, 48, 55, 48], [51, 114, 101, 97]]


def test_unique_tokens_are_a_fixed_subset(stores):
    cap = 20 * 16
    rows = source(stores, batch_size=10, unique_tokens=cap)
    epochs = [windows_of(rows.batch(2 * e)) + windows_of(rows.batch(2 * e + 1)) for e in range(5)]
    assert all(len(set(epoch)) == 20 and set(epoch) == set(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    other_seed = source(stores, batch_size=10, unique_tokens=cap, seed=1)
    assert set(windows_of(other_seed.batch(0))) - set(epochs[0])
    assert rows.epochs(4) == {"large": 2.0}
    mixed = source(stores, (("large", 3.0), ("small", 1.0)), unique_tokens=40 * 16)
    assert mixed.epochs(5) == {"large": 1.0, "small": 1.0}


def test_a_smaller_cap_is_a_part_of_a_larger_one(stores):
    def read(cap):
        rows = source(stores, batch_size=10, unique_tokens=cap and cap * 16)
        return {window for step in range(8) for window in windows_of(rows.batch(step))}

    assert read(10) < read(20) < read(40) < read(60)


@pytest.mark.parametrize(("cap", "separate"), [(20, False), (20, True), (None, False)])
def test_unique_tokens_are_counted_as_they_are_read(stores, cap, separate):
    rows = source(stores, batch_size=10, unique_tokens=cap and cap * 16, separate_documents=separate)
    steps, distinct = num_windows(stores["large"]) // 10 + 2, set()
    for step in range(steps):
        assert rows.unique_tokens(step) == len(distinct) * 16
        distinct |= set(windows_of(rows.batch(step)))
    assert len(distinct) == (cap or num_windows(stores["large"]))  # the last steps read a second epoch


def test_too_many_epochs_are_refused(stores):
    rows = source(stores, max_epochs=2.0)
    allowed = int(2 * num_windows(stores["large"])) // 8
    rows.check_epochs(allowed)
    with pytest.raises(LosslineError, match=r"max_epochs is 2, but .* read corpus 'large' 2\.\d+ times"):
        rows.check_epochs(allowed + 1)
    source(stores).check_epochs(10**9)


def test_fingerprint_follows_everything_that_decides_a_batch(stores):
    variants = [
        source(stores),
        source(stores, seed=1),
        source(stores, context_length=15),
        source(stores, batch_size=4),
        source(stores, unique_tokens=640),
        source(stores, (("small", 1.0),)),
        source(stores, (("small", 1.0), ("large", 1.0))),
    ]
    prints = [variant.fingerprint for variant in variants]
    assert len(set(prints)) == len(prints)
    assert source(stores).fingerprint == prints[0]


def test_bad_mixtures_are_refused_in_one_line(stores):
    def message(*args, **kwargs):
        with pytest.raises(LosslineError) as caught:
            source(stores, *args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean 'large'?" in message((("lage", 1.0),))
    assert "is given twice" in message((("large", 1.0), ("large", 2.0)))
    assert "must be positive" in message((("large", 0.0),))
    assert "must be positive" in message((("large", float("nan")),))
    assert "mixture is empty" in message(())
    assert "less than one window of 100000 + 1" in message(context_length=100_000)
    assert "less than one window" in message((("large", 1.0), ("small", 1.0)), unique_tokens=20)
    with pytest.raises(LosslineError, match="cannot be split over 3 processes"):
        source(stores).batch(0, 0, 3)
    with pytest.raises(LosslineError, match="vocabulary of 258"):
        BatchSource(stores, 300, DataConfig((("large", 1.0),)), context_length=16, batch_size=8, seed=0)


def test_no_window_is_left_out_of_a_mixture(stores):
    rows = source(stores, (("large", 1.0), ("small", 1.0)), batch_size=16)
    steps = range(2 * num_windows(stores["large"]) // 16 + 1)
    windows = set(itertools.chain.from_iterable(windows_of(rows.batch(step)) for step in steps))
    assert len(windows) == num_windows(stores["large"]) + num_windows(stores["small"])
