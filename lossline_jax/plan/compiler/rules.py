"""Check a compiled program against rules on its memory and on the bytes that it sends."""

import math
from collections.abc import Iterator

from lossline_jax.distributed.chips import Chip
from lossline_jax.models.model import Model
from lossline_jax.plan.compiler.hlo import Array, Program, count_by_kind
from lossline_jax.plan.compiler.programs import Compiled

MAX_SENT_SHARE = 1.2  # bytes that a device may send, as a multiple of the least that FSDP must send; see docs/scale.md


def broken_rules(compiled: Compiled, model: Model, chip: Chip, model_parallel: int) -> tuple[str, ...]:
    """Return one line for each rule that the program breaks.

    With tensor parallelism, the devices also send activations. The bytes sent are then not compared with the minimum
    of FSDP.

    Args:
        compiled: the compiled program.
        model: the model of the program.
        chip: kind of the devices.
        model_parallel: size of the mesh axis `model`.
    """
    if compiled.program is None:
        return (f"does not fit a {chip.name}: {compiled.too_much}",)
    return tuple(_broken(compiled, compiled.program, model, chip=chip, model_parallel=model_parallel))


def largest_logits(program: Program, model: Model, model_parallel: int) -> Array | None:
    """Return the largest float32 array of logits in memory. None: the program has no such array.

    An array has logits if it has a vocabulary axis and is larger than a parameter or the gradient of a parameter.

    Args:
        program: the program.
        model: the model of the program.
        model_parallel: size of the mesh axis `model`.
    """
    arrays = [array for array in program.buffers if array.dtype == "f32" and _positions(array, model, model_parallel)]
    return max(arrays, key=lambda array: array.num_bytes, default=None)


def _broken(compiled: Compiled, program: Program, model: Model, *, chip: Chip, model_parallel: int) -> Iterator[str]:
    if compiled.hbm_bytes > chip.hbm_bytes:
        yield f"does not fit: {compiled.hbm_bytes / 1e9:.1f} of {chip.hbm_bytes / 1e9:.1f} GB of a {chip.name}"
    logits = largest_logits(program, model, model_parallel)
    if logits is not None and _positions(logits, model, model_parallel) >= compiled.rows_held:
        yield f"float32 logits of a whole batch are in memory: {list(logits.shape)}"
    for collective in program.collectives:
        gathered = [array for array in collective.results if _positions(array, model, 1)]
        if collective.kind == "all-gather" and gathered:
            yield f"logits are gathered: {list(gathered[0].shape)}"
    counts = count_by_kind(program)
    if "all-to-all" in counts:
        yield f"activations are exchanged by {counts['all-to-all'][0]} all-to-all"
    sent = sum(sent for _, sent in counts.values())
    if model_parallel == 1 and sent > MAX_SENT_SHARE * compiled.minimum_bytes:
        yield (
            f"a device sends {sent / 1e9:.2f} GB, {sent / max(compiled.minimum_bytes, 1):.2f} times the least that "
            f"FSDP must ({MAX_SENT_SHARE} allowed)"
        )
    if program.uncounted_loops:
        yield f"{program.uncounted_loops} loop(s) have a length that the program does not give"


def _positions(array: Array, model: Model, model_parallel: int) -> int:
    """Return the number of positions whose logits the array has. 0: the array has no logits, or is a parameter."""
    vocab_size, width = model.vocab_size // model_parallel, model.config.d_model
    if vocab_size not in array.shape:
        return 0
    positions = math.prod(array.shape) // vocab_size
    return 0 if positions <= width else positions
