"""Weights in and out: folders of Hugging Face safetensors to lossline's checkpoints and back."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

import jax
from etils import epath

from lossline_jax.config import fingerprint, to_json
from lossline_jax.data.huggingface_tokenizer import HuggingFaceTokenizerFile
from lossline_jax.data.tokenizer_json import tokenizer_json
from lossline_jax.data.tokenizers import Tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.imported import ImportedCheckpoint, ImportedModel, ModelFacts, open_imported
from lossline_jax.models.base import Model, build_model
from lossline_jax.models.huggingface.configs import check_vocabulary, read_config
from lossline_jax.models.huggingface.load import load_params
from lossline_jax.models.huggingface.save import save_pretrained
from lossline_jax.prepared import open_prepared
from lossline_jax.rundir import ModelDir, RunDir, StudyDir, sole_writer, write_atomic, write_json
from lossline_jax.sharding import configure_devices, make_mesh, shardings
from lossline_jax.study import StudyConfig
from lossline_jax.train import checkpoint
from lossline_jax.train.config import ExecutionConfig

WeightDtype = Literal["float32", "bfloat16"]


def import_weights(source: epath.PathLike, out: epath.PathLike, facts: ModelFacts) -> tuple[ImportedModel, ModelDir]:
    """Read a folder of safetensors into a folder that `lossline evaluate --checkpoint` takes.

    Args:
        source: config.json, tokenizer.json, model.safetensors or shards and their index.
        out: made if it is not there; a further step of the same model is added to what it has.
        facts: about the training.

    Raises:
        LosslineError: what is read is incomplete, damaged or not supported, or `out` holds another model or
            other weights of this step.
    """
    described, content, weights = _describe(Path(source), facts)
    directory = ModelDir(epath.Path(out))
    with sole_writer(directory):
        present = _present(directory, described, weights)
        if present is not None and present.checkpoint(weights.step) == weights:
            return present, directory
        mesh = _mesh()
        model = build_model(described.model, described.vocab_size)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        params = load_params(source, model, shardings(model.axes(), mesh, shapes))
        meta = checkpoint.CheckpointMeta(weights.step, 0, weights.weights_sha256, fingerprint(described))
        write_atomic(directory.tokenizer_file, content)
        with checkpoint.Checkpointer(directory) as checkpointer:
            checkpointer.discard_incomplete()
            checkpointer.save_params(weights.step, params, meta)
        earlier = present.checkpoints if present is not None else ()
        imported = dataclasses.replace(described, checkpoints=tuple(sorted((*earlier, weights), key=lambda c: c.step)))
        write_json(directory.model_file, to_json(imported))
    return imported, directory


def export_run(
    study: StudyConfig, folder: StudyDir, run_id: str, step: int | None, out: Path, dtype: WeightDtype, tokenizer: bool
) -> int:
    """Write a checkpoint of a run as a folder that transformers loads; returns its step.

    Args:
        step: None: the newest.
        out: must not be there yet, or be empty.
        tokenizer: write tokenizer.json too.

    Raises:
        LosslineError: no such run or step, a model or tokenizer that transformers cannot express.
    """
    run, directory = study.run_by_id(run_id), folder.run(run_id)
    own = open_prepared(study, folder).tokenizer(run)
    content = _tokenizer_json(own) if tokenizer else None
    model = build_model(run.model, own.vocab_size)
    return _export(directory, step, out, model, dtype, run.context_length, content, own)


def export_imported(source: epath.PathLike, step: int | None, out: Path, dtype: WeightDtype, tokenizer: bool) -> int:
    """The same for a folder of `import_weights`."""
    imported, directory = open_imported(source)
    own = HuggingFaceTokenizerFile(directory.tokenizer_file)
    content = directory.tokenizer_file.read_bytes() if tokenizer else None
    model = build_model(imported.model, imported.vocab_size)
    return _export(directory, step, out, model, dtype, imported.context_length, content, own)


def _export(
    directory: RunDir,
    step: int | None,
    out: Path,
    model: Model,
    dtype: WeightDtype,
    context_length: int,
    content: bytes | None,
    tokenizer: Any,
) -> int:
    steps = checkpoint.checkpoint_steps(directory)
    if not steps or (step is not None and step not in steps):
        what = f"--step {step} is not one of its checkpoints {steps}" if steps else "it has no checkpoint yet"
        raise LosslineError(f"{directory.root}: {what}")
    step = steps[-1] if step is None else step
    params = checkpoint.load_params(directory, step, model, _mesh())
    save_pretrained(
        out,
        model,
        params,
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


def _describe(source: Path, facts: ModelFacts) -> tuple[ImportedModel, bytes, ImportedCheckpoint]:
    """What `source` and `facts` say, before any weight is read; in the middle the content of its tokenizer.json."""
    hf = read_config(source)
    path = source / "tokenizer.json"
    if not path.exists():
        raise LosslineError(f"{path}: no such file; put the model's tokenizer.json beside its weights")
    tokenizer = HuggingFaceTokenizerFile(epath.Path(path))
    check_vocabulary(hf, tokenizer.vocab_size, str(path))
    for special, stated, found in (("bos", hf.bos_id, tokenizer.bos_id), ("eos", hf.eos_id, tokenizer.eos_id)):
        if stated is not None and stated != found:
            raise LosslineError(
                f"{source}/config.json: {special}_token_id is {stated}, but tokenizer.json's {special} token is "
                f"{found}; make the two agree"
            )
    context_length = facts.context_length or hf.context_length
    if context_length is None:
        raise LosslineError(
            f"{source}/config.json: says no training context; import it with "
            f"`lossline import-weights {source} --out FOLDER --context-length TOKENS`"
        )
    if facts.step < 0 or context_length <= 0 or (facts.tokens_seen or 0) < 0:
        raise LosslineError("--step, --context-length and --tokens-seen must not be negative")
    name = facts.name or source.resolve().name
    content = path.read_bytes()
    described = ImportedModel(
        name=name,
        model=dataclasses.replace(hf.config, compute_dtype=facts.compute_dtype),
        vocab_size=hf.vocab_size,
        context_length=context_length,
        tokenizer_sha256=tokenizer.fingerprint,
        tokenizer=facts.tokenizer or name,
        data=facts.data,
        optimiser=facts.optimiser,
        seed=facts.seed,
    )
    return described, content, ImportedCheckpoint(facts.step, facts.tokens_seen, _weights_sha256(source))


def _present(directory: ModelDir, described: ImportedModel, weights: ImportedCheckpoint) -> ImportedModel | None:
    """What the folder holds already, if it is of the same model and not of other weights of this step."""
    if not directory.model_file.exists():
        return None
    present, _ = open_imported(directory.root)
    for field in dataclasses.fields(ImportedModel):
        old, new = getattr(present, field.name), getattr(described, field.name)
        if field.name != "checkpoints" and old != new:
            raise LosslineError(
                f"{directory.model_file}: holds a model with {field.name}={old!r}, and this one has {new!r}; "
                "import it into another folder"
            )
    held = present.checkpoint(weights.step)
    if held is not None and held != weights:
        raise LosslineError(
            f"{directory.model_file}: holds other weights or another --tokens-seen of step {weights.step} already; "
            "say which --step these are, or import them into another folder"
        )
    return present


def _weights_sha256(source: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(source.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _mesh() -> jax.sharding.Mesh:
    execution = ExecutionConfig()
    configure_devices(execution)
    return make_mesh(execution)
