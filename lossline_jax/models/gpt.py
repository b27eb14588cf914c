"""The block of GPT-2 (Radford et al. 2019) and GPT-NeoX (Black et al. 2022): LayerNorm, GELU, bias everywhere.

GPT-2 adds learned positions to the embedding (decoder.py), and its GELU is the tanh approximation. GPT-NeoX rotates a
part of every head, its attention and MLP read the same input, and its GELU is exact.
"""

import flax.linen as nn
import jax

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig
from lossline_jax.models.architectures.gpt import block_parameters
from lossline_jax.models.initialise import declare
from lossline_jax.ops.attention import AttentionImpl, causal_attention
from lossline_jax.ops.dropout import Dropout, drop
from lossline_jax.ops.linear import linear
from lossline_jax.ops.norms import layer_norm
from lossline_jax.ops.prefix_tree import PrefixTree
from lossline_jax.ops.rope import apply_rope, rope_tables


class GPTBlock(nn.Module):
    """A residual block of GPT-2 or GPT-NeoX."""

    config: GPT2Config | GPTNeoXConfig
    attention: AttentionImpl

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        segments_BT: jax.Array | None = None,
        tree: PrefixTree | None = None,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Return the residual stream after the block, [B, T, D]; arguments as for `Model.hidden_states`."""
        config = self.config
        p = declare(self, block_parameters(config), x_BTD.dtype, config.weight_bits)
        normed_BTD = layer_norm(x_BTD, p["attention_norm"], p["attention_norm_bias"], config.norm_eps)
        attended_BTD = x_BTD + drop(self._attend(p, normed_BTD, segments_BT, tree), dropout, site=1)
        parallel = isinstance(config, GPTNeoXConfig) and config.parallel_residual
        mlp_input_BTD = x_BTD if parallel else attended_BTD
        normed_BTD = layer_norm(mlp_input_BTD, p["mlp_norm"], p["mlp_norm_bias"], config.norm_eps)
        return attended_BTD + drop(self._mlp(p, normed_BTD), dropout, site=2)

    def _attend(
        self, p: dict[str, jax.Array], x_BTD: jax.Array, segments_BT: jax.Array | None, tree: PrefixTree | None
    ) -> jax.Array:
        config = self.config
        qkv_BT3NH = linear(x_BTD, p["qkv"]) + p["qkv_bias"].astype(x_BTD.dtype)[None, None]
        q_BTNH, k_BTNH, v_BTNH = (qkv_BT3NH[:, :, part] for part in range(3))
        if isinstance(config, GPTNeoXConfig):
            tables = rope_tables(x_BTD.shape[1], config.rotary_dim, config.rope_theta, tree=tree)
            q_BTNH, k_BTNH = apply_rope(q_BTNH, *tables), apply_rope(k_BTNH, *tables)
        out_BTNH = causal_attention(q_BTNH, k_BTNH, v_BTNH, self.attention, segments_BT=segments_BT, tree=tree)
        return _biased(linear(out_BTNH, p["attention_out"], num_contracted=2), p["attention_out_bias"])

    def _mlp(self, p: dict[str, jax.Array], x_BTD: jax.Array) -> jax.Array:
        up_BTF = _biased(linear(x_BTD, p["up"]), p["up_bias"])
        return _biased(
            linear(jax.nn.gelu(up_BTF, approximate=isinstance(self.config, GPT2Config)), p["down"]), p["down_bias"]
        )


def _biased(x_BTD: jax.Array, bias_D: jax.Array) -> jax.Array:
    return x_BTD + bias_D.astype(x_BTD.dtype)[None, None, :]
