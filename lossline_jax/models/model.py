"""The interface of all models: `init(key)` returns the parameters, and pure functions take parameters and tokens."""

import dataclasses
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
from lossline_jax.models.parameters import Declaration, ParameterSpec, Params
from lossline_jax.ops.attention import AttentionImpl
from lossline_jax.ops.block_sizes import MIN_LOGITS_CHUNK
from lossline_jax.ops.dropout import Dropout
from lossline_jax.ops.fsdp import gather_parameter
from lossline_jax.ops.nll import TargetScores, logits, target_scores, token_nll
from lossline_jax.ops.platform import platform
from lossline_jax.ops.prefix_tree import PrefixTree
from lossline_jax.ops.quantise import fake_quantise

# Logits that `Model.nll` holds at once: 16 MB of float32. A chunk has at least MIN_LOGITS_CHUNK positions per sequence.
_MAX_LOGITS = 2**22
# Logits that scoring holds at once on an accelerator: 512 MB. Scoring keeps no logits for a backward pass, so the
# chunks can be large, and few large products keep an accelerator busy.
_MAX_SCORED_LOGITS_ACCELERATOR = 2**27

# An index beyond the end gives NaN.
_gather = jax.vmap(functools.partial(jnp.take, axis=0, mode="fill"))


@dataclass(frozen=True)
class Model:
    """A language model as pure functions. It is hashable, so it may be a static argument of `jax.jit`.

    The parameters are nested dicts of float32 arrays. Everything under `blocks` has the layers stacked on axis 0.

    Attributes:
        config: the model's config.
        vocab_size: number of tokens of the tokenizer.
        remat: the values that the backward pass computes again; see `build_model`.
        attention: the implementation of attention; see `build_model`.
    """

    config: ModelConfig
    vocab_size: int
    remat: Remat = "none"
    attention: AttentionImpl = "xla"

    def init(self, key: jax.Array) -> Params:
        """Return the initial parameters. A key gives the same values on any mesh. Works in jit, vmap and eval_shape."""
        return initialise(key, self.declaration())

    def declaration(self) -> Declaration:
        """Return the declared parameters: their shapes, axes, initial values and weight decay."""
        return declare_model(self.config, self.vocab_size)

    def axes(self) -> dict[str, Any]:
        """Return the tree of parameters with a tuple of logical axis names in the place of each leaf."""
        return jax.tree.map(lambda leaf: leaf.axes, self.declaration())

    def weight_decay_mask(self) -> dict[str, Any]:
        """Return the tree of parameters with True in the place of each leaf that weight decay applies to."""
        return jax.tree.map(lambda leaf: leaf.is_decayed, self.declaration())

    def hidden_states(
        self,
        params: Params,
        tokens_BT: jax.Array,
        segments_BT: jax.Array | None = None,
        tree: PrefixTree | None = None,
        *,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Return the hidden states after the final norm, [B, T, D] in the compute dtype. Position t sees tokens 0..t.

        Args:
            params: the parameters.
            tokens_BT: integers in [0, V).
            segments_BT: int32 number of the document of each token, never decreasing along T. A position then sees
                its own document only, and its state is the same as in a row with that document alone. None: each row
                is one document.
            tree: the positions that texts of a row share. A position then sees its own text only, and its state is the
                same as in a row with that text alone. None: each row is one text.
            dropout: the randomness of dropout. None: nothing is dropped.

        Raises:
            LosslineError: there are more tokens than the model has positions, or the attention cannot read trees.
            ValueError: both segments and a tree are given.
        """
        if segments_BT is not None and tree is not None:
            raise ValueError("segments_BT and tree: give one of them; a tree keeps texts apart too")
        longest = max_context_length(self.config)
        if longest is not None and tokens_BT.shape[1] > longest:
            raise LosslineError(f"{tokens_BT.shape[1]} tokens do not fit model.max_positions={longest}")
        decoder = Decoder(self.config, self.vocab_size, self.attention, self.remat)
        inner = {name: value for name, value in params.items() if name != "unembed"}
        hidden_BTD: Any = decoder.apply({"params": inner}, tokens_BT, segments_BT, tree, dropout)
        return hidden_BTD

    def logits(self, params: Params, tokens_BT: jax.Array, segments_BT: jax.Array | None = None) -> jax.Array:
        """Return the logits, [B, T, V] float32. For small inputs; training and evaluation use `nll`."""
        return logits(self.hidden_states(params, tokens_BT, segments_BT), unembedding(params))

    def nll(
        self,
        params: Params,
        tokens_BT: jax.Array,
        targets_BT: jax.Array,
        segments_BT: jax.Array | None = None,
        *,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Return the negative log-likelihood of the targets, [B, T] float32, in nats.

        If there are more than `_MAX_LOGITS` logits, they are computed in chunks of positions.

        Args:
            params: the parameters.
            tokens_BT: integers in [0, V).
            targets_BT: the token to predict at each position, integers in [0, V).
            segments_BT: as for `hidden_states`.
            dropout: as for `hidden_states`.
        """
        batch, length = tokens_BT.shape
        fitting = _MAX_LOGITS // (batch * self.vocab_size)
        chunk_length = None if fitting >= length else max(fitting, MIN_LOGITS_CHUNK)
        params = self._gather_embeddings(params)
        hidden_BTD = self.hidden_states(params, tokens_BT, segments_BT, dropout=dropout)
        return token_nll(hidden_BTD, unembedding(params), targets_BT, chunk_length)

    def target_scores(
        self,
        params: Params,
        tokens_BT: jax.Array,
        sources_AS: jax.Array,
        targets_AS: jax.Array,
        *,
        segments_BT: jax.Array | None = None,
        tree: PrefixTree | None = None,
    ) -> TargetScores:
        """Score S chosen predictions per shard. Logits are computed for their positions alone, in chunks as in `nll`.

        Args:
            params: the parameters.
            tokens_BT: the rows of A shards with R rows each: row `a R + r` is the r-th row of shard a. On a mesh, A is
                a multiple of the devices along `data`, so that no hidden state leaves its device. Inside
                `jax.shard_map`, these are the shards of this device.
            sources_AS: int32, the position that predicts, as an index into the R T positions of its shard.
            targets_AS: int32, the token to predict at that position.
            segments_BT: as for `hidden_states`.
            tree: as for `hidden_states`.
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
        # The fewest chunks, of nearly equal length, so that there is little padding.
        chunk_length = -(-num_slots // -(-num_slots // fitting))
        return target_scores(hidden_ASD, unembedding(params), targets_AS, chunk_length)

    def with_rounded_weights(self, params: Params) -> tuple["Model", Params]:
        """Return a model without rounding that computes the same losses, and its parameters, which are rounded already.

        Args:
            params: the parameters. A model that does not round its weights keeps them.
        """
        bits = self.config.weight_bits
        if bits is None:
            return self, params
        dtype = jnp.dtype(self.config.compute_dtype)

        def rounded(leaf: jax.Array, spec: ParameterSpec) -> jax.Array:
            if not spec.num_contracted:
                return leaf
            layers = jax.vmap(lambda matrix: fake_quantise(matrix, bits, spec.num_contracted))
            return layers(leaf.astype(dtype)).astype(leaf.dtype)

        blocks = jax.tree.map(rounded, params["blocks"], self.declaration()["blocks"])
        config = dataclasses.replace(self.config, weight_bits=None)
        return dataclasses.replace(self, config=config), {**params, "blocks": blocks}

    def _gather_embeddings(self, params: Params) -> Params:
        """Gather the parameters outside the layers once, before all their uses, if devices hold shards of them."""
        dtype, declared = jnp.dtype(self.config.compute_dtype), self.declaration()
        gathered = {
            name: gather_parameter(leaf, declared[name].shape, sent_as=dtype if leaf.ndim > 1 else None)
            for name, leaf in params.items()
            if name != "blocks"
        }
        return {**gathered, "blocks": params["blocks"]}


def build_model(
    config: ModelConfig, vocab_size: int, *, remat: Remat = "none", attention: AttentionImpl = "xla"
) -> Model:
    """Check a config, and return its model.

    Args:
        config: one of the classes in `config.model`.
        vocab_size: number of tokens of the run's tokenizer.
        remat: the values that the backward pass computes again instead of keeping them. `none`: no value. `cheap`: all
            values but the products with weights. `full`: all values of each layer.
        attention: implementation of attention: `xla` anywhere, `cudnn` on NVIDIA GPUs with bfloat16, `splash` on TPUs.

    Raises:
        LosslineError: a field of the config is impossible. The message names the field.
    """
    check_config(config)
    if vocab_size <= 0:
        raise LosslineError(f"vocab_size: {vocab_size} is not a number of tokens; give 1 or more")
    return Model(config, vocab_size, remat, attention)
