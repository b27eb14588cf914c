"""Import folders of Hugging Face safetensors as lossline checkpoints, and export checkpoints as such folders.

Weights are converted on one CPU device even on a machine with accelerators, because nothing is computed.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
from etils import epath

from lossline_jax.config.serialise import fingerprint, to_json
from lossline_jax.data.tokenizers.build import Tokenizer
from lossline_jax.data.tokenizers.export import tokenizer_json
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.distributed.mesh import build_mesh
from lossline_jax.errors import LosslineError
from lossline_jax.losses.loss_row import LATER_FACTORS, ORDINARY_LEVELS
from lossline_jax.models.model import Model, build_model
from lossline_jax.storage import run_records
from lossline_jax.storage.files import write_atomic, write_json
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.paths import ModelDir, RunDir, StudyDir
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.train import checkpoint
from lossline_jax.weights.huggingface.configs import check_vocabulary, read_config
from lossline_jax.weights.huggingface.files import local_folder
from lossline_jax.weights.huggingface.load import load_pretrained_params
from lossline_jax.weights.huggingface.save import save_pretrained
from lossline_jax.weights.imported_model import (
    ImportedCheckpoint,
    ImportedModel,
    ModelFacts,
    check_tokenizer,
    open_imported,
)
from lossline_jax.weights.registry import scored_models

WeightDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class PublicModel:
    """A folder of safetensors with the facts about its model, before its weights are read."""

    folder: Path
    model: ImportedModel  # without checkpoints
    checkpoint: ImportedCheckpoint
    tokenizer_json: bytes


def read_public_model(source: epath.PathLike, facts: ModelFacts) -> PublicModel:
    """Read the description of a model from a folder, and combine it with the given facts.

    Args:
        source: a folder on a local disk with config.json, tokenizer.json, and model.safetensors or shards and an index.
        facts: facts about the training that the folder does not have.

    Raises:
        LosslineError: the folder is incomplete, damaged or not supported, or a fact is missing or impossible.
    """
    folder = local_folder(source)
    hf = read_config(folder)
    path = folder / "tokenizer.json"
    if not path.exists():
        raise LosslineError(f"{path}: no such file; put the model's tokenizer.json beside its weights")
    tokenizer = HuggingFaceTokenizerFile(epath.Path(path), hf.bos_id, hf.eos_id)
    check_vocabulary(hf, tokenizer.vocab_size, str(path))
    context_length = hf.context_length if facts.context_length is None else facts.context_length
    if context_length is None:
        raise LosslineError(
            f"{folder}/config.json: says no training context; import it with "
            f"`lossline-jax import-weights {folder} --out FOLDER --context-length TOKENS`"
        )
    positive = {"context-length": context_length, "tokens-seen": facts.tokens_seen, "batch": facts.batch}
    for flag, value in positive.items():
        if value is not None and value <= 0:
            raise LosslineError(f"--{flag}: {value} must be positive")
    for flag in ("data", "optimiser", *ORDINARY_LEVELS):
        if not (label := getattr(facts, flag)).strip() or not label.isprintable():
            raise LosslineError(f"--{flag}: {label!r} is no name of a level; leave the flag out, or name the level")
    if facts.step < 0:
        raise LosslineError(f"--step: {facts.step} must not be negative")
    weights = ImportedCheckpoint(facts.step, facts.tokens_seen, _weights_sha256(folder))
    model = ImportedModel(
        name=facts.name or folder.resolve().name,
        model=dataclasses.replace(hf.config, compute_dtype=facts.compute_dtype),
        vocab_size=hf.vocab_size,
        context_length=context_length,
        tokenizer_sha256=tokenizer.fingerprint,
        tokenizer=facts.tokenizer or f"hf-{tokenizer.fingerprint[:8]}",
        origin_sha256=weights.weights_sha256,
        bos_id=hf.bos_id,
        eos_id=hf.eos_id,
        data=facts.data,
        optimiser=facts.optimiser,
        seed=facts.seed,
        **{name: getattr(facts, name) for name in LATER_FACTORS},
    )
    return PublicModel(folder, model, weights, tokenizer.content)


def import_weights(public: PublicModel, out: epath.PathLike) -> tuple[ImportedModel, ModelDir]:
    """Write an imported model for `lossline-jax evaluate --checkpoint`, or add a step to an imported model.

    Args:
        public: the result of `read_public_model`.
        out: the folder of the imported model. A missing folder is made.

    Returns:
        The imported model with all its checkpoints, and its folder.

    Raises:
        LosslineError: the weights are incomplete or damaged, or `out` has a study, a run, another model, or
            other weights of this step.
    """
    directory, weights = ModelDir(epath.Path(out)), public.checkpoint
    if (directory.root / "study.json").exists() or directory.claim_file.exists():
        raise LosslineError(f"{directory.root}: is the folder of a study or a run; choose another --out")
    with hold_run_lock(directory.lock_file):
        present = _present(directory, public)
        described = public.model if present is None else present
        if weights in described.checkpoints and weights.step in run_records.checkpoint_steps(directory):
            return described, directory
        model = build_model(described.model, described.vocab_size)
        with jax.default_device(_cpu()):
            params = load_pretrained_params(public.folder, model)
        meta = run_records.CheckpointMeta(
            step=weights.step,
            next_global_example=0,
            data_fingerprint="",
            run_fingerprint=fingerprint(public.model),
        )
        write_atomic(directory.tokenizer_file, public.tokenizer_json)
        with checkpoint.Checkpointer(directory) as checkpointer:
            checkpointer.discard_incomplete()
            checkpointer.save_params(weights.step, params, meta)
        steps = tuple(sorted({*described.checkpoints, weights}, key=lambda checkpoint: checkpoint.step))
        imported = dataclasses.replace(described, checkpoints=steps)
        write_json(directory.model_file, to_json(imported))
    return imported, directory


def resolve_model(study: StudyDir, source: str) -> tuple[ImportedModel, ModelDir]:
    """Return a model that a study can score, from a folder of `import_weights` or a folder of safetensors.

    A folder of safetensors is imported into the study. If the study has these weights already, its own entry is
    returned, because that entry may have facts that the folder does not have.

    Args:
        study: the folder of the study.
        source: the folder of the model.

    Returns:
        The model, and the folder with its checkpoints.

    Raises:
        LosslineError: the folder is neither of the two, or `read_public_model` or `import_weights` fails.
    """
    source = expanded(source)
    if ModelDir(epath.Path(source)).model_file.exists():
        return open_imported(source)
    if not (Path(source) / "config.json").exists():
        raise LosslineError(f"{source}: neither config.json nor model.json there; give the folder of a model")
    public = read_public_model(source, ModelFacts())
    requested = dataclasses.replace(public.model, checkpoints=(public.checkpoint,))
    for entry in scored_models(study):
        if entry.model.shares_weights(requested):
            return entry.model, entry.weights
    return import_weights(public, study.imported_model(public.model.run_id).root)


def export_imported(
    source: epath.PathLike, step: int | None, out: epath.PathLike, *, dtype: WeightDtype, tokenizer: bool
) -> int:
    """Export a checkpoint of an imported model as a folder that transformers loads, and return its step.

    Args:
        source: the folder of `import_weights`.
        step: step of the checkpoint. None: the newest.
        out: the folder to write. It must be missing or empty.
        dtype: dtype of the weights in the file.
        tokenizer: write tokenizer.json too.

    Raises:
        LosslineError: the folder is damaged, or `export_weights` fails.
    """
    imported, directory = open_imported(source)
    tokenizer_file = HuggingFaceTokenizerFile(directory.tokenizer_file, imported.bos_id, imported.eos_id)
    check_tokenizer(imported, directory, tokenizer_file.fingerprint)
    model = build_model(imported.model, imported.vocab_size)
    return export_weights(
        directory,
        step,
        out,
        model,
        context_length=imported.context_length,
        tokenizer=tokenizer_file,
        dtype=dtype,
        with_tokenizer=tokenizer,
    )


def export_weights(
    directory: RunDir,
    step: int | None,
    out: epath.PathLike,
    model: Model,
    *,
    context_length: int,
    tokenizer: Tokenizer,
    dtype: WeightDtype = "float32",
    with_tokenizer: bool = True,
) -> int:
    """Export a checkpoint as a folder that transformers loads, and return its step.

    Args:
        directory: the folder of the run or of the imported model.
        step: step of the checkpoint. None: the newest.
        out: the folder to write. It must be missing or empty.
        model: the model of the checkpoint.
        context_length: training context in tokens.
        tokenizer: the tokenizer of the model.
        dtype: dtype of the weights in the file.
        with_tokenizer: write tokenizer.json too.

    Raises:
        LosslineError: there is no such step, or transformers cannot express the model or the tokenizer.
    """
    local_folder(out)
    steps = run_records.checkpoint_steps(directory)
    if not steps or (step is not None and step not in steps):
        what = f"--step {step} is not one of its checkpoints {steps}" if steps else "it has no checkpoint yet"
        raise LosslineError(f"{directory.root}: {what}")
    step = steps[-1] if step is None else step
    content = _tokenizer_json(tokenizer) if with_tokenizer else None
    mesh = build_mesh([_cpu()])
    save_pretrained(
        out,
        model,
        checkpoint.load_checkpoint_params(directory, step, model, mesh, fsdp=False),
        dtype=dtype,
        context_length=context_length,
        tokenizer_json=content,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
    )
    return step


def _tokenizer_json(tokenizer: Tokenizer) -> bytes:
    try:
        return tokenizer_json(tokenizer)
    except LosslineError as error:
        raise LosslineError(f"{error}; export the weights alone with --no-tokenizer") from error


def _present(directory: ModelDir, public: PublicModel) -> ImportedModel | None:
    """Return the model in the folder, or raise if it is another model or has other weights of this step.

    None: the folder has no model.
    """
    if not directory.model_file.exists():
        return None
    present, _ = open_imported(directory.root)
    for field in dataclasses.fields(ImportedModel):
        old, new = getattr(present, field.name), getattr(public.model, field.name)
        if field.name not in ("checkpoints", "origin_sha256") and old != new:
            raise LosslineError(
                f"{directory.model_file}: holds a model with {field.name}={old!r}, and this one has {new!r}; "
                "import it into another folder"
            )
    held = present.checkpoint(public.checkpoint.step)
    if held is not None and held != public.checkpoint:
        raise LosslineError(
            f"{directory.model_file}: holds other weights or another --tokens-seen of step {held.step} already; "
            "say which --step these are, or import them into another folder"
        )
    return present


def _weights_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _cpu() -> jax.Device:  # pyright: ignore[reportInvalidTypeForm]  # jax makes the name when it is imported
    return jax.local_devices(backend="cpu")[0]
