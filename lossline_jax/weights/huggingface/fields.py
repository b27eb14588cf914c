"""Read a config.json so that no field is overlooked.

Every field is read by name, listed as harmless, or refused in an error with its name and value. An ignored field
that changes the mathematics would give wrong losses without a warning. A field with the value `null` counts as absent.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from etils import epath

from lossline_jax.errors import LosslineError, suggestion

_REQUIRED = object()
_LARGEST = 2**53  # the limit of every width, count and length; no array can be larger
_LARGEST_FLOAT = sys.float_info.max

# The fields that transformers 4 and 5 write into every config.json.
# The logits of a causal language model depend on none of these fields.
_HARMLESS_NAMES = """
architectures model_type transformers_version torch_dtype dtype _name_or_path name_or_path _commit_hash
_from_model_config gradient_checkpointing neftune_noise_alpha use_cache output_attentions output_hidden_states
output_past output_scores return_dict return_dict_in_generate torchscript use_bfloat16 attn_implementation
_attn_implementation _attn_implementation_autoset _attn_implementation_internal _experts_implementation
experts_implementation chunk_size_feed_forward initializer_range attention_dropout hidden_dropout
hidden_dropout_prob attention_probs_dropout_prob classifier_dropout bos_token_id eos_token_id pad_token_id
sep_token_id decoder_start_token_id unk_token_id is_decoder tie_encoder_decoder cross_attention_hidden_size
finetuning_task task_specific_params id2label label2id num_labels _num_labels problem_type tokenizer_class prefix
tf_legacy_loss transformers.js_config max_length min_length max_new_tokens do_sample early_stopping num_beams
num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences forced_bos_token_id
forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
"""
_HARMLESS = frozenset(_HARMLESS_NAMES.split())
# Fields of any architecture that change the computation, with the only values that do not change it.
_SUPPORTED_EVERYWHERE = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
    "quantization_config": (None,),
    "sliding_window": (None,),
    "use_sliding_window": (False,),
    "auto_map": (None,),
    "per_layer_config": (None, {}),
}


def read_object(path: epath.Path) -> dict[str, Any]:
    """Read a JSON object, and decode the non-finite numbers of transformers 5, such as `{"__float__": "Infinity"}`.

    Args:
        path: the JSON file.

    Raises:
        LosslineError: the file is missing, damaged, or not a JSON object.
    """
    try:
        value = _plain(json.loads(path.read_text("utf-8-sig")))
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such file; give the folder of a Hugging Face model") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:  # TypeError: `__float__` has a list
        raise LosslineError(f"{path}: damaged or no JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise LosslineError(f"{path}: expected a JSON object, got {_shown(value)}; download it again")
    return value


class Fields:
    """A reader of one JSON object, which refuses in `finish` every field that was not read.

    Every method raises LosslineError with the file, the field and the value if the value is not valid.
    """

    def __init__(self, values: Mapping[str, Any], where: str, prefix: str = "") -> None:
        """Create a reader in which no field has been read.

        Args:
            values: the JSON object. A value of None counts as absent.
            where: the file, for messages.
            prefix: the path to an object within the file, such as `rope_parameters.`.
        """
        self._values = {name: value for name, value in values.items() if value is not None}
        self._where = where
        self._prefix = prefix
        self._read: set[str] = set()

    def integer(self, name: str, default: Any = _REQUIRED, automatic: str | None = None) -> Any:
        """Return a whole number above 0.

        Args:
            name: the field.
            default: the value if the field is absent or has the value `automatic`. Without a default it is required.
            automatic: the text that stands for the default. None: no text does.
        """
        value = self._take(name, default)
        if value is default or (automatic is not None and value == automatic):
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
            raise self.error(name, value, "expected a whole number above 0")
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a finite number above 0, as a float.

        Args:
            name: the field.
            default: the value if the field is absent. Without a default the field is required.
        """
        value = self._take(name, default)
        if value is default:
            return default
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= _LARGEST_FLOAT:
            raise self.error(name, value, "expected a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false, or the default if the field is absent."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.error(name, value, "expected true or false")
        return value

    def one_of(self, name: str, *supported: Any) -> Any:
        """Return the value, which must be one of `supported`. An absent field has the first of them."""
        value = self._take(name, supported[0])
        if value not in supported or isinstance(value, bool) != isinstance(supported[0], bool):
            named = [item for k, item in enumerate(supported) if item is not None and item not in supported[:k]]
            choices = ", ".join(map(_shown, named)) if named else "no such field"
            raise self.error(name, value, f"not supported; supported: {choices}")
        return value

    def repeats(self, name: str, value: Any, of: str) -> None:
        """Check a field that repeats the field `of`: it must be absent or equal to `value`."""
        given = self._take(name, value)
        if given != value:
            raise self.error(name, given, f"contradicts {of}, which makes it {_shown(value)}; not supported")

    def part(self, name: str) -> "Fields | None":
        """Return the reader of the object in the field `name`. None: the field is absent."""
        value = self._take(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, value, "expected an object")
        return Fields(value, self._where, f"{self._prefix}{name}.")

    def harmless(self, *names: str) -> None:
        """Accept any value of these fields, which do not change the function that the model computes."""
        self._read.update(names)

    def token_id(self, name: str) -> int | None:
        """Return the id of a special token, or the first id of a list. None: the model has no such token."""
        value = self._take(name, None)
        if value is None:
            return None
        ids = value if isinstance(value, list) else [value]
        if not ids or any(not isinstance(index, int) or isinstance(index, bool) or index < 0 for index in ids):
            raise self.error(name, value, "expected the id of a token, or a list of ids; delete it if there is none")
        return ids[0]

    def error(self, name: str, value: Any, what: str) -> LosslineError:
        """Return the error about one field, for the caller to raise."""
        return LosslineError(f"{self._where}: field {self._prefix}{name}={_shown(value)}: {what}")

    def finish(self) -> None:
        """Raise LosslineError with the name of the first field that was neither read nor listed as harmless."""
        if not self._prefix:
            self._read |= _HARMLESS
            for name, supported in _SUPPORTED_EVERYWHERE.items():
                self.one_of(name, *supported)
        for name in sorted(self._values.keys() - self._read):
            raise self.error(
                name,
                self._values[name],
                f"unknown{suggestion(name, self._read)}; delete it from the file if it does not change what the "
                "model computes",
            )

    def _take(self, name: str, default: Any) -> Any:
        self._read.add(name)
        value = self._values.get(name, default)
        if value is _REQUIRED:
            raise LosslineError(f"{self._where}: field {self._prefix}{name} is missing")
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
