"""The Mamba-1 block (Gu & Dao 2023), with the initial values of the authors' code (state-spaces/mamba)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lossline_jax.config.model import MambaConfig
from lossline_jax.models.architectures.mamba import block_parameters
from lossline_jax.models.initialise import declare
from lossline_jax.ops.conv import causal_depthwise_conv
from lossline_jax.ops.dropout import Dropout, drop
from lossline_jax.ops.linear import linear
from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.prefix_tree import PrefixTree
from lossline_jax.ops.selective_scan import selective_scan


class MambaBlock(nn.Module):
    """A residual block of Mamba-1."""

    config: MambaConfig

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
        u_BTD = rms_norm(x_BTD, p["norm"], self.config.norm_eps)
        xz_BT2E = linear(u_BTD, p["in_xz"])
        x_BTE = causal_depthwise_conv(xz_BT2E[:, :, 0], p["conv"], p["conv_bias"], segments_BT, tree=tree)
        y_BTE = self._scan(p, jax.nn.silu(x_BTE), segments_BT, tree)
        return x_BTD + drop(linear(y_BTE * jax.nn.silu(xz_BT2E[:, :, 1]), p["out"]), dropout, site=1)

    def _scan(
        self, p: dict[str, jax.Array], x_BTE: jax.Array, segments_BT: jax.Array | None, tree: PrefixTree | None
    ) -> jax.Array:
        rank, state = self.config.delta_rank, self.config.d_state
        dt_bc = linear(x_BTE, p["to_dt_bc"])
        dt_BTR, b_BTS, c_BTS = jnp.split(dt_bc, [rank, rank + state], axis=-1)
        dt_BTE = linear(dt_BTR, p["to_dt"]).astype(jnp.float32)
        dt_BTE = jax.nn.softplus(dt_BTE + p["dt_bias"][None, None, :])
        a_SE = -jnp.exp(p["a_log"])
        chunk_size = self.config.chunk_size
        y_BTE = selective_scan(
            x_BTE, dt_BTE, a_SE, b_BTS, c_BTS, chunk_size=chunk_size, segments_BT=segments_BT, tree=tree
        )
        return y_BTE + x_BTE * p["d_skip"].astype(x_BTE.dtype)[None, None, :]
