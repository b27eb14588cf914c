"""Models that were trained elsewhere: what their folder says of them, and which of them a study scores too."""

import re
from dataclasses import dataclass

from etils import epath

from lossline_jax.config.data import HuggingFaceTokenizer
from lossline_jax.config.model import Dtype, ModelConfig
from lossline_jax.config.serialise import fingerprint, to_json
from lossline_jax.config.study import size_label
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_record
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import ModelDir

UNKNOWN = "unknown"
_NO_IDENTITY = ("checkpoints", "tokenizer")  # more of them may come; a label, which a study may have its own for


@dataclass(frozen=True)
class ImportedCheckpoint:
    """The weights of one step."""

    step: int
    tokens_seen: int | None  # None: not known
    weights_sha256: str  # of the files that they were read from


@dataclass(frozen=True)
class ImportedModel:
    """What model.json says. The factors are the columns of its rows in a losses table."""

    name: str
    model: ModelConfig
    vocab_size: int  # rows of the embedding: at least the tokens of the tokenizer
    context_length: int  # that it was trained with
    tokenizer_sha256: str
    tokenizer: str
    origin_sha256: str  # of the weights that were imported first: tells models of one name and shape apart
    bos_id: int | None = None  # None: by its name in tokenizer.json
    eos_id: int | None = None
    data: str = UNKNOWN
    optimiser: str = UNKNOWN
    seed: int = 0
    checkpoints: tuple[ImportedCheckpoint, ...] = ()

    @property
    def run_id(self) -> str:
        """The name and a hash of what the model is; further checkpoints do not change it."""
        identity = {name: value for name, value in to_json(self).items() if name not in _NO_IDENTITY}
        return f"{slug(self.name)}-{fingerprint(identity)}"

    @property
    def factors(self) -> dict[str, str | int]:
        """The factor columns of its rows."""
        return {
            "data": self.data,
            "tokenizer": self.tokenizer,
            "architecture": self.model.architecture,
            "size": size_label(self.model),
            "context_length": self.context_length,
            "optimiser": self.optimiser,
            "seed": self.seed,
        }

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(checkpoint.step for checkpoint in self.checkpoints)

    def checkpoint(self, step: int) -> ImportedCheckpoint | None:
        return next((each for each in self.checkpoints if each.step == step), None)

    def tokens_at(self, step: int) -> int | None:
        """Tokens trained on after `step` steps; None: not known."""
        checkpoint = self.checkpoint(step)
        return None if checkpoint is None else checkpoint.tokens_seen

    def shares_weights(self, other: "ImportedModel") -> bool:
        hashes = {checkpoint.weights_sha256 for checkpoint in other.checkpoints}
        return any(checkpoint.weights_sha256 in hashes for checkpoint in self.checkpoints)


@dataclass(frozen=True)
class ModelFacts:
    """What a folder of weights does not say of itself: columns of its rows in a losses table."""

    name: str | None = None
    """What to call the model. Default: the folder's name."""
    data: str = UNKNOWN
    """The pretraining data, named as in your study if it is the same."""
    tokenizer: str | None = None
    """Default: the study's own label where the study has this very tokenizer, else a hash of tokenizer.json."""
    optimiser: str = UNKNOWN
    """How it was optimised."""
    seed: int = 0
    """Of the training run."""
    context_length: int | None = None
    """Training context in tokens. Default: what config.json says."""
    step: int = 0
    """Training step of these weights; import each step of a model into the same folder for a line of points."""
    tokens_seen: int | None = None
    """Training tokens up to this step."""
    compute_dtype: Dtype = "float32"
    """What the model computes in."""


def slug(name: str) -> str:
    """The name as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[:80].strip("_.") or "model"


def open_imported(folder: epath.PathLike) -> tuple[ImportedModel, ModelDir]:
    """A model from the folder that `lossline-jax import-weights` made.

    Raises:
        LosslineError: it is no such folder, or damaged.
    """
    directory = ModelDir(reachable_path(folder))
    if not directory.model_file.exists():
        raise LosslineError(f"{folder}: no model.json there; make such a folder with `lossline-jax import-weights`")
    imported = read_record(ImportedModel, directory.model_file, "restore it from a copy, or import the model again")
    if not directory.tokenizer_file.exists():
        raise LosslineError(f"{directory.tokenizer_file}: no such file; import the model again")
    return imported, directory


def imported_tokenizer(imported: ImportedModel, directory: ModelDir) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(str(directory.tokenizer_file), imported.bos_id, imported.eos_id)


def check_tokenizer(imported: ImportedModel, directory: ModelDir, fingerprint: str) -> None:
    """Raise LosslineError if the tokenizer that was read in `directory` is not that of the model."""
    if fingerprint != imported.tokenizer_sha256:
        raise LosslineError(f"{directory.tokenizer_file}: damaged (wrong SHA-256); import the model again")
