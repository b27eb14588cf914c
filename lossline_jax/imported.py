"""Models that were trained elsewhere: what their folder says of them, and which of them a study scores too."""

import re
from dataclasses import dataclass

from etils import epath

from lossline_jax.config import fingerprint, from_json, to_json
from lossline_jax.data.config import HuggingFaceTokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.models.config import Dtype, ModelConfig
from lossline_jax.rundir import ModelDir, StudyDir, absolute, read_json, write_json
from lossline_jax.study import size_label

UNKNOWN = "unknown"


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
    data: str = UNKNOWN
    optimiser: str = UNKNOWN
    seed: int = 0
    checkpoints: tuple[ImportedCheckpoint, ...] = ()

    @property
    def run_id(self) -> str:
        """The name and a hash of all but the checkpoints and the label of the tokenizer, which is a study's."""
        identity = {name: value for name, value in to_json(self).items() if name not in ("checkpoints", "tokenizer")}
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


@dataclass(frozen=True)
class ModelFacts:
    """What a folder of weights does not say of itself: columns of its rows in a losses table."""

    name: str | None = None
    """What to call the model. Default: the folder's name."""
    data: str = UNKNOWN
    """The pretraining data, named as in your study if it is the same."""
    tokenizer: str | None = None
    """Default: the model's name, or the study's own label where the study has this very tokenizer."""
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
    """A model from the folder that `lossline import-weights` made.

    Raises:
        LosslineError: it is no such folder, or damaged.
    """
    directory = ModelDir(epath.Path(folder))
    if not directory.model_file.exists():
        raise LosslineError(f"{folder}: no model.json there; make such a folder with `lossline import-weights`")
    content = read_json(directory.model_file)
    imported = from_json(ImportedModel, content, str(directory.model_file))
    if not directory.tokenizer_file.exists():
        raise LosslineError(f"{directory.tokenizer_file}: no such file; import the model again")
    return imported, directory


def tokenizer_config(directory: ModelDir) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(str(directory.tokenizer_file))


def register(study: StudyDir, imported: ImportedModel, directory: ModelDir) -> None:
    """Make a model one of those that the study scores, or renew what the study knows of it."""
    entry = {"folder": str(absolute(directory.root)), "model": to_json(imported)}
    write_json(_entry_file(study, imported.run_id), entry)


def registered(study: StudyDir) -> list[tuple[ImportedModel, ModelDir]]:
    """The models that the study scores beside its runs, as they were registered; their folders may be gone.

    Raises:
        LosslineError: a damaged entry.
    """
    if not study.imported.exists():
        return []
    found = []
    for path in sorted(path for path in study.imported.iterdir() if path.suffix == ".json"):
        entry = read_json(path)
        if not isinstance(entry, dict) or set(entry) != {"folder", "model"}:
            raise LosslineError(f"{path}: not an imported model; delete it and evaluate --checkpoint again")
        imported = from_json(ImportedModel, entry["model"], str(path))
        found.append((imported, ModelDir(epath.Path(entry["folder"]))))
    return found


def _entry_file(study: StudyDir, run_id: str) -> epath.Path:
    return study.imported / f"{run_id}.json"
