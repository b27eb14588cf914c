"""Checks that refuse impossible models and studies with one line, before anything is written.

This module does not import jax.
"""

import dataclasses
import json
import re
from collections.abc import Collection

from lossline_jax.config.check_custom import check_custom_classes, check_read_back
from lossline_jax.config.check_optimiser import check_optimiser, check_width_rates
from lossline_jax.config.custom import custom_classes, custom_values, source_files
from lossline_jax.config.model import (
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Mamba2Config,
    ModelConfig,
    max_context_length,
)
from lossline_jax.config.ranges import check_ranges
from lossline_jax.config.serialise import from_json, to_json
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import BUILT_IN, OptimConfig
from lossline_jax.errors import LosslineError, suggestion


def check_config(config: ModelConfig) -> None:
    """Refuse a config from which no model can be built.

    Args:
        config: config of a model.

    Raises:
        LosslineError: names the field that is wrong.
    """
    check_ranges(config, "model")
    if config.dropout_from and not config.dropout:
        raise LosslineError(
            f"model.dropout_from: {config.dropout_from} has no effect without model.dropout; give both, or neither"
        )
    if isinstance(config, LlamaConfig):
        _check_llama(config)
    elif isinstance(config, (GPT2Config, GPTNeoXConfig)):
        _divides("num_heads", config.num_heads, "model.d_model", config.d_model)
        if isinstance(config, GPTNeoXConfig):
            _check_rotary_part(config)
    else:
        if config.dt_min > config.dt_max:
            raise LosslineError(f"model.dt_min: {config.dt_min} is above model.dt_max={config.dt_max}")
        if isinstance(config, Mamba2Config):
            _divides("num_heads", config.num_heads, "the inner width", config.inner)
            _divides("num_groups", config.num_groups, "model.num_heads", config.num_heads)


def _check_llama(config: LlamaConfig) -> None:
    _divides("num_heads", config.num_heads, "model.d_model", config.d_model)
    _divides("num_kv_heads", config.kv_heads, "model.num_heads", config.num_heads)
    if config.head_dim % 2:
        raise LosslineError(
            f"model.num_heads: {config.num_heads} heads of width {config.head_dim} have an odd width, "
            "but rotary positions need pairs of channels; choose heads of an even width"
        )
    scaling = config.rope_scaling
    if scaling is not None and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise LosslineError(
            f"model.rope_scaling.low_freq_factor: {scaling.low_freq_factor:g} is not below "
            f"high_freq_factor={scaling.high_freq_factor:g}"
        )


def _check_rotary_part(config: GPTNeoXConfig) -> None:
    if config.rotary_dim % 2 or not 0 < config.rotary_dim <= config.head_dim:
        raise LosslineError(
            f"model.rotary_fraction: {config.rotary_fraction} of a head of width {config.head_dim} is "
            f"{config.rotary_dim} channels; rotary positions need an even number between 2 and the width of a head"
        )


def _divides(field: str, value: int, dividend_name: str, dividend: int) -> None:
    """Refuse a `value` that does not divide `dividend`, and name the nearest divisor."""
    if dividend % value:
        below = next(n for n in range(min(value, dividend), 0, -1) if dividend % n == 0)
        above = next((n for n in range(value, min(2 * value, dividend) + 1) if dividend % n == 0), below)
        nearest = min(below, above, key=lambda n: abs(n - value))
        raise LosslineError(f"model.{field}: {value} does not divide {dividend_name} {dividend}; {nearest} would")


# Characters. A file system accepts names of 255 bytes, and the folders of corpora and tokenizers add to the name.
LONGEST_NAME = 200
FOLDER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def validate_study(study: StudyConfig, where: str) -> StudyConfig:
    """Refuse a study before any work starts if it would fail later, perhaps after hours.

    Args:
        study: the study as its experiment file returned it.
        where: start of the error message, usually the path of the experiment file.

    Returns:
        The study with every value in the type of its field. An int that was given for a float becomes a float.
        The study is therefore the same, with the same run ids, when it is read back from study.json.

    Raises:
        LosslineError: a value has the wrong type, a name is not defined, two runs are equal, no factor
            distinguishes two different runs, or a model or a size is impossible.
    """
    if not isinstance(study, StudyConfig):
        raise LosslineError(f"{where}: study() returned {type(study).__name__}, not StudyConfig")
    study = _with_code(_read_back(study, where), where)
    try:
        check_ranges(study)
    except LosslineError as error:
        raise LosslineError(f"{where}: {error}") from error
    _check_folder_name(study.name, f"{where}: name")
    if not study.runs or not study.corpora:
        raise LosslineError(f"{where}: the study has no {'corpora' if study.runs else 'runs'}")
    corpora = [corpus.name for corpus in study.corpora]
    for name in corpora:
        _check_folder_name(name, f"{where}: corpus")
    _refuse_duplicates(corpora, "corpus", where)
    _refuse_duplicates([run.run_id for run in study.runs], "run", where)
    _refuse_duplicates(list(study.suite.set_names), "evaluation set", where)
    for run in study.runs:
        read_corpora = [name for name, _ in run.data.mixture] + [getattr(run.tokenizer, "corpus", corpora[0])]
        for name in read_corpora:
            _refuse_unknown(name, corpora, f"{where}: run {run.run_id}", "corpus")
        try:
            _check_run(run)
        except LosslineError as error:
            raise LosslineError(f"{where}: run {run.run_id}: {error}") from error
        _refuse_short_model(study, run, where)
    _refuse_hidden_differences(study, where)
    for item in (*study.suite.validation, *study.suite.cloze):
        _refuse_unknown(item.corpus, corpora, f"{where}: evaluation set {item.name}", "corpus")
    for axis in ("x", "y"):
        _refuse_unknown(getattr(study, axis), study.suite.set_names, f"{where}: {axis}", "evaluation set")
    if study.x == study.y:
        raise LosslineError(f"{where}: x and y are both {study.x!r}; a line needs two different losses")
    if study.suite.overlap >= study.suite.context_length:
        raise LosslineError(f"{where}: suite.overlap must be less than suite.context_length")
    return study


def _check_run(run: RunConfig) -> None:
    check_config(run.model)
    if isinstance(run.optim, OptimConfig):
        check_optimiser(run.optim)
        if run.optim.mup_base_width is not None:
            check_width_rates(run.model)


def _read_back(study: StudyConfig, where: str) -> StudyConfig:
    """Return the study as it would be read from study.json. Refuse classes of its own for which that is impossible."""
    has_code = all(value.has_code for value in custom_values(study))
    try:
        if has_code:
            check_custom_classes(study, BUILT_IN)
        read = from_json(StudyConfig, to_json(study), "", custom_classes(study))
        if has_code:
            check_read_back(study, read)
    except LosslineError as error:
        raise LosslineError(f"{where}: {str(error).removeprefix('.')}") from error
    return read


def _with_code(study: StudyConfig, where: str) -> StudyConfig:
    """Return the study with the source files of its own classes. Refuse other sources than it was begun with."""
    if not all(value.has_code for value in custom_values(study)):  # it is read without its classes
        return study
    code = source_files(study)
    for old in study.code:
        new = next((source for source in code if source.class_name == old.class_name), None)
        if new is not None and new.sha256 != old.sha256:
            raise LosslineError(
                f"{where}: {old.class_name} of {new.file} has changed since the study was begun (SHA-256 "
                f"{old.sha256[:10]}, now {new.sha256[:10]}); restore the file, or give the study another name"
            )
    return dataclasses.replace(study, code=code)


def _check_folder_name(name: str, where: str) -> None:
    if len(name) > LONGEST_NAME:
        raise LosslineError(
            f"{where} {name[:20]!r}... has {len(name)} characters; {LONGEST_NAME} are the most for a folder"
        )
    if not re.fullmatch(FOLDER_NAME, name):
        raise LosslineError(f"{where} {name!r} cannot be a folder; use letters, digits and . _ -")


def _refuse_short_model(study: StudyConfig, run: RunConfig, where: str) -> None:
    longest = max_context_length(run.model)
    windows = study.suite.for_context(run.context_length).context_length
    for field, length in (("context_length", run.context_length), ("suite.context_length", windows)):
        if longest is not None and length > longest:
            raise LosslineError(
                f"{where}: run {run.run_id}: {field} {length} is more than model.max_positions {longest}"
            )


def _refuse_duplicates(names: list[str], kind: str, where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise LosslineError(f"{where}: {kind} {name!r} is given {names.count(name)} times")


def _refuse_hidden_differences(study: StudyConfig, where: str) -> None:
    """Refuse runs with equal factors that differ in more than seed and length.

    Runs with equal factors count as repetitions of one another.
    """
    first_of: dict[str, RunConfig] = {}
    for run in study.runs:
        plain = dataclasses.replace(run, seed=0, tokens=1, num_checkpoints=1, checkpoint_spacing="linear")
        other = first_of.setdefault(json.dumps({**run.factors, "seed": 0}), plain)
        for field in dataclasses.fields(RunConfig):
            value, other_value = getattr(plain, field.name), getattr(other, field.name)
            if value != other_value:
                raise LosslineError(
                    f"{where}: run {run.run_id} has the same factors as another run but a different {field.name} "
                    f"({value} against {other_value}), which no factor shows; put the two runs into separate studies"
                )


def _refuse_unknown(name: str, known: Collection[str], where: str, kind: str) -> None:
    if name not in known:
        raise LosslineError(
            f"{where}: unknown {kind} {name!r}{suggestion(name, known)}; the study defines {sorted(known)}"
        )
