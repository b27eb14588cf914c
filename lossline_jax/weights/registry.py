"""The models trained elsewhere that a study scores too."""

from dataclasses import dataclass

from etils import epath

from lossline_jax.config.serialise import to_json
from lossline_jax.storage.files import absolute, read_json, write_atomic, write_json
from lossline_jax.storage.paths import ModelDir, StudyDir
from lossline_jax.weights.imported_model import ImportedModel, open_imported


@dataclass(frozen=True)
class ScoredModel:
    """A model that a study scores."""

    model: ImportedModel
    home: ModelDir  # in the study: model.json, tokenizer.json, the lock
    weights: ModelDir  # with the checkpoints: the same folder, or one elsewhere


def add_scored_model(study: StudyDir, imported: ImportedModel, weights: ModelDir) -> ScoredModel:
    """Make a model one of those that the study scores, or renew what the study knows of it.

    The same weights under other facts are forgotten, with their rows: the facts were mended.
    """
    for entry in scored_models(study):
        if entry.model.run_id != imported.run_id and entry.model.shares_weights(imported):
            entry.home.root.rmtree()
            study.loss_rows(entry.model.run_id).unlink(missing_ok=True)
    home = study.imported_model(imported.run_id)
    if absolute(home.root) != absolute(weights.root):
        write_atomic(home.tokenizer_file, weights.tokenizer_file.read_bytes())
        write_json(home.elsewhere_file, {"folder": str(absolute(weights.root))})
        write_json(home.model_file, to_json(imported))
    return ScoredModel(imported, home, weights)


def scored_models(study: StudyDir) -> list[ScoredModel]:
    """The models that the study scores beside its runs. Folders elsewhere may be gone.

    Raises:
        LosslineError: a damaged entry.
    """
    if not study.imported.exists():
        return []
    homes = [ModelDir(path) for path in sorted(study.imported.iterdir())]
    models = []
    for home in homes:
        if home.model_file.exists():  # else what a killed import left
            model, _ = open_imported(home.root)
            weights = home
            if home.elsewhere_file.exists():
                weights = ModelDir(epath.Path(read_json(home.elsewhere_file, {"folder": str})["folder"]))
            models.append(ScoredModel(model, home, weights))
    return models
