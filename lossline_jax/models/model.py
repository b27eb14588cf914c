"""The one interface of all models: init(key) -> params, then pure functions of params and tokens."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lossline_jax.config.model import ModelConfig, max_context_length
from lossline_jax.config.validate import check_config
from lossline_jax.distributed.sharding import constrain
from lossline_jax.errors import LosslineError
from lossline_jax.models.declaration import declare_model
from lossline_jax.models.decoder import Decoder, Remat, unembedding
from lossline_jax.models.initialise import initialise
from lossline_jax.models.parameters import Declaration, Params
from lossline_jax.ops.attention import AttentionImpl
from lossline_jax.ops.block_sizes import MIN_LOGITS_CHUNK
from lossline_jax.ops.fsdp import gather_parameter
from lossline_jax.ops.nll import TargetScores, logits, target_scores, token_nll
from lossline_jax.ops.platform import platform
from lossline_jax.ops.prefix_tree import PrefixTree

# Logits held at once by `Model.nll`: 16 MB of float32, but never fewer positions a sequence than MIN_LOGITS_CHUNK.
_MAX_LOGITS = 2**22
# The same for scoring, which keeps none of them: 512 MB, so that few large products fill an accelerator.
_MAX_SCORED_LOGITS_ACCELERATOR = 2**27

# NaN for a source that is not there.
_gather = jax.vmap(functools.partial(jnp.take, axis=0, mode="fill"))


@dataclass(frozen=True)
class Model:
    """A language model as pure functions. Hashable, so it may be a static argument of `jax.jit`.

    Params are nested dicts of float32 arrays with the layers stacked on axis 0 of everything under `blocks`.
    """

    config: ModelConfig
    vocab_size: int
    remat: Remat = "none"  # what the backward pass makes anew
    attention: AttentionImpl = "xla"

    def init(self, key: jax.Array) -> Params:
        """Start values; the same for the same key on any mesh. Works under jit, vmap and eval_shape."""
        return initialise(key, self._declaration())

    def axes(self) -> dict[str, Any]:
        """The params tree with the logical axis names of each leaf, a tuple, in its place."""
        return jax.tree.map(lambda leaf: leaf.axes, self._declaration())

    def weight_decay_mask(self) -> dict[str, Any]:
        """The params tree with True at the leaves that weight decay applies to."""
        return jax.tree.map(lambda leaf: leaf.is_decayed, self._declaration())

    def hidden_states(
        self,
        params: Params,
        tokens_BT: jax.Array,
        segments_BT: jax.Array | None = None,
        tree: PrefixTree | None = None,
    ) -> jax.Array:
        """Hidden states after the final norm, [B, T, D] in the compute dtype. Position t sees tokens 0..t.

        With `segments_BT` (int32, never falling along T: the number of the document of each token) it sees
        those of its own document only, and is what it would be with that document alone. With a `tree` it sees
        what leads to it, and is what it would be in a row that holds this text alone.

        Raises:
            LosslineError: more tokens than the model has positions, or an attention that cannot read trees.
            ValueError: both segments and a tree.
        """
        if segments_BT is not None and tree is not None:
            raise ValueError("segments_BT and tree: give one of them; a tree keeps texts apart too")
        longest = max_context_length(self.config)
        if longest is not None and tokens_BT.shape[1] > longest:
            raise LosslineError(f"{tokens_BT.shape[1]} tokens do not fit model.max_positions={longest}")
        decoder = Decoder(self.config, self.vocab_size, self.attention, self.remat)
        inner = {name: value for name, value in params.items() if name != "unembed"}
        return decoder.apply({"params": inner}, tokens_BT, segments_BT, tree)

    def logits(self, params: Params, tokens_BT: jax.Array, segments_BT: jax.Array | None = None) -> jax.Array:
        """[B, T, V] float32: for small inputs; training and evaluation use `nll`."""
        return logits(self.hidden_states(params, tokens_BT, segments_BT), unembedding(params))

    def nll(
        self, params: Params, tokens_BT: jax.Array, targets_BT: jax.Array, segments_BT: jax.Array | None = None
    ) -> jax.Array:
        """Negative log-likelihood of the targets, [B, T] float32, nats; segments as in `hidden`.

        The logits are made by chunks of positions once they are more than `_MAX_LOGITS` numbers.
        """
        batch, length = tokens_BT.shape
        fitting = _MAX_LOGITS // (batch * self.vocab_size)
        chunk_length = None if fitting >= length else max(fitting, MIN_LOGITS_CHUNK)
        params = self._gather_embeddings(params)
        hidden_BTD = self.hidden_states(params, tokens_BT, segments_BT)
        return token_nll(hidden_BTD, unembedding(params), targets_BT, chunk_length)

    def target_scores(
        self,
        params: Params,
        tokens_BT: jax.Array,
        sources_AS: jax.Array,
        targets_AS: jax.Array,
        segments_BT: jax.Array | None = None,
        tree: PrefixTree | None = None,
    ) -> TargetScores:
        """Scores of chosen predictions, with logits for those positions alone, by chunks as in `nll`.

        Args:
            tokens_BT: the rows of A shards, R each: row `a R + r` is the r-th of shard a. On a mesh, A is a multiple
                of the devices along `data`, so that no hidden state leaves its device; inside `jax.shard_map`, these
                are the shards of this device.
            sources_AS: int32, which position predicts: its place in the R T positions of its shard.
            targets_AS: int32, the token to be predicted there.
            segments_BT, tree: as in `hidden`.
        """
        params = self._gather_embeddings(params)
        num_shards, num_slots = sources_AS.shape
        hidden_BTD = self.hidden_states(params, tokens_BT, segments_BT, tree)
        hidden_APD = hidden_BTD.reshape(num_shards, -1, hidden_BTD.shape[-1])
        hidden_APD = constrain(hidden_APD, "batch", None, "embed")
        sources_AS = constrain(sources_AS, "batch", None)
        hidden_ASD = constrain(_gather(hidden_APD, sources_AS), "batch", None, "embed")
        max_logits = _MAX_LOGITS if platform() == "cpu" else _MAX_SCORED_LOGITS_ACCELERATOR
        fitting = max(max_logits // (num_shards * self.vocab_size), MIN_LOGITS_CHUNK)
        # As many chunks as that takes, and all of about one length, so that little is filled up.
        chunk_length = -(-num_slots // -(-num_slots // fitting))
        return target_scores(hidden_ASD, unembedding(params), targets_AS, chunk_length)

    def _gather_embeddings(self, params: Params) -> Params:
        """What stands before and after the layers gathered once for all that reads it, where devices hold shards."""
        dtype, declared = jnp.dtype(self.config.compute_dtype), self._declaration()
        ends = {
            name: gather_parameter(leaf, declared[name].shape, sent_as=dtype if leaf.ndim > 1 else None)
            for name, leaf in params.items()
            if name != "blocks"
        }
        return {**ends, "blocks": params["blocks"]}

    def _declaration(self) -> Declaration:
        return declare_model(self.config, self.vocab_size)


def build_model(
    config: ModelConfig, vocab_size: int, *, remat: Remat = "none", attention: AttentionImpl = "xla"
) -> Model:
    """A checked model.

    Args:
        config: one of the classes in `config.model`.
        vocab_size: of the run's tokenizer.
        remat: what the backward pass makes anew instead of keeping it: `none`; `cheap`, all but the products with
            weights; `full`, each layer.
        attention: implementation of attention; `cudnn` on NVIDIA GPUs with bfloat16, `splash` on TPUs.

    Raises:
        LosslineError: a field of the config is impossible; the message names it.
    """
    check_config(config)
    if vocab_size <= 0:
        raise LosslineError(f"vocab_size: {vocab_size} is not a number of tokens; give 1 or more")
    return Model(config, vocab_size, remat, attention)
