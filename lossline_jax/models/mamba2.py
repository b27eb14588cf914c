"""The Mamba-2 block (Dao & Gu 2024) as "LLMs on the Line" trained it: SSD with one scalar decay per head, no MLP.

The study's models were trained with Meta Lingua. They have neither convolution bias nor step bias, as the parameter
counts in the study's table show. Both are options here, for weights from elsewhere.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lossline_jax.config.model import Mamba2Config
from lossline_jax.models.architectures.mamba2 import block_parameters
from lossline_jax.models.initialise import declare
from lossline_jax.ops.block_sizes import CPU_SSD_CHUNK_SIZE, SSD_CHUNK_SIZE
from lossline_jax.ops.conv import causal_depthwise_conv
from lossline_jax.ops.dropout import Dropout, drop
from lossline_jax.ops.linear import linear
from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.platform import platform
from lossline_jax.ops.prefix_tree import PrefixTree
from lossline_jax.ops.ssd import ssd


class Mamba2Block(nn.Module):
    """A residual block of Mamba-2."""

    config: Mamba2Config

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
        z_BTE, y_BTE = self._scan(p, rms_norm(x_BTD, p["norm"], config.norm_eps), segments_BT, tree)
        # Each group's channels are normed separately, as in the authors' code.
        by_group = (*y_BTE.shape[:-1], config.num_groups, -1)
        gated_BTGE = (y_BTE * jax.nn.silu(z_BTE)).reshape(by_group)
        scale_GE = p["gated_norm"].reshape(config.num_groups, -1)
        normed_BTGE = rms_norm(gated_BTGE, scale_GE, config.norm_eps)
        return x_BTD + drop(linear(normed_BTGE.reshape(y_BTE.shape), p["out"]), dropout, site=1)

    def _scan(
        self, p: dict[str, jax.Array], u_BTD: jax.Array, segments_BT: jax.Array | None, tree: PrefixTree | None
    ) -> tuple[jax.Array, jax.Array]:
        """Return the gate and the output of the scan, [B, T, E] each, from the normed input."""
        batch, length, _ = u_BTD.shape
        zx_BT2E = linear(u_BTD, p["in_zx"])
        bc_BTX = linear(u_BTD, p["in_bc"]).reshape(batch, length, -1)
        x_BTE = causal_depthwise_conv(zx_BT2E[:, :, 1], p["conv_x"], p.get("conv_x_bias"), segments_BT, tree=tree)
        x_BTE = jax.nn.silu(x_BTE)
        bc_bias = p["conv_bc_bias"].reshape(-1) if self.config.conv_bias else None
        bc_kernel = p["conv_bc"].reshape(self.config.conv_width, -1)
        bc_BTX = jax.nn.silu(causal_depthwise_conv(bc_BTX, bc_kernel, bc_bias, segments_BT, tree=tree))
        bc = bc_BTX.reshape(batch, length, 2, self.config.num_groups, self.config.d_state)

        dt_BTN = linear(u_BTD, p["in_dt"]).astype(jnp.float32)
        if self.config.dt_bias:
            dt_BTN = dt_BTN + p["dt_bias"][None, None, :]
        x_BTNH = x_BTE.reshape(batch, length, self.config.num_heads, self.config.head_dim)
        y_BTNH = ssd(
            x_BTNH,
            jax.nn.softplus(dt_BTN),
            -jnp.exp(p["a_log"]),
            bc[:, :, 0],
            bc[:, :, 1],
            chunk_size=self.config.chunk_size or (CPU_SSD_CHUNK_SIZE if platform() == "cpu" else SSD_CHUNK_SIZE),
            segments_BT=segments_BT,
            tree=tree,
        )
        y_BTNH = y_BTNH + x_BTNH * p["d_skip"].astype(x_BTNH.dtype)[None, None, :, None]
        return zx_BT2E[:, :, 0], y_BTNH.reshape(x_BTE.shape)
