"""The rotary positions of a config.json: the names of transformers 4 and those of transformers 5."""

from dataclasses import dataclass
from typing import Any

from lossline_jax.config.model import Llama3RopeScaling
from lossline_jax.weights.huggingface.fields import Fields

_DEFAULT_THETA = 10_000.0  # transformers' own


@dataclass(frozen=True)
class Rotary:
    """What both spellings say."""

    theta: float
    fraction: float  # of the channels of a head
    scaling: Llama3RopeScaling | None


def read_rotary(
    fields: Fields,
    *,
    kinds: tuple[str, ...],
    theta_name: str = "rope_theta",
    fraction_name: str = "partial_rotary_factor",
    default_fraction: float = 1.0,
) -> Rotary:
    """Rotary positions out of `rope_parameters` (transformers 5), or `rope_scaling` and `theta_name` (4).

    Args:
        fields: of the config.json.
        kinds: the supported values of `rope_type`, `default` first.
        theta_name, fraction_name: what the architecture called the two in transformers 4.
        default_fraction: where neither spelling gives it.

    Raises:
        LosslineError: another kind of rotary positions, or the two spellings contradict each other.
    """
    theta, fraction = fields.number(theta_name, None), fields.number(fraction_name, None)
    context_length = fields.integer("max_position_embeddings", None)
    rotary = None
    for name in ("rope_parameters", "rope_scaling"):
        part = fields.part(name)
        if part is None:
            continue
        read = Rotary(
            _inner(part, "rope_theta", theta, theta_name, _DEFAULT_THETA),
            _inner(part, "partial_rotary_factor", fraction, fraction_name, default_fraction),
            _read_scaling(part, kinds, context_length),
        )
        part.finish()
        if rotary not in (None, read):
            raise fields.error(name, read, f"contradicts rope_parameters, which gives {rotary}")
        rotary = read
    if rotary is not None:
        return rotary
    return Rotary(_DEFAULT_THETA if theta is None else theta, default_fraction if fraction is None else fraction, None)


def _inner(part: Fields, name: str, outer: float | None, outer_name: str, default: float) -> float:
    """A number that may stand inside the object, outside, or in both places if it is the same."""
    if outer is None:
        return part.number(name, default)
    part.repeats(name, outer, outer_name)
    return outer


def _read_scaling(part: Fields, kinds: tuple[str, ...], context_length: int | None) -> Llama3RopeScaling | None:
    old_name = part.one_of("type", *kinds)
    kind = part.one_of("rope_type", old_name, *kinds)
    if kind == "default":
        return None
    trained_on = {} if context_length is None else {"default": context_length}
    return Llama3RopeScaling(
        factor=part.number("factor"),
        low_freq_factor=part.number("low_freq_factor"),
        high_freq_factor=part.number("high_freq_factor"),
        original_context_length=part.integer("original_max_position_embeddings", **trained_on),
    )


def scaling_json(scaling: Llama3RopeScaling | None) -> dict[str, Any] | None:
    """The value of `rope_scaling`, which transformers 4 and 5 both read."""
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context_length,
    }
