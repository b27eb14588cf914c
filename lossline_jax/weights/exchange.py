"""Weights in and out: folders of Hugging Face safetensors to lossline's checkpoints and back.

Conversion happens on one CPU device, whatever the machine has: nothing is computed.
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
    """A folder of safetensors and what is known of it, before any weight is read."""

    folder: Path
    model: ImportedModel  # without checkpoints
    checkpoint: ImportedCheckpoint
    tokenizer_json: bytes


def read_public_model(source: epath.PathLike, facts: ModelFacts) -> PublicModel:
    """What a folder and `facts` say together.

    Args:
        source: config.json, tokenizer.json, model.safetensors or shards and their index, on a local disk.
        facts: about the training.

    Raises:
        LosslineError: what is read is incomplete, damaged or not supported, or a fact is missing or impossible.
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
    for flag, value in (("context-length", context_length), ("tokens-seen", facts.tokens_seen)):
        if value is not None and value <= 0:
            raise LosslineError(f"--{flag}: {value} must be positive")
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
    )
    return PublicModel(folder, model, weights, tokenizer.content)


def import_weights(public: PublicModel, out: epath.PathLike) -> tuple[ImportedModel, ModelDir]:
    """Make a folder that `lossline-jax evaluate --checkpoint` takes, or add a step to one.

    Args:
        public: of `read_public_model`.
        out: made if it is not there.

    Raises:
        LosslineError: the weights are incomplete or damaged, or `out` holds something else, another model, or
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
        steps = tuple(sorted({*described.checkpoints, weights}, key=lambda each: each.step))
        imported = dataclasses.replace(described, checkpoints=steps)
        write_json(directory.model_file, to_json(imported))
    return imported, directory


def resolve_model(study: StudyDir, source: str) -> tuple[ImportedModel, ModelDir]:
    """A model for a study, from the folder of `import_weights`, or straight from one of safetensors.

    The latter is imported into the study, unless the study has those weights already, perhaps with facts that
    the folder does not tell.

    Raises:
        LosslineError: it is neither, or as `read_public_model` and `import_weights` raise.
    """
    source = expanded(source)
    if ModelDir(epath.Path(source)).model_file.exists():
        return open_imported(source)
    if not (Path(source) / "config.json").exists():
        raise LosslineError(f"{source}: neither config.json nor model.json there; give the folder of a model")
    public = read_public_model(source, ModelFacts())
    asked = dataclasses.replace(public.model, checkpoints=(public.checkpoint,))
    for entry in scored_models(study):
        if entry.model.shares_weights(asked):
            return entry.model, entry.weights
    return import_weights(public, study.imported_model(public.model.run_id).root)


def export_imported(
    source: epath.PathLike, step: int | None, out: epath.PathLike, dtype: WeightDtype, tokenizer: bool
) -> int:
    """`export_weights` for a folder of `import_weights`."""
    imported, directory = open_imported(source)
    tokenizer_file = HuggingFaceTokenizerFile(directory.tokenizer_file, imported.bos_id, imported.eos_id)
    check_tokenizer(imported, directory, tokenizer_file.fingerprint)
    model = build_model(imported.model, imported.vocab_size)
    return export_weights(directory, step, out, model, imported.context_length, tokenizer_file, dtype, tokenizer)


def export_weights(
    directory: RunDir,
    step: int | None,
    out: epath.PathLike,
    model: Model,
    context_length: int,
    tokenizer: Tokenizer,
    dtype: WeightDtype = "float32",
    with_tokenizer: bool = True,
) -> int:
    """Write a checkpoint as a folder that transformers loads; returns its step.

    Args:
        directory: of the run or imported model.
        step: None: the newest.
        out: must not be there yet, or be empty.
        model: whose parameters the checkpoint holds.
        context_length: of the training.
        tokenizer: of the model.
        dtype: of the weights in the file.
        with_tokenizer: write tokenizer.json too.

    Raises:
        LosslineError: no such step, or a model or tokenizer that transformers cannot express.
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
    """What the folder holds already, if it is of the same model and not of other weights of this step."""
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


def _cpu() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]
