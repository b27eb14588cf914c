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

from lossline_jax.config.model import ModelConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.chips import Chip
from lossline_jax.distributed.layout import DeviceLayout
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.models.architectures import architecture_of
from lossline_jax.ops.block_sizes import MIN_LOGITS_CHUNK

FULL_REMAT_FLOPS = 4 / 3  # the forward pass once more


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on each device."""

    parameters: float
    optimiser: float
    gradients: float
    activations: float
    workspace: float

    @property
    def total(self) -> float:
        return self.parameters + self.optimiser + self.gradients + self.activations + self.workspace


def memory(run: RunConfig, vocab_size: int, layout: DeviceLayout) -> MemoryEstimate:
    """By the formulas above."""
    config = run.model
    total = count_parameters(config, vocab_size).total
    architecture = architecture_of(config)
    block = architecture.block_parameters(config).values()
    # Every device along `data` holds parameters without the axis `embed` whole.
    unsplit = config.num_layers * sum(leaf.size for leaf in block if "embed" not in leaf.axes)
    split = layout.data if layout.fsdp else 1
    held = ((total - unsplit) / split + unsplit) / layout.model
    tokens, width = layout.microbatch * run.context_length, _bytes(config)
    entering = tokens * config.d_model * width
    products = tokens * sum(leaf.output_size for leaf in block) * width / layout.model
    norms = 2 * tokens * config.d_model * (4 + width)
    others = norms + layout.microbatch * architecture.kept_bytes(config, run.context_length, width)
    everything = products + others / layout.model
    scores = layout.microbatch * architecture.attended_pairs(config, run.context_length) / layout.model
    # of layers that are kept whole, libtpu keeps the weights of attention in float32 beside the scores
    kept = {"full": 0.0, "cheap": products, "none": everything + scores * (4 - width)}[layout.remat]
    ends = vocab_size * config.d_model / layout.model
    tables = 1 if config.tied_embeddings else 2
    chunk = layout.microbatch * min(MIN_LOGITS_CHUNK, run.context_length) * vocab_size * 4 / layout.model
    loss = tables * ends * width + ends * 4 + 2 * chunk
    layer = (0 if layout.remat == "none" else everything) + 2 * entering + tables * ends * 4
    weights = (total - tables * ends) * width if layout.fsdp and layout.remat == "none" else 0  # gathered, and kept
    return MemoryEstimate(
        parameters=4 * held,
        optimiser=8 * held,
        gradients=4 * held,
        activations=config.num_layers * (entering + kept) + weights,
        workspace=max(loss, layer),
    )


def fsdp_bytes(total: int, layout: DeviceLayout, bytes_a_number: int) -> float:
    """What a device must send for the parameters in a step: the least there is.

    ZeRO-3 (Rajbhandari et al. 2020, arXiv 1910.02054, section 7.2.2): an all-gather forwards, one backwards and a
    reduce-scatter of the gradients, (d - 1) / d of the parameters each. Whole parameters: one all-reduce, twice that
    share, of float32 gradients.
    """
    share = (layout.data - 1) / layout.data / layout.model
    return share * total * (3 * bytes_a_number if layout.fsdp else 2 * 4)


def step_seconds(
    run: RunConfig, vocab_size: int, layout: DeviceLayout, chip: Chip, utilisation: float
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
