"""The parts that all language models here share: embedding, a scan over equal blocks, final norm, unembedding."""

from typing import Literal, assert_never

import flax.linen as nn
import jax
import jax.numpy as jnp

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig, ModelConfig
from lossline_jax.distributed.sharding import constrain
from lossline_jax.models import gpt, llama, mamba, mamba2
from lossline_jax.models.declaration import declare_outer
from lossline_jax.models.initialise import declare
from lossline_jax.models.parameters import Params
from lossline_jax.ops.attention import AttentionImpl
from lossline_jax.ops.dropout import Dropout, drop, for_layers
from lossline_jax.ops.norms import layer_norm, rms_norm
from lossline_jax.ops.prefix_tree import PrefixTree

# The values that the backward pass computes again: none; all but the products with weights (cheap); or whole layers.
Remat = Literal["none", "cheap", "full"]


def unembedding(params: Params) -> jax.Array:
    """Return the output matrix [D, V]: the model's own, or the transposed embedding if it is tied."""
    return params["unembed"] if "unembed" in params else params["embed"].T


class Decoder(nn.Module):
    """A Linen module from tokens [B, T] to hidden states [B, T, D] after the final norm, in the compute dtype."""

    config: ModelConfig
    vocab_size: int
    attention: AttentionImpl
    remat: Remat

    @nn.compact
    def __call__(
        self,
        tokens_BT: jax.Array,
        segments_BT: jax.Array | None = None,
        tree: PrefixTree | None = None,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Return the hidden states; arguments as for `Model.hidden_states`."""
        config = self.config
        # Cast after the look-up: the gradient sums over all occurrences of a token, and bfloat16 is too coarse for it.
        p = declare(self, declare_outer(config, self.vocab_size), jnp.dtype(jnp.float32))
        x_BTD = p["embed"][tokens_BT]
        if isinstance(config, GPT2Config):
            x_BTD = x_BTD + p["positions"][_positions(tokens_BT, segments_BT, tree)]
        x_BTD = constrain(x_BTD.astype(config.compute_dtype), "batch", "seq", "embed")
        x_BTD = drop(x_BTD, dropout, site=0)
        layer = _layer
        if self.remat != "none":
            kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if self.remat == "cheap" else None
            layer = nn.remat(_layer, prevent_cse=False, policy=kept)
        layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast, 0),  # pyright: ignore[reportArgumentType]  (flax types only the int)
            length=config.num_layers,
        )
        of_layers = None if dropout is None else for_layers(dropout, config.num_layers)
        x_BTD, _ = layers(self._block(), x_BTD, segments_BT, tree, of_layers)
        if "final_norm_bias" in p:
            return layer_norm(x_BTD, p["final_norm"], p["final_norm_bias"], config.norm_eps)
        return rms_norm(x_BTD, p["final_norm"], config.norm_eps)

    def _block(self) -> nn.Module:
        match self.config:
            case LlamaConfig():
                return llama.LlamaBlock(self.config, self.attention, name="blocks")
            case Mamba2Config():
                return mamba2.Mamba2Block(self.config, name="blocks")
            case MambaConfig():
                return mamba.MambaBlock(self.config, name="blocks")
            case GPT2Config() | GPTNeoXConfig():
                return gpt.GPTBlock(self.config, self.attention, name="blocks")
            case _:
                assert_never(self.config)


def _layer(  # noqa: PLR0917 - the scan passes them by position
    block: nn.Module,
    x_BTD: jax.Array,
    segments_BT: jax.Array | None,
    tree: PrefixTree | None,
    dropout: Dropout | None,
) -> tuple[jax.Array, None]:
    return constrain(block(x_BTD, segments_BT, tree, dropout), "batch", "seq", "embed"), None


def _positions(tokens_BT: jax.Array, segments_BT: jax.Array | None, tree: PrefixTree | None) -> jax.Array:
    """Return 0, 1, 2, ..., starting again at 0 in each segment or text of a tree.

    Returns:
        [1, T], or [B, T] with segments or a tree.
    """
    if tree is not None:
        return tree.depth_BT
    positions_1T = jnp.arange(tokens_BT.shape[1])[None]
    if segments_BT is None:
        return positions_1T
    begins_BT = jnp.diff(segments_BT, axis=1, prepend=segments_BT[:, :1]) != 0
    return positions_1T - jax.lax.cummax(jnp.where(begins_BT, positions_1T, 0), axis=1)
