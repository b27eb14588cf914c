"""Small things to evaluate with: a tokenizer of bytes and pairs, a corpus in memory, a model with memory."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

BOS = 256
WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or by one had not but "
    "what all were when we there can an your which their said if do will each about how up out them then she"
)


@dataclass(frozen=True)
class PairTokenizer:
    """Bytes, but some pairs of bytes are one token; BOS 256, EOS 257. Lossless."""

    pairs: tuple[bytes, ...] = ()
    bos_id: int = BOS
    eos_id: int = 257
    lossless: bool = True

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


@dataclass(frozen=True)
class MemoryCorpus:
    """Held-out documents, as `data.corpora.PreparedCorpus` gives them."""

    texts: tuple[str, ...]
    fingerprint: str = "memory"

    def validation_texts(self):
        return iter(self.texts)


def sentences(seed: int, num_documents: int, words: int) -> MemoryCorpus:
    """Documents of random words, of `words` to twice as many."""
    rng = np.random.Generator(np.random.PCG64(seed))
    lengths = rng.integers(words, 2 * words, num_documents)
    texts = tuple(" ".join(rng.choice(WORDS.split(), length)) for length in lengths)
    return MemoryCorpus(texts, f"sentences{seed}")


@dataclass(frozen=True)
class MemoryModel:
    """Next-token logits from the token and a decaying sum of all before it: causal, with long memory."""

    vocab_size: int
    width: int = 8

    def init(self, key):
        table, out = jax.random.split(key)
        return {
            "table": jax.random.normal(table, (self.vocab_size, self.width)),
            "out": jax.random.normal(out, (self.width, self.vocab_size)),
        }

    def axes(self):
        return {"table": ("vocab", "embed"), "out": ("embed", "vocab")}

    def nll(self, params, tokens_BT, targets_BT):
        x_BTD = params["table"][tokens_BT]

        def step(state_BD, x_BD):
            state_BD = 0.9 * state_BD + x_BD
            return state_BD, state_BD

        _, state_TBD = jax.lax.scan(step, jnp.zeros_like(x_BTD[:, 0]), jnp.swapaxes(x_BTD, 0, 1))
        logits_BTV = jnp.swapaxes(state_TBD, 0, 1) @ params["out"]
        logp_BTV = jax.nn.log_softmax(logits_BTV)
        return -jnp.take_along_axis(logp_BTV, targets_BT[..., None], axis=-1)[..., 0]


def slow_nats(params, ids):
    """Nats of each token after the first given all before it, in numpy float64, for a `MemoryModel`."""
    table, out = (np.asarray(params[name], np.float64) for name in ("table", "out"))
    state, nats = np.zeros(table.shape[1]), []
    for token, target in itertools.pairwise(ids):
        state = 0.9 * state + table[token]
        logits = state @ out
        top = logits.max()
        nats.append(top + np.log(np.exp(logits - top).sum()) - logits[target])
    return np.array(nats)
