"""Keep the list of imported models that a study scores in addition to its runs."""

from dataclasses import dataclass

from etils import epath

from lossline_jax.config.serialise import to_json
from lossline_jax.storage.files import absolute, read_json, write_atomic, write_json
from lossline_jax.storage.paths import ModelDir, StudyDir
from lossline_jax.weights.imported_model import ImportedModel, open_imported


@dataclass(frozen=True)
class ScoredModel:
    """An imported model that a study scores."""

    model: ImportedModel
    home: ModelDir  # the folder in the study with model.json, tokenizer.json and the lock
    weights: ModelDir  # the folder with the checkpoints: `home`, or a folder outside the study


def add_scored_model(study: StudyDir, imported: ImportedModel, weights: ModelDir) -> ScoredModel:
    """Add a model to the models that the study scores, or update its entry.

    An entry with the same weights and other facts is deleted with its loss rows, because the facts were corrected.

    Args:
        study: the folder of the study.
        imported: the model.
        weights: the folder with the checkpoints of the model.
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
    """Return the models that the study scores in addition to its runs. A folder outside the study may be missing.

    Args:
        study: the folder of the study.

    Raises:
        LosslineError: an entry is damaged.
    """
    if not study.imported.exists():
        return []
    homes = [ModelDir(path) for path in sorted(study.imported.iterdir())]
    models = []
    for home in homes:
        if home.model_file.exists():  # an import that was killed leaves a folder without it
            model, _ = open_imported(home.root)
            weights = home
            if home.elsewhere_file.exists():
                weights = ModelDir(epath.Path(read_json(home.elsewhere_file, {"folder": str})["folder"]))
            models.append(ScoredModel(model, home, weights))
    return models
