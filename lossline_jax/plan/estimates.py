"""What a run takes on a mesh of named chips, estimated from its config alone and without jax: memory, time, cost.

Memory of a device, in bytes (P parameters, of which S are split over the d devices along `data`; b sequences of a
microbatch on a device, n = b T of their tokens; a: bytes of a number in the compute dtype; everything is divided by the
devices along `model` too, which is only about right):

    parameters         4 (S / d + P - S)
    optimiser          twice that: two moments
    gradients          4 (S / d + P - S)
    activations        what the forward pass keeps for the backward pass:
                       full     n D a a layer: what enters it
                       cheap    that, and the results of its products with weights
                       none     that, and everything else the layer makes (scores of attention, float32 norms, ...)
    workspace          the larger of two peaks: the loss (embedding and unembedding whole, gradient of the one in
                       float32, logits of a chunk twice), or one layer forwards and backwards beside float32
                       gradients of both ends

tests/plan/test_compiler.py holds the sum against what libtpu says of the compiled steps; docs/scale.md has ratios.

Time of a step: FLOPs (with those made anew under `full`) at the assumed share of the peak, or the bytes of ZeRO-3
(`fsdp_bytes`) over the interconnect, whichever is longer: the two overlap.
"""

from dataclasses import dataclass
from typing import assert_never

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig, ModelConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.chips import Chip
from lossline_jax.distributed.layout import Layout
from lossline_jax.models.accounting import count_parameters, train_flops_per_token

LOGITS_CHUNK = 64  # positions of a sequence whose logits exist at once (`models.model`)
SSD_CHUNK = 256  # positions of a chunk of Mamba-2's scan on accelerators (`models.mamba2`)
FULL_REMAT_FLOPS = 4 / 3  # the forward pass once more


@dataclass(frozen=True)
class Memory:
    """Bytes on each device."""

    parameters: float
    optimiser: float
    gradients: float
    activations: float
    workspace: float

    @property
    def total(self) -> float:
        return self.parameters + self.optimiser + self.gradients + self.activations + self.workspace


def memory(run: RunConfig, vocab_size: int, layout: Layout) -> Memory:
    """By the formulas above."""
    config = run.model
    total = count_parameters(config, vocab_size).total
    unsplit = config.num_layers * _unsplit_parameters(config)
    split = layout.data if layout.fsdp else 1
    held = ((total - unsplit) / split + unsplit) / layout.model
    tokens, width = layout.microbatch * run.context_length, _bytes(config)
    entering = tokens * config.d_model * width
    products = tokens * _product_widths(config) * width / layout.model
    everything = products + _other_bytes(config, layout.microbatch, run.context_length) / layout.model
    scores = _attended_pairs(config, layout.microbatch, run.context_length) / layout.model
    # of layers that are kept whole, libtpu keeps the weights of attention in float32 beside the scores
    kept = {"full": 0.0, "cheap": products, "none": everything + scores * (4 - width)}[layout.remat]
    ends = vocab_size * config.d_model / layout.model
    tables = 1 if config.tied_embeddings else 2
    chunk = layout.microbatch * min(LOGITS_CHUNK, run.context_length) * vocab_size * 4 / layout.model
    loss = tables * ends * width + ends * 4 + 2 * chunk
    layer = (0 if layout.remat == "none" else everything) + 2 * entering + tables * ends * 4
    weights = (total - tables * ends) * width if layout.fsdp and layout.remat == "none" else 0  # gathered, and kept
    return Memory(
        parameters=4 * held,
        optimiser=8 * held,
        gradients=4 * held,
        activations=config.num_layers * (entering + kept) + weights,
        workspace=max(loss, layer),
    )


def fsdp_bytes(total: int, layout: Layout, bytes_a_number: int) -> float:
    """What a device must send for the parameters in a step: the least there is.

    ZeRO-3 (Rajbhandari et al. 2020, arXiv 1910.02054, section 7.2.2): an all-gather forwards, one backwards and a
    reduce-scatter of the gradients, (d - 1) / d of the parameters each. Whole parameters: one all-reduce, twice that
    share, of float32 gradients.
    """
    share = (layout.data - 1) / layout.data / layout.model
    return share * total * (3 * bytes_a_number if layout.fsdp else 2 * 4)


def step_seconds(
    run: RunConfig, vocab_size: int, layout: Layout, chip: Chip, utilisation: float
) -> tuple[float, float | None]:
    """Of computing, and of sending parameters and gradients (None: the chip's interconnect is not known)."""
    flops = run.tokens_per_step * train_flops_per_token(run.model, vocab_size, run.context_length)
    flops *= FULL_REMAT_FLOPS if layout.remat == "full" else 1
    computing = flops / (layout.devices * chip.peak_flops_per_second * utilisation)
    speed = INTERCONNECT_BYTES_PER_SECOND.get(chip.short)
    times = layout.rows // layout.microbatch if layout.fsdp else 1
    sent = times * fsdp_bytes(count_parameters(run.model, vocab_size).total, layout, _bytes(run.model))
    return computing, None if speed is None else sent / speed


# Into and out of a chip together, half of which a chip can send: cloud.google.com/tpu/docs (v4 2400 Gbit/s, v5e 1600,
# v5p 4800, v6e 3584, "interchip interconnect bandwidth per chip"); NVLink 4 and 3: NVIDIA's data sheets, 900, 600 GB/s.
INTERCONNECT_BYTES_PER_SECOND = {
    "v4": 150e9,
    "v5e": 100e9,
    "v5p": 300e9,
    "v6e": 224e9,
    "h100": 450e9,
    "h200": 450e9,
    "a100": 300e9,
}


def _bytes(config: ModelConfig) -> int:
    return 2 if config.compute_dtype == "bfloat16" else 4


def _unsplit_parameters(config: ModelConfig) -> int:
    """Of one block: those without the axis `embed`, which every device along `data` holds whole."""
    match config:
        case LlamaConfig():
            return 0
        case GPT2Config() | GPTNeoXConfig():
            return 3 * config.d_model + config.mlp_width
        case Mamba2Config():
            channels = config.inner + 2 * config.num_groups * config.d_state
            conv = channels * (config.conv_width + config.conv_bias)
            return conv + (2 + config.dt_bias) * config.num_heads + config.inner
        case MambaConfig():
            e, rank, state = config.inner, config.delta_rank, config.d_state
            return e * (config.conv_width + 1 + rank + 2 * state + rank + 1 + state + 1)
        case _:
            assert_never(config)


def _product_widths(config: ModelConfig) -> int:
    """Numbers a token that the products of one block with weights give."""
    d = config.d_model
    match config:
        case LlamaConfig():
            return config.head_dim * (config.num_heads + 2 * config.kv_heads) + 2 * d + 2 * config.mlp_width
        case GPT2Config() | GPTNeoXConfig():
            return 5 * d + config.mlp_width
        case Mamba2Config():
            return 2 * config.inner + 2 * config.num_groups * config.d_state + config.num_heads + d
        case MambaConfig():
            return 3 * config.inner + config.delta_rank + 2 * config.d_state + d
        case _:
            assert_never(config)


def _attended_pairs(config: ModelConfig, sequences: int, length: int) -> float:
    """Pairs of positions that the blocks of `ops.attention` have scores for, of all heads."""
    is_attention = isinstance(config, (LlamaConfig, GPT2Config, GPTNeoXConfig))
    return sequences * config.num_heads * length**2 * 9 / 16 if is_attention else 0.0


def _other_bytes(config: ModelConfig, sequences: int, length: int) -> float:
    """What else one block makes and its backward pass reads."""
    tokens, width = sequences * length, _bytes(config)
    norms = 2 * tokens * config.d_model * (4 + width)
    match config:
        case LlamaConfig() | GPT2Config() | GPTNeoXConfig():
            pairs = _attended_pairs(config, sequences, length)
            return norms + pairs * (4 + width) + 2 * tokens * config.mlp_width * width
        case Mamba2Config():
            chunks = tokens * min(config.chunk_size or SSD_CHUNK, length) * config.num_heads * 4  # decays of one chunk
            in_flight = chunks / max(length / min(config.chunk_size or SSD_CHUNK, length), 1)
            return norms + 4 * in_flight + tokens * config.inner * (4 * width + 8 * 4)
        case MambaConfig():
            states = tokens / config.chunk_size * config.inner * config.d_state * 4
            return norms + states + tokens * config.inner * (4 * width + 3 * 4)
        case _:
            assert_never(config)
