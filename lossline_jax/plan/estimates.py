"""Estimate the memory and the time of a run on a mesh of named chips. This file reads only the config, without jax.

The memory of a device, in bytes:

    parameters         4 (S / d + P - S)
    optimiser          8 (S / d + P - S), for two moments
    gradients          4 (S / d + P - S)
    activations        the numbers that the forward pass keeps for the backward pass, for each layer:
                       full     n D a, the input of the layer
                       cheap    as `full`, and the results of the layer's products with weights
                       none     as `cheap`, and everything else that the layer computes (attention scores, float32
                                norms, ...)
    workspace          the larger of two peaks:
                       loss     whole embedding and unembedding, the float32 gradient of one of them, and the logits
                                of a chunk twice
                       layer    one layer forwards and backwards, and the float32 gradients of embedding and
                                unembedding

    P   number of parameters              d   devices along the mesh axis `data`
    S   parameters that are split over d  b   sequences of a microbatch on a device
    n   b T, tokens of a microbatch       a   bytes of a number in the compute dtype
    D   width of the model                T   context length

Everything is also divided by the devices along the mesh axis `model`, which is only about right.
`tests/plan/test_compiler.py` compares the sum with the memory that libtpu reports for the compiled steps. The ratios
are in `docs/scale.md`.

The time of a step is the longer of two times, because they overlap. Computing: the FLOPs (with the recomputed ones
under `full`) at the assumed share of the peak. Sending: the bytes of ZeRO-3 (`fsdp_bytes`) over the interconnect.
"""

from dataclasses import dataclass

from lossline_jax.config.model import DTYPE_BYTES, ModelConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.chips import Chip
from lossline_jax.distributed.layout import DeviceLayout
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.models.architectures import architecture_of
from lossline_jax.ops.block_sizes import MIN_LOGITS_CHUNK

# Factor on the training FLOPs under remat `full`. It computes the forward pass (1 of 3 parts of the FLOPs) again.
FULL_REMAT_FLOPS = 4 / 3


@dataclass(frozen=True)
class MemoryEstimate:
    """The estimated memory of each device, in bytes. The module docstring explains the fields."""

    parameters: float
    optimiser: float
    gradients: float
    activations: float
    workspace: float

    @property
    def total(self) -> float:
        """The sum of all fields."""
        return self.parameters + self.optimiser + self.gradients + self.activations + self.workspace


def memory(run: RunConfig, vocab_size: int, layout: DeviceLayout) -> MemoryEstimate:
    """Estimate the bytes of one device. The module docstring gives the formulas.

    Args:
        run: the run.
        vocab_size: number of tokens of the run's tokenizer.
        layout: the way in which the run is divided over the devices.
    """
    config = run.model
    total = count_parameters(config, vocab_size).total
    architecture = architecture_of(config)
    block = architecture.block_parameters(config).values()
    # FSDP splits the axis `embed`. Every device along `data` holds a full copy of the parameters without this axis.
    unsplit = config.num_layers * sum(leaf.size for leaf in block if "embed" not in leaf.axes)
    split = layout.data if layout.fsdp else 1
    device_parameters = ((total - unsplit) / split + unsplit) / layout.model
    tokens, width = layout.microbatch * run.context_length, _bytes(config)
    layer_input = tokens * config.d_model * width
    products = tokens * sum(leaf.output_size for leaf in block) * width / layout.model
    norms = 2 * tokens * config.d_model * (4 + width)
    other_results = norms + layout.microbatch * architecture.kept_bytes(config, run.context_length, width)
    all_results = products + other_results / layout.model
    scores = layout.microbatch * architecture.attended_pairs(config, run.context_length) / layout.model
    # Without recomputation, libtpu keeps the attention weights in float32 in addition to the scores.
    kept = {"full": 0.0, "cheap": products, "none": all_results + scores * (4 - width)}[layout.remat]
    embedding_size = vocab_size * config.d_model / layout.model
    num_embeddings = 1 if config.tied_embeddings else 2
    chunk = layout.microbatch * min(MIN_LOGITS_CHUNK, run.context_length) * vocab_size * 4 / layout.model
    loss = num_embeddings * embedding_size * width + embedding_size * 4 + 2 * chunk
    layer = (0 if layout.remat == "none" else all_results) + 2 * layer_input + num_embeddings * embedding_size * 4
    # Without recomputation, FSDP keeps the weights that the forward pass gathers.
    keeps_gathered = layout.fsdp and layout.remat == "none"
    gathered_weights = (total - num_embeddings * embedding_size) * width if keeps_gathered else 0
    return MemoryEstimate(
        parameters=4 * device_parameters,
        optimiser=8 * device_parameters,
        gradients=4 * device_parameters,
        activations=config.num_layers * (layer_input + kept) + gathered_weights,
        workspace=max(loss, layer),
    )


def fsdp_bytes(total: int, layout: DeviceLayout, bytes_a_number: int) -> float:
    """Return the smallest number of bytes that a device can send for the parameters in a step.

    ZeRO-3 (Rajbhandari et al. 2020, arXiv 1910.02054, section 7.2.2) needs an all-gather forwards, an all-gather
    backwards and a reduce-scatter of the gradients. Each of them sends (d - 1) / d of the parameters, where d is the
    number of devices along the mesh axis `data`. Without FSDP, one all-reduce sends twice that share of the float32
    gradients.

    Args:
        total: number of parameters.
        layout: the way in which the run is divided over the devices.
        bytes_a_number: bytes of a number in the compute dtype.
    """
    share = (layout.data - 1) / layout.data / layout.model
    return share * total * (3 * bytes_a_number if layout.fsdp else 2 * 4)


def step_seconds(
    run: RunConfig, vocab_size: int, layout: DeviceLayout, *, chip: Chip, utilisation: float
) -> tuple[float, float | None]:
    """Estimate the seconds of computing and the seconds of sending in one training step.

    Args:
        run: the run.
        vocab_size: number of tokens of the run's tokenizer.
        layout: the way in which the run is divided over the devices.
        chip: kind of the devices.
        utilisation: share of the chip's peak FLOPs that training is assumed to reach, from 0 to 1.

    Returns:
        Seconds of computing, and seconds of sending parameters and gradients. None for sending: the speed of the
        chip's interconnect is not known.
    """
    flops = run.tokens_per_step * train_flops_per_token(run.model, vocab_size, run.context_length)
    flops *= run.gradients_per_step
    flops *= FULL_REMAT_FLOPS if layout.remat == "full" else 1
    computing = flops / (layout.devices * chip.peak_flops_per_second * utilisation)
    speed = INTERCONNECT_BYTES_PER_SECOND.get(chip.short)
    times_sent = layout.rows // layout.microbatch if layout.fsdp else 1
    sent = times_sent * fsdp_bytes(count_parameters(run.model, vocab_size).total, layout, _bytes(run.model))
    return computing, None if speed is None else sent / speed


# Bytes per second that a chip can send: half of the published bandwidth, which is the sum of both directions. TPUs:
# cloud.google.com/tpu/docs, "interchip interconnect bandwidth per chip", in Gbit/s: v4 2400, v5e 1600, v5p 4800,
# v6e 3584. GPUs: NVIDIA's data sheets, NVLink 4 (h100, h200) 900 GB/s, NVLink 3 (a100) 600 GB/s.
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
    return DTYPE_BYTES[config.compute_dtype]
