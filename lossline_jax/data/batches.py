"""Training batches. Batch k is a pure function of (stores, mixture, seed, k)."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grain
import jax
import numpy as np

from lossline_jax.config.data import DataConfig
from lossline_jax.config.serialise import fingerprint
from lossline_jax.data.token_store import TokenStore
from lossline_jax.errors import LosslineError, suggestion

PREFETCH_BATCHES = 16  # batches that are read ahead
PREFETCH_THREADS = 2
MAX_EPOCHS = 1 << 20  # epochs of a corpus in one run; grain cannot slice an endless sequence

Example = tuple[int, int]  # index of the corpus in the mixture, index of the window in the corpus


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """A batch of training sequences for one step. Row b of every field belongs to the same window.

    The arrays are numpy arrays until `distributed.batch_rows.place_batch` puts them on the devices.

    Attributes:
        tokens_BT: int32 inputs.
        targets_BT: int32, the next token of each input.
        weights_BT: float32 weight of each target in the loss. 0: the target is not trained on.
        segments_BT: int32 number of the document of each input, from 0 in each window. None: attention and state
            cross documents (`DataConfig.separate_documents`).
    """

    tokens_BT: np.ndarray | jax.Array
    targets_BT: np.ndarray | jax.Array
    weights_BT: np.ndarray | jax.Array
    segments_BT: np.ndarray | jax.Array | None = None


class BatchSource:
    """The training batches of a run: windows in a new order each epoch, from corpora mixed by weight.

    A window has `context_length + 1` tokens. Windows of a corpus begin every `context_length` tokens of its stream,
    across documents. A cap on unique tokens keeps a fixed subset of each corpus' windows, chosen by the seed. A study
    holds the sources of all runs. Arrays as long as a corpus are therefore made with an iterator and freed with it.

    Args:
        stores: token stores by name of the corpus.
        vocab_size: vocabulary of the run's tokenizer.
        data: mixture of the run.
        context_length: tokens per training sequence.
        batch_size: sequences per step, over all processes.
        seed: seed of the run.

    Raises:
        LosslineError: a corpus is unknown, a weight is bad, the stores have different tokenizers, a corpus is shorter
            than one window, or the cap is below one window per corpus.
    """

    def __init__(
        self,
        stores: Mapping[str, TokenStore],
        vocab_size: int,
        data: DataConfig,
        *,
        context_length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._shares = _mixture_shares(data, stores)
        self._stores = [stores[name] for name in self._shares]
        _refuse_other_tokenizers(self._stores, vocab_size)
        self._data = data
        self._context_length = context_length
        self._batch_size = batch_size
        self._seed = seed
        self._windows = {name: _count_windows(name, stores[name], context_length) for name in self._shares}
        self._used = {name: self._capped(name) for name in self._shares}

    @property
    def fingerprint(self) -> str:
        """The fingerprint of everything that decides the content of batch k.

        A checkpoint that was made with another fingerprint is refused.
        """
        stores = [store.fingerprint for store in self._stores]
        return fingerprint([stores, self._data, self._context_length, self._batch_size, self._seed])

    def epochs(self, num_steps: int) -> dict[str, float]:
        """Return how often a run of `num_steps` steps reads each corpus, or the capped part of it."""
        examples = num_steps * self._batch_size
        return {name: examples * share / self._used[name] for name, share in self._shares.items()}

    def unique_tokens(self, num_steps: int) -> int:
        """Return the number of distinct training tokens in the first `num_steps` batches.

        A token that a later epoch reads again is counted once. In a mixture, each corpus has its share of the tokens.
        """
        windows = sum(min(epochs, 1.0) * self._used[name] for name, epochs in self.epochs(num_steps).items())
        return round(windows) * self._context_length

    def check_epochs(self, num_steps: int) -> None:
        """Refuse a run that repeats a corpus too often.

        Args:
            num_steps: steps of the run.

        Raises:
            LosslineError: the run reads a corpus more often than `data.max_epochs` allows.
        """
        for name, epochs in self.epochs(num_steps).items():
            if self._data.max_epochs is not None and epochs > self._data.max_epochs:
                raise LosslineError(
                    f"data.max_epochs is {self._data.max_epochs:g}, but {num_steps} steps of {self._batch_size} x "
                    f"{self._context_length} tokens read corpus {name!r} {epochs:.2f} times; train on fewer "
                    "tokens, give it more text or less weight, or raise max_epochs"
                )

    def batch(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
        """Return the rows of batch `step` for one of `process_count` processes.

        Args:
            step: index of the batch, from 0.
            process_index: index of this process. Process p of P has rows [p B / P, (p + 1) B / P).
            process_count: number of processes.

        Raises:
            LosslineError: `process_count` does not divide the batch size.
        """
        # grain types an item as optional, since a filter can drop items. No filter is used here.
        return self._batches(process_index, process_count)[step]  # pyright: ignore[reportReturnType]

    def iterate(
        self, start_step: int = 0, process_index: int = 0, process_count: int = 1
    ) -> grain.DatasetIterator[Batch]:
        """Return an endless iterator over the batches from `start_step` on. Threads read ahead until it is closed.

        The worker processes of grain are not used, since each takes seconds to start and imports jax.

        Args:
            start_step: index of the first batch.
            process_index: as for `batch`.
            process_count: as for `batch`.

        Raises:
            LosslineError: as for `batch`.
        """
        batches = self._batches(process_index, process_count)[start_step:]
        options = grain.ReadOptions(num_threads=PREFETCH_THREADS, prefetch_buffer_size=PREFETCH_BATCHES)
        return iter(batches.to_iter_dataset(options))

    def _batches(self, process_index: int, process_count: int) -> grain.MapDataset[Batch]:
        if self._batch_size % process_count:
            raise LosslineError(
                f"batch_size {self._batch_size} cannot be split over {process_count} processes; use a multiple"
            )
        rows = self._batch_size // process_count
        blocks = self._examples().batch(rows, batch_fn=list)[process_index::process_count]
        separate = self._data.separate_documents
        document_starts = [store.document_offsets for store in self._stores] if separate else None
        return blocks.map(functools.partial(self._gather, document_starts))

    def _examples(self) -> grain.MapDataset[Example]:
        """Return all examples in order. Each epoch is shuffled differently, and corpora are mixed by their shares."""
        corpora = [self._corpus_examples(index, name) for index, name in enumerate(self._shares)]
        if len(corpora) == 1:
            return corpora[0]
        return grain.MapDataset.mix(corpora, weights=list(self._shares.values()))

    def _corpus_examples(self, corpus_index: int, name: str) -> grain.MapDataset[Example]:
        windows = np.arange(self._windows[name])
        if self._used[name] < self._windows[name]:
            # numpy chooses the subset, since grain would choose a different one in each epoch.
            rng = np.random.default_rng(self._shuffle_seed(name, "subset"))
            windows = np.sort(rng.permutation(windows)[: self._used[name]])
        # grain's type of a source does not include numpy arrays, but grain accepts them.
        source = grain.MapDataset.source(windows)  # pyright: ignore[reportArgumentType]
        order = source.shuffle(seed=self._shuffle_seed(name, "order"))
        return order.repeat(MAX_EPOCHS).map(lambda window: (corpus_index, int(window)))

    def _shuffle_seed(self, name: str, purpose: str) -> int:
        return int(fingerprint([self._seed, name, purpose], digits=8), 16)

    def _capped(self, name: str) -> int:
        cap = self._data.unique_tokens
        if cap is None:
            return self._windows[name]
        windows = int(cap * self._shares[name]) // self._context_length
        if windows < 1:
            raise LosslineError(
                f"data.unique_tokens {cap} leaves corpus {name!r} less than one window of "
                f"{self._context_length} tokens; raise it"
            )
        return min(windows, self._windows[name])

    def _gather(self, document_starts: Sequence[np.ndarray] | None, examples: Sequence[Example]) -> Batch:
        """Read the tokens of `examples`. `document_starts` has the first position of each document, by corpus."""
        tokens = np.empty((len(examples), self._context_length + 1), np.int32)
        segments_BT = None if document_starts is None else np.empty((len(examples), self._context_length), np.int32)
        corpora_B, windows_B = np.array(examples).T
        for corpus in np.unique(corpora_B):
            is_of_corpus_B = corpora_B == corpus
            starts = windows_B[is_of_corpus_B] * self._context_length
            tokens[is_of_corpus_B] = self._stores[corpus].tokens.gather(starts, self._context_length + 1)
            if document_starts is not None and segments_BT is not None:
                positions_BT = starts[:, None] + np.arange(self._context_length)
                documents_BT = np.searchsorted(document_starts[corpus], positions_BT, side="right")
                segments_BT[is_of_corpus_B] = documents_BT - documents_BT[:, :1]
        targets_BT = np.ascontiguousarray(tokens[:, 1:])
        return Batch(
            tokens_BT=np.ascontiguousarray(tokens[:, :-1]),
            targets_BT=targets_BT,
            weights_BT=np.ones(targets_BT.shape, np.float32),
            segments_BT=segments_BT,
        )


def _mixture_shares(data: DataConfig, stores: Mapping[str, TokenStore]) -> dict[str, float]:
    """Return the share of each corpus in the examples. The shares sum to one."""
    if not data.mixture:
        raise LosslineError("data.mixture is empty; name at least one corpus")
    names = [name for name, _ in data.mixture]
    for name, weight in data.mixture:
        if name not in stores:
            raise LosslineError(
                f"data.mixture: corpus {name!r} is not one of {sorted(stores)}{suggestion(name, stores)}"
            )
        if names.count(name) > 1:
            raise LosslineError(f"data.mixture: corpus {name!r} is given twice; add its weights")
        if not (weight > 0 and math.isfinite(weight)):
            raise LosslineError(f"data.mixture: weight {weight} of corpus {name!r} must be positive")
    total = sum(weight for _, weight in data.mixture)
    return {name: weight / total for name, weight in data.mixture}


def _refuse_other_tokenizers(stores: list[TokenStore], vocab_size: int) -> None:
    for store in stores:
        if store.manifest["tokenizer_fingerprint"] != stores[0].manifest["tokenizer_fingerprint"]:
            raise LosslineError(
                f"{store.folder}: made with another tokenizer than {stores[0].folder}; prepare both with the same one"
            )
        if store.manifest["vocab_size"] != vocab_size:
            raise LosslineError(
                f"{store.folder}: has a vocabulary of {store.manifest['vocab_size']}, the run's tokenizer of "
                f"{vocab_size}; run `lossline-jax prepare`"
            )


def _count_windows(name: str, store: TokenStore, context_length: int) -> int:
    windows = (store.num_tokens - 1) // context_length
    if windows < 1:
        raise LosslineError(
            f"corpus {name!r} has {store.num_tokens} tokens, less than one window of {context_length} + 1; "
            "shorten context_length or add text"
        )
    return windows
