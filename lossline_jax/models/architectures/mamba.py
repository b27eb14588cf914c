"""The parameters of Mamba-1 (Gu & Dao 2023, arXiv 2312.00752). The block is in `models.mamba`."""

from lossline_jax.config.model import MambaConfig
from lossline_jax.models.architectures.architecture import Architecture
from lossline_jax.models.architectures.outer import embedding_and_norm
from lossline_jax.models.parameters import Constant, Declaration, LogIndex, ParameterSpec, StepBias, Uniform

_EMBEDDING_SIGMA = 0.02  # of the authors' code (state-spaces/mamba)


def block_parameters(config: MambaConfig) -> Declaration:
    """Declare the parameters of one block.

    `in_xz` has the path of the scan, then the path of the gate. `to_dt_bc` gives the low-rank dt, then B, then C.
    """
    d, e, r, s, w = config.d_model, config.inner, config.delta_rank, config.d_state, config.conv_width
    step_bias = StepBias(config.dt_min, config.dt_max)
    return {
        "norm": ParameterSpec((d,), ("embed",), Constant(1.0)),
        "in_xz": ParameterSpec((d, 2, e), ("embed", None, "inner"), _fan_in(d), num_contracted=1),
        "conv": ParameterSpec((w, e), (None, "inner"), _fan_in(w)),
        "conv_bias": ParameterSpec((e,), ("inner",), _fan_in(w)),
        "to_dt_bc": ParameterSpec((e, r + 2 * s), ("inner", None), _fan_in(e), num_contracted=1),
        "to_dt": ParameterSpec((r, e), (None, "inner"), _fan_in(r), num_contracted=1),
        "dt_bias": ParameterSpec((e,), ("inner",), step_bias, is_decayed=False),
        "a_log": ParameterSpec((s, e), ("state", "inner"), LogIndex(), is_decayed=False),
        "d_skip": ParameterSpec((e,), ("inner",), Constant(1.0), is_decayed=False),
        # Scaled down by the number of residual additions, as GPT-2 does.
        "out": ParameterSpec((e, d), ("inner", "embed"), _fan_in(e * config.num_layers), num_contracted=1),
    }


def mixing_flops(config: MambaConfig, context_length: int) -> float:
    """Return the FLOPs per token of the convolution and the scan.

    The scan has dt x, the skip, and for each state element: dt a (1), decay (1), add b dt x (2), read with c (2). The
    exponential is not counted.
    """
    scan = config.inner * (1 + 6 * config.d_state + 2)
    return 2 * config.conv_width * config.inner + scan


def kept_bytes(config: MambaConfig, length: int, bytes_per_number: int) -> float:
    """Return the bytes of the states between chunks, and of the scan's inputs and gates."""
    states = length / config.chunk_size * config.inner * config.d_state * 4
    return states + length * config.inner * (4 * bytes_per_number + 3 * 4)


def _fan_in(width: int) -> Uniform:
    """Return PyTorch's default initial values for linear layers and convolutions."""
    return Uniform(-(width**-0.5), width**-0.5)


MAMBA = Architecture(
    block_parameters=block_parameters,
    outer_parameters=lambda config, vocab_size: embedding_and_norm(config, vocab_size, _EMBEDDING_SIGMA),
    mixing_flops=mixing_flops,
    kept_bytes=kept_bytes,
)
