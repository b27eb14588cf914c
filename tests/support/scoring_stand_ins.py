"""Small stand-ins for evaluation: a tokenizer of bytes and pairs, a corpus in memory, a model with memory."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.evaluate.packing.rows import PackedRows

BOS = 256


class TargetScores(NamedTuple):
    nats_AS: jax.Array
    greedy_AS: jax.Array


WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or by one had not but "
    "what all were when we there can an your which their said if do will each about how up out them then she"
)


@dataclass(frozen=True)
class PairTokenizer:
    """A lossless tokenizer of bytes, in which `pairs` of bytes are one token. BOS is 256, and EOS is 257."""

    pairs: tuple[bytes, ...] = ()
    bos_id: int = BOS
    eos_id: int = 257
    lossless: bool = True
    adds_prefix: bool = False
    fuses_unknown: bool = False

    @property
    def vocab_size(self) -> int:
        return 258 + len(self.pairs)

    @property
    def fingerprint(self) -> str:
        return f"pairs{len(self.pairs)}"

    @property
    def token_bytes_V(self) -> np.ndarray:
        return np.array([1] * 256 + [0, 0] + [2] * len(self.pairs), np.int32)

    def encode(self, text: str) -> np.ndarray:
        data, ids, place = text.encode("utf-8"), [], 0
        while place < len(data):
            pair = data[place : place + 2]
            joined = pair in self.pairs
            ids.append(258 + self.pairs.index(pair) if joined else data[place])
            place += 1 + joined
        return np.array(ids, np.int32)

    def encode_rest(self, text: str) -> np.ndarray:
        return self.encode(text)


@dataclass(frozen=True)
class MemoryCorpus:
    """A corpus of held-out documents, with the interface of `PreparedCorpus`."""

    texts: tuple[str, ...]
    fingerprint: str = "memory"

    def validation_texts(self):
        return iter(self.texts)

    def verify(self, split):
        """Accept every corpus, as one in memory cannot be damaged."""


def sentences(seed: int, num_documents: int, words: int) -> MemoryCorpus:
    """Return documents of random words, from `words` to twice as many."""
    rng = np.random.Generator(np.random.PCG64(seed))
    lengths = rng.integers(words, 2 * words, num_documents)
    texts = tuple(" ".join(rng.choice(WORDS.split(), length)) for length in lengths)
    return MemoryCorpus(texts, f"sentences{seed}")


@dataclass(frozen=True)
class MemoryModel:
    """A causal model with long memory: its logits depend on the token and on a decaying sum of all earlier ones."""

    vocab_size: int
    width: int = 8
    attention: str = "xla"

    def init(self, key):
        table, out = jax.random.split(key)
        return {
            "table": jax.random.normal(table, (self.vocab_size, self.width)),
            "out": jax.random.normal(out, (self.width, self.vocab_size)),
        }

    def axes(self):
        return {"table": ("vocab", "embed"), "out": ("embed", "vocab")}

    def target_scores(self, params, tokens_BT, sources_AS, targets_AS, segments_BT=None, tree=None):
        parent_BT = tree.parent_BT if segments_BT is None else parents_in_segments(segments_BT)
        x_BTD = params["table"][tokens_BT]

        def step(states_BTD, now):
            place, parent_B = now
            before_BD = jnp.take_along_axis(states_BTD, jnp.maximum(parent_B, 0)[:, None, None], axis=1)[:, 0]
            before_BD = jnp.where(parent_B[:, None] < 0, 0.0, before_BD)
            return states_BTD.at[:, place].set(0.9 * before_BD + x_BTD[:, place]), None

        places_T = jnp.arange(tokens_BT.shape[1])
        state_BTD, _ = jax.lax.scan(step, jnp.zeros_like(x_BTD), (places_T, parent_BT.T))
        state_AND = state_BTD.reshape(len(sources_AS), -1, self.width)
        logits_ASV = jnp.take_along_axis(state_AND, sources_AS[..., None], axis=1) @ params["out"]
        nats_ASV = -jax.nn.log_softmax(logits_ASV)
        nats_AS = jnp.take_along_axis(nats_ASV, targets_AS[..., None], axis=-1)[..., 0]
        return TargetScores(nats_AS, targets_AS == nats_ASV.argmin(axis=-1))


def parents_in_segments(segments_BT):
    """Return the position before each one in its segment. -1: the position begins a segment."""
    before_BT = jnp.pad(segments_BT, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    return jnp.where(before_BT == segments_BT, jnp.arange(segments_BT.shape[1])[None] - 1, -1)


def sharpen(params):
    """Return params with matrices three times as large, so that the context matters.

    With start values every token has a loss of about log V, whatever its context.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * leaf if leaf.ndim >= 3 or "embed" in jax.tree_util.keystr(path) else leaf, params
    )


def one_text_a_row(sets):
    """Return all texts of all requests in one block, with one text in each row. Packing must give equal scores."""
    numbered = enumerate(itertools.chain.from_iterable(sets))
    texts = [(text, number) for number, request in numbered for text in request.texts]
    length = max(text.num_inputs for text, _ in texts)
    scored = [np.arange(text.first, text.num_inputs) + row * length for row, (text, _) in enumerate(texts)]
    block = PackedRows(
        ids_BT=np.stack([np.pad(text.ids[:-1], (0, length - text.num_inputs)) for text, _ in texts]),
        visible_until_BT=np.full((len(texts), length), length - 1, np.int32),
        length_B=np.array([text.num_inputs for text, _ in texts]),
        has_branches=False,
        source_S=np.concatenate(scored).astype(np.int32),
        target_S=np.concatenate([text.ids[text.first + 1 :] for text, _ in texts]),
        request_S=np.repeat([number for _, number in texts], [text.num_scored for text, _ in texts]),
    )
    return (block,)


def slow_logits(params, ids):
    """Return the logits of a `MemoryModel` after each token, in numpy float64."""
    table, out = (np.asarray(params[name], np.float64) for name in ("table", "out"))
    state, logits = np.zeros(table.shape[1]), []
    for token in ids:
        state = 0.9 * state + table[token]
        logits.append(state @ out)
    return np.array(logits)


def slow_nats(params, ids):
    """Return the nats of each token after the first."""
    logits = slow_logits(params, ids[:-1])
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(logits)), ids[1:]]
