"""Reading a config.json so that no field of it is overlooked.

A field is asked for by name, listed as harmless, or refused by name with its value: one that is ignored
although it changes the mathematics would give wrong losses without a word. `null` counts as absent.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from etils import epath

from lossline_jax.errors import LosslineError, suggestion

_REQUIRED = object()
_LARGEST = 2**53  # of any width, count or length: what is above has no place in an array
_LARGEST_FLOAT = sys.float_info.max

# What transformers 4 and 5 write into every config.json and what no causal language model's logits depend on.
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
# Fields of any architecture that change what is computed; only these values do not.
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
    """A JSON object, with the non-finite numbers that transformers 5 writes as `{"__float__": "Infinity"}`.

    Raises:
        LosslineError: the file is not there, or it is something else.
    """
    try:
        value = _plain(json.loads(path.read_text("utf-8-sig")))
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such file; give the folder of a Hugging Face model") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:  # TypeError: of what `__float__` cannot be
        raise LosslineError(f"{path}: damaged or no JSON ({error}); fetch it anew") from error
    if not isinstance(value, dict):
        raise LosslineError(f"{path}: expected a JSON object, got {_shown(value)}; fetch it anew")
    return value


class Fields:
    """The fields of one JSON object, each to be asked for before `finish`.

    Every method raises LosslineError naming file, field and value where it does not fit.
    """

    def __init__(self, values: Mapping[str, Any], where: str, prefix: str = ""):
        """`where` is the file, and `prefix` the path to an object within it (`rope_parameters.`)."""
        self._values = {name: value for name, value in values.items() if value is not None}
        self._where = where
        self._prefix = prefix
        self._asked: set[str] = set()

    def integer(self, name: str, default: Any = _REQUIRED, automatic: str | None = None) -> Any:
        """A whole number above 0, or the default where it is absent or says `automatic`."""
        value = self._take(name, default)
        if value is default or (automatic is not None and value == automatic):
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
            raise self.error(name, value, "expected a whole number above 0")
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        """A finite number above 0, or the default where it is absent."""
        value = self._take(name, default)
        if value is default:
            return default
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= _LARGEST_FLOAT:
            raise self.error(name, value, "expected a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.error(name, value, "expected true or false")
        return value

    def one_of(self, name: str, *supported: Any) -> Any:
        """The value, which must be one of `supported`; the first of them where it is absent."""
        value = self._take(name, supported[0])
        if value not in supported or isinstance(value, bool) != isinstance(supported[0], bool):
            named = [item for k, item in enumerate(supported) if item is not None and item not in supported[:k]]
            choices = ", ".join(map(_shown, named)) if named else "no such field"
            raise self.error(name, value, f"not supported; supported: {choices}")
        return value

    def repeats(self, name: str, value: Any, of: str) -> None:
        """A field that says again what another one (`of`) says: absent or equal to `value`."""
        given = self._take(name, value)
        if given != value:
            raise self.error(name, given, f"contradicts {of}, which makes it {_shown(value)}; not supported")

    def part(self, name: str) -> "Fields | None":
        """The fields of the object under `name`, or None where it is absent."""
        value = self._take(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, value, "expected an object")
        return Fields(value, self._where, f"{self._prefix}{name}.")

    def harmless(self, *names: str) -> None:
        """Fields that say nothing about the function that the weights stand for."""
        self._asked.update(names)

    def token_id(self, name: str) -> int | None:
        """The id of a special token, the first one where there are several; None where there is none."""
        value = self._take(name, None)
        ids = value if isinstance(value, list) else [value]
        if value is None:
            return None
        if not ids or any(not isinstance(each, int) or isinstance(each, bool) or each < 0 for each in ids):
            raise self.error(name, value, "expected the id of a token, or a list of ids; delete it if there is none")
        return ids[0]

    def error(self, name: str, value: Any, what: str) -> LosslineError:
        """An error about one field, to be raised."""
        return LosslineError(f"{self._where}: field {self._prefix}{name}={_shown(value)}: {what}")

    def finish(self) -> None:
        """Refuse, by name, the first field that nobody has asked for."""
        if not self._prefix:
            self._asked |= _HARMLESS
            for name, supported in _SUPPORTED_EVERYWHERE.items():
                self.one_of(name, *supported)
        for name in sorted(self._values.keys() - self._asked):
            raise self.error(
                name,
                self._values[name],
                f"unknown{suggestion(name, self._asked)}; delete it from the file if it does not change what the "
                "model computes",
            )

    def _take(self, name: str, default: Any) -> Any:
        self._asked.add(name)
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
