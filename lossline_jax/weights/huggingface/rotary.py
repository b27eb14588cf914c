"""Read the rotary positions of a config.json, with the field names of transformers 4 or of transformers 5."""

from dataclasses import dataclass
from typing import Any

from lossline_jax.config.model import Llama3RopeScaling
from lossline_jax.weights.huggingface.fields import Fields

_DEFAULT_THETA = 10_000.0  # the base of the wavelengths, with no unit; the default of transformers


@dataclass(frozen=True)
class Rotary:
    """The rotary positions of a model."""

    theta: float  # base of the wavelengths, with no unit
    fraction: float  # share of the channels of a head that are rotated
    scaling: Llama3RopeScaling | None  # None: the wavelengths are not scaled


def read_rotary(
    fields: Fields,
    *,
    kinds: tuple[str, ...],
    theta_name: str = "rope_theta",
    fraction_name: str = "partial_rotary_factor",
    default_fraction: float = 1.0,
) -> Rotary:
    """Read rotary positions from `rope_parameters` (transformers 5), or `rope_scaling` and `theta_name` (4).

    Args:
        fields: the fields of the config.json.
        kinds: the supported values of `rope_type`, with `default` first.
        theta_name: the field with the base in transformers 4.
        fraction_name: the field with the rotated share of a head in transformers 4.
        default_fraction: the rotated share if the file does not give it.

    Raises:
        LosslineError: the kind of rotary positions is not supported, or two fields contradict each other.
    """
    theta, fraction = fields.number(theta_name, None), fields.number(fraction_name, None)
    context_length = fields.integer("max_position_embeddings", None)
    rotary = None
    for name in ("rope_parameters", "rope_scaling"):
        part = fields.part(name)
        if part is None:
            continue
        read = Rotary(
            _inner(part, "rope_theta", theta, outer_name=theta_name, default=_DEFAULT_THETA),
            _inner(part, "partial_rotary_factor", fraction, outer_name=fraction_name, default=default_fraction),
            _read_scaling(part, kinds, context_length),
        )
        part.finish()
        if rotary not in (None, read):
            raise fields.error(name, read, f"contradicts rope_parameters, which gives {rotary}")
        rotary = read
    if rotary is not None:
        return rotary
    return Rotary(_DEFAULT_THETA if theta is None else theta, default_fraction if fraction is None else fraction, None)


def _inner(part: Fields, name: str, outer: float | None, *, outer_name: str, default: float) -> float:
    """Return a number that may be inside the object, outside it, or in both places if the two are equal."""
    if outer is None:
        return part.number(name, default)
    part.repeats(name, outer, outer_name)
    return outer


def _read_scaling(part: Fields, kinds: tuple[str, ...], context_length: int | None) -> Llama3RopeScaling | None:
    old_name = part.one_of("type", *kinds)
    kind = part.one_of("rope_type", old_name, *kinds)
    if kind == "default":
        return None
    original = "original_max_position_embeddings"
    original_context_length = (
        part.integer(original) if context_length is None else part.integer(original, context_length)
    )
    return Llama3RopeScaling(
        factor=part.number("factor"),
        low_freq_factor=part.number("low_freq_factor"),
        high_freq_factor=part.number("high_freq_factor"),
        original_context_length=original_context_length,
    )


def scaling_json(scaling: Llama3RopeScaling | None) -> dict[str, Any] | None:
    """Return the value of the field `rope_scaling`, which transformers 4 and 5 both read.

    Args:
        scaling: the scaling. None: the wavelengths are not scaled.
    """
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context_length,
    }
