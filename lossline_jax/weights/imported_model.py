"""Describe models that were trained by other programs: their model.json, their facts and their checkpoints.

The module `registry` has the list of imported models that a study scores.
"""

import re
from dataclasses import dataclass, field

from etils import epath

from lossline_jax.config.data import HuggingFaceTokenizer
from lossline_jax.config.labels import architecture_label, size_label
from lossline_jax.config.model import Dtype, ModelConfig
from lossline_jax.config.serialise import fingerprint, identity
from lossline_jax.errors import LosslineError
from lossline_jax.losses.loss_row import LATER_FACTORS, ORDINARY_LEVELS
from lossline_jax.storage.files import read_record
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import ModelDir

UNKNOWN = "unknown"
# Fields that are not part of the id: checkpoints may be added later, and a study may have its own tokenizer label.
_NO_IDENTITY = ("checkpoints", "tokenizer")


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A record of the weights of one step."""

    step: int
    tokens_seen: int | None  # None: not known
    weights_sha256: str  # hash of the safetensors files of the import


@dataclass(frozen=True)
class ImportedModel:
    """A model as its model.json describes it."""

    name: str
    model: ModelConfig
    vocab_size: int  # rows of the embedding: the number of tokens in the tokenizer, or more
    context_length: int  # training context in tokens
    tokenizer_sha256: str
    tokenizer: str  # label of the tokenizer in a losses table
    origin_sha256: str  # hash of the weights imported first; it separates models with the same name and shape
    bos_id: int | None = None  # None: found by its name in tokenizer.json
    eos_id: int | None = None  # None: found by its name in tokenizer.json
    data: str = UNKNOWN
    optimiser: str = UNKNOWN
    seed: int = 0
    checkpoints: tuple[ImportedCheckpoint, ...] = ()
    batch: int | None = field(default=None, metadata={"since": 2})  # training tokens per step. None: not known
    algorithm: str = field(default=ORDINARY_LEVELS["algorithm"], metadata={"since": 2})
    objective: str = field(default=ORDINARY_LEVELS["objective"], metadata={"since": 2})
    sparsity: str = field(default=ORDINARY_LEVELS["sparsity"], metadata={"since": 2})
    start: str = field(default=ORDINARY_LEVELS["start"], metadata={"since": 2})

    @property
    def gradients_per_step(self) -> int:
        """One: what other programs computed besides is not known."""
        return 1

    @property
    def run_id(self) -> str:
        """The name and a hash of the model's description. More checkpoints do not change it."""
        description = {name: value for name, value in identity(self).items() if name not in _NO_IDENTITY}
        return f"{slug(self.name)}-{fingerprint(description)}"

    @property
    def factors(self) -> dict[str, str | int | None]:
        """The factor columns of the model's rows in a losses table."""
        return {
            "data": self.data,
            "tokenizer": self.tokenizer,
            "architecture": architecture_label(self.model),
            "size": size_label(self.model),
            "context_length": self.context_length,
            "optimiser": self.optimiser,
            "seed": self.seed,
            **{name: getattr(self, name) for name in LATER_FACTORS},
        }

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of all checkpoints."""
        return tuple(checkpoint.step for checkpoint in self.checkpoints)

    def checkpoint(self, step: int) -> ImportedCheckpoint | None:
        """Return the checkpoint of a step. None: there is no checkpoint of this step."""
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.step == step), None)

    def tokens_at(self, step: int) -> int | None:
        """Return the number of training tokens up to a step. None: not known."""
        checkpoint = self.checkpoint(step)
        return None if checkpoint is None else checkpoint.tokens_seen

    def shares_weights(self, other: "ImportedModel") -> bool:
        """Return whether the two models have a checkpoint with the same weights."""
        hashes = {checkpoint.weights_sha256 for checkpoint in other.checkpoints}
        return any(checkpoint.weights_sha256 in hashes for checkpoint in self.checkpoints)


@dataclass(frozen=True)
class ModelFacts:
    """A set of facts that a folder of weights does not have. They are columns of its rows in a losses table."""

    name: str | None = None
    """The model's name in tables and figures. Default: the folder's name."""
    data: str = UNKNOWN
    """The pretraining data, named as in your study if it is the same."""
    tokenizer: str | None = None
    """Default: the study's own label where the study has this very tokenizer, else a hash of tokenizer.json."""
    optimiser: str = UNKNOWN
    """The optimiser of the training run."""
    batch: int | None = None
    """Training tokens per optimiser step, above 0."""
    algorithm: str = ORDINARY_LEVELS["algorithm"]
    """The training algorithm, such as diloco-M2."""
    objective: str = ORDINARY_LEVELS["objective"]
    """The loss that training lowered, such as distil-7B."""
    sparsity: str = ORDINARY_LEVELS["sparsity"]
    """The rule that holds weights at zero, such as 2:4."""
    start: str = ORDINARY_LEVELS["start"]
    """The model that training began from: scratch is random parameters, and prune@7B a pruned model of 7B."""
    seed: int = 0
    """The seed of the training run."""
    context_length: int | None = None
    """Training context in tokens. Default: what config.json says."""
    step: int = 0
    """Training step of these weights; import each step of a model into the same folder for a line of points."""
    tokens_seen: int | None = None
    """Training tokens up to this step."""
    compute_dtype: Dtype = "float32"
    """The number format of the computation."""


def slug(name: str) -> str:
    """Return the name with only those characters that are safe in a file name.

    Args:
        name: the name of a model.
    """
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[:80].strip("_.") or "model"


def open_imported(folder: epath.PathLike) -> tuple[ImportedModel, ModelDir]:
    """Open a folder of `lossline-jax import-weights`.

    Args:
        folder: the folder.

    Returns:
        The model, and the paths of the folder.

    Raises:
        LosslineError: the folder is not of an imported model, or it is damaged.
    """
    directory = ModelDir(reachable_path(folder))
    if not directory.model_file.exists():
        raise LosslineError(f"{folder}: no model.json there; make such a folder with `lossline-jax import-weights`")
    imported = read_record(ImportedModel, directory.model_file, "restore it from a copy, or import the model again")
    if not directory.tokenizer_file.exists():
        raise LosslineError(f"{directory.tokenizer_file}: no such file; import the model again")
    return imported, directory


def imported_tokenizer(imported: ImportedModel, directory: ModelDir) -> HuggingFaceTokenizer:
    """Return the tokenizer config of an imported model.

    Args:
        imported: the model.
        directory: the folder with its tokenizer.json.
    """
    return HuggingFaceTokenizer(str(directory.tokenizer_file), imported.bos_id, imported.eos_id)


def check_tokenizer(imported: ImportedModel, directory: ModelDir, fingerprint: str) -> None:
    """Raise LosslineError if the tokenizer in a folder is not the tokenizer of the model.

    Args:
        imported: the model.
        directory: the folder with the tokenizer.json.
        fingerprint: the SHA-256 of the tokenizer.json in the folder.
    """
    if fingerprint != imported.tokenizer_sha256:
        raise LosslineError(f"{directory.tokenizer_file}: damaged (wrong SHA-256); import the model again")
