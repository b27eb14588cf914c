"""The Mamba-1 block (Gu & Dao 2023), with the start values of the authors' code (state-spaces/mamba)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lossline_jax.config.model import MambaConfig
from lossline_jax.models.parameters import Declaration, Parameter, constant, declare, log_uniform_step_bias, uniform
from lossline_jax.ops.conv import causal_depthwise_conv
from lossline_jax.ops.linear import linear
from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.prefix_tree import Tree
from lossline_jax.ops.selective_scan import selective_scan

EMBEDDING_SIGMA = 0.02


def block_parameters(config: MambaConfig) -> Declaration:
    """One block. `in_xz` holds the scan's path, then the gate's; `to_dt_bc` gives dt's low rank, B and C."""
    d, e, r, s, w = config.d_model, config.inner, config.delta_rank, config.d_state, config.conv_width
    return {
        "norm": Parameter((d,), ("embed",), constant(1.0)),
        "in_xz": Parameter((d, 2, e), ("embed", None, "inner"), _fan_in(d)),
        "conv": Parameter((w, e), (None, "inner"), _fan_in(w)),
        "conv_bias": Parameter((e,), ("inner",), _fan_in(w)),
        "to_dt_bc": Parameter((e, r + 2 * s), ("inner", None), _fan_in(e)),
        "to_dt": Parameter((r, e), (None, "inner"), _fan_in(r)),
        "dt_bias": Parameter((e,), ("inner",), log_uniform_step_bias(config.dt_min, config.dt_max), decayed=False),
        "a_log": Parameter((s, e), ("state", "inner"), _log_state_index, decayed=False),
        "d_skip": Parameter((e,), ("inner",), constant(1.0), decayed=False),
        # Scaled down by the number of residual additions, as GPT-2 does.
        "out": Parameter((e, d), ("inner", "embed"), _fan_in(e * config.num_layers)),
    }


class MambaBlock(nn.Module):
    config: MambaConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array, segments_BT: jax.Array | None = None, tree: Tree | None = None) -> jax.Array:
        p = declare(self, block_parameters(self.config), x_BTD.dtype)
        u_BTD = rms_norm(x_BTD, p["norm"], self.config.norm_eps)
        xz_BT2E = linear(u_BTD, p["in_xz"])
        x_BTE = causal_depthwise_conv(xz_BT2E[:, :, 0], p["conv"], p["conv_bias"], segments_BT, tree)
        y_BTE = self._scan(p, jax.nn.silu(x_BTE), segments_BT, tree)
        return x_BTD + linear(y_BTE * jax.nn.silu(xz_BT2E[:, :, 1]), p["out"])

    def _scan(
        self, p: dict[str, jax.Array], x_BTE: jax.Array, segments_BT: jax.Array | None, tree: Tree | None
    ) -> jax.Array:
        rank, state = self.config.delta_rank, self.config.d_state
        dt_bc = linear(x_BTE, p["to_dt_bc"])
        dt_BTR, b_BTS, c_BTS = jnp.split(dt_bc, [rank, rank + state], axis=-1)
        dt_BTE = linear(dt_BTR, p["to_dt"]).astype(jnp.float32)
        dt_BTE = jax.nn.softplus(dt_BTE + p["dt_bias"][None, None, :])
        a_SE = -jnp.exp(p["a_log"])
        y_BTE = selective_scan(x_BTE, dt_BTE, a_SE, b_BTS, c_BTS, self.config.chunk_size, segments_BT, tree)
        return y_BTE + x_BTE * p["d_skip"].astype(x_BTE.dtype)[None, None, :]


def _fan_in(width: int):
    """PyTorch's default for linear layers and convolutions."""
    return uniform(-(width**-0.5), width**-0.5)


def _log_state_index(draw: jax.Array) -> jax.Array:
    """log(1), ..., log(S) for every channel: the real S4D start."""
    index_S = jnp.arange(1, draw.shape[-2] + 1, dtype=draw.dtype)
    return jnp.broadcast_to(jnp.log(index_S)[:, None], draw.shape)
