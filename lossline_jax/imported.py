"""Models that were trained elsewhere: what their folder says of them, and which of them a study scores too."""

import re
from dataclasses import dataclass

from etils import epath

from lossline_jax.config import fingerprint, to_json
from lossline_jax.data.config import HuggingFaceTokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.models.config import Dtype, ModelConfig
from lossline_jax.rundir import ModelDir, StudyDir, absolute, read_json, read_record, write_atomic, write_json
from lossline_jax.storage import connect
from lossline_jax.study import size_label

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
        found = self.checkpoint(step)
        return None if found is None else found.tokens_seen

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


@dataclass(frozen=True)
class Registered:
    """A model that a study scores."""

    model: ImportedModel
    home: ModelDir  # in the study: model.json, tokenizer.json, the lock
    weights: ModelDir  # with the checkpoints: the same folder, or one elsewhere


def slug(name: str) -> str:
    """The name as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[:80].strip("_.") or "model"


def open_imported(folder: epath.PathLike) -> tuple[ImportedModel, ModelDir]:
    """A model from the folder that `lossline import-weights` made.

    Raises:
        LosslineError: it is no such folder, or damaged.
    """
    directory = ModelDir(connect(folder))
    if not directory.model_file.exists():
        raise LosslineError(f"{folder}: no model.json there; make such a folder with `lossline import-weights`")
    imported = read_record(ImportedModel, directory.model_file, "restore it from a copy, or import the model again")
    if not directory.tokenizer_file.exists():
        raise LosslineError(f"{directory.tokenizer_file}: no such file; import the model again")
    return imported, directory


def tokenizer_config(imported: ImportedModel, directory: ModelDir) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(str(directory.tokenizer_file), imported.bos_id, imported.eos_id)


def check_tokenizer(imported: ImportedModel, directory: ModelDir, fingerprint: str) -> None:
    """Raise LosslineError if the tokenizer that was read in `directory` is not that of the model."""
    if fingerprint != imported.tokenizer_sha256:
        raise LosslineError(f"{directory.tokenizer_file}: damaged (wrong SHA-256); import the model again")


def register(study: StudyDir, imported: ImportedModel, weights: ModelDir) -> Registered:
    """Make a model one of those that the study scores, or renew what the study knows of it.

    The same weights under other facts are forgotten, with their rows: the facts were mended.
    """
    for entry in registered(study):
        if entry.model.run_id != imported.run_id and entry.model.shares_weights(imported):
            entry.home.root.rmtree()
            study.loss_rows(entry.model.run_id).unlink(missing_ok=True)
    home = study.imported_model(imported.run_id)
    if absolute(home.root) != absolute(weights.root):
        write_atomic(home.tokenizer_file, weights.tokenizer_file.read_bytes())
        write_json(home.elsewhere_file, {"folder": str(absolute(weights.root))})
        write_json(home.model_file, to_json(imported))
    return Registered(imported, home, weights)


def registered(study: StudyDir) -> list[Registered]:
    """The models that the study scores beside its runs. Folders elsewhere may be gone.

    Raises:
        LosslineError: a damaged entry.
    """
    if not study.imported.exists():
        return []
    homes = [ModelDir(path) for path in sorted(study.imported.iterdir())]
    found = []
    for home in homes:
        if home.model_file.exists():  # else what a killed import left
            model, _ = open_imported(home.root)
            weights = home
            if home.elsewhere_file.exists():
                weights = ModelDir(epath.Path(read_json(home.elsewhere_file, {"folder": str})["folder"]))
            found.append(Registered(model, home, weights))
    return found
