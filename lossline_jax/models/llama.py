"""The Llama block (Touvron et al. 2023): pre-norm attention with rotary positions, then SwiGLU, no bias."""

import flax.linen as nn
import jax

from lossline_jax.config.model import LlamaConfig
from lossline_jax.models.architectures.llama import block_parameters
from lossline_jax.models.initialise import declare
from lossline_jax.ops.attention import AttentionImpl, causal_attention
from lossline_jax.ops.dropout import Dropout, drop
from lossline_jax.ops.linear import linear
from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.prefix_tree import PrefixTree
from lossline_jax.ops.rope import apply_rope, rope_tables


class LlamaBlock(nn.Module):
    """A residual block of Llama."""

    config: LlamaConfig
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
        p = declare(self, block_parameters(self.config), x_BTD.dtype, self.config.weight_bits)
        eps = self.config.norm_eps
        attended_BTD = self._attend(p, rms_norm(x_BTD, p["attention_norm"], eps), segments_BT, tree)
        x_BTD = x_BTD + drop(attended_BTD, dropout, site=1)
        return x_BTD + drop(_swiglu(p, rms_norm(x_BTD, p["mlp_norm"], eps)), dropout, site=2)

    def _attend(
        self, p: dict[str, jax.Array], x_BTD: jax.Array, segments_BT: jax.Array | None, tree: PrefixTree | None
    ) -> jax.Array:
        config = self.config
        tables = rope_tables(x_BTD.shape[1], config.head_dim, config.rope_theta, config.rope_scaling, tree=tree)
        q_BTNH = apply_rope(linear(x_BTD, p["q"]), *tables)
        kv_BT2KH = linear(x_BTD, p["kv"])
        k_BTKH = apply_rope(kv_BT2KH[:, :, 0], *tables)
        v_BTKH = kv_BT2KH[:, :, 1]
        out_BTNH = causal_attention(q_BTNH, k_BTKH, v_BTKH, self.attention, segments_BT=segments_BT, tree=tree)
        return linear(out_BTNH, p["attention_out"], num_contracted=2)


def _swiglu(p: dict[str, jax.Array], x_BTD: jax.Array) -> jax.Array:
    gate_up_BT2F = linear(x_BTD, p["gate_up"])
    return linear(jax.nn.silu(gate_up_BT2F[:, :, 0]) * gate_up_BT2F[:, :, 1], p["down"])
