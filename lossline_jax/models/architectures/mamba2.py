"""The parameters of Mamba-2 (Dao & Gu 2024, arXiv 2405.21060). The block is in `models.mamba2`."""

from lossline_jax.config.model import Mamba2Config
from lossline_jax.models.architectures.architecture import Architecture
from lossline_jax.models.architectures.outer import embedding_and_norm
from lossline_jax.models.parameters import Constant, Declaration, LogUniform, Normal, ParameterSpec, StepBias
from lossline_jax.ops.block_sizes import SSD_CHUNK_SIZE

_MAX_DECAY_RATE = 16.0  # the initial -a is uniform in [1, 16]


def block_parameters(config: Mamba2Config) -> Declaration:
    """Declare the parameters of one block.

    The projection to z, x, B, C, dt is kept in three parameters, so that each can be split over devices.
    """
    d, e, n, w = config.d_model, config.inner, config.num_heads, config.conv_width
    g, s = config.num_groups, config.d_state
    decay_rate = LogUniform(1.0, _MAX_DECAY_RATE)
    declaration = {
        "norm": ParameterSpec((d,), ("embed",), Constant(1.0)),
        "in_zx": ParameterSpec((d, 2, e), ("embed", None, "inner"), Normal(d**-0.5), num_contracted=1),
        "in_bc": ParameterSpec((d, 2, g, s), ("embed", None, None, "state"), Normal(d**-0.5), num_contracted=1),
        "in_dt": ParameterSpec((d, n), ("embed", "heads"), Normal(d**-0.5), num_contracted=1),
        "conv_x": ParameterSpec((w, e), (None, "inner"), Normal(w**-0.5)),
        "conv_bc": ParameterSpec((w, 2, g, s), (None, None, None, "state"), Normal(w**-0.5)),
        "a_log": ParameterSpec((n,), ("heads",), decay_rate, is_decayed=False),
        "d_skip": ParameterSpec((n,), ("heads",), Constant(1.0), is_decayed=False),
        "gated_norm": ParameterSpec((e,), ("inner",), Constant(1.0)),
        "out": ParameterSpec((e, d), ("inner", "embed"), Normal(e**-0.5), num_contracted=1),
    }
    if config.conv_bias:
        declaration["conv_x_bias"] = ParameterSpec((e,), ("inner",), Constant(0.0))
        declaration["conv_bc_bias"] = ParameterSpec((2, g, s), (None, None, "state"), Constant(0.0))
    if config.dt_bias:
        step_bias = StepBias(config.dt_min, config.dt_max)
        declaration["dt_bias"] = ParameterSpec((n,), ("heads",), step_bias, is_decayed=False)
    return declaration


def mixing_flops(config: Mamba2Config, context_length: int) -> float:
    """Return the FLOPs per token of the convolution and of the scan as it is defined, independent of its chunks.

    The scan has dt x, the skip, and for each state element: decay (1), add b dt x (2), read with c (2).
    """
    channels = config.inner + 2 * config.num_groups * config.d_state
    scan = config.inner * (1 + 5 * config.d_state + 2)
    return 2 * config.conv_width * channels + scan


def kept_bytes(config: Mamba2Config, length: int, bytes_per_number: int) -> float:
    """Return the bytes of the decays of one chunk, and of the scan's inputs, gates and float32 results."""
    chunk = min(config.chunk_size or SSD_CHUNK_SIZE, length)
    decays = length * chunk * config.num_heads * 4 / max(length / chunk, 1)
    return 4 * decays + length * config.inner * (4 * bytes_per_number + 8 * 4)


MAMBA2 = Architecture(
    block_parameters=block_parameters,
    outer_parameters=lambda config, vocab_size: embedding_and_norm(config, vocab_size, config.d_model**-0.5),
    mixing_flops=mixing_flops,
    kept_bytes=kept_bytes,
)
