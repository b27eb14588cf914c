"""Add models that were trained elsewhere to a study, and score them on the study's evaluation sets."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from lossline_jax import logs
from lossline_jax.config.labels import tokenizer_label
from lossline_jax.config.model import max_context_length
from lossline_jax.config.serialise import fingerprint
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.distributed.processes import from_main_process
from lossline_jax.errors import LosslineError, Restart, RunFailed
from lossline_jax.evaluate.suite import PreparedSuite, is_current, load_suite, prepare_suite
from lossline_jax.models.model import Model
from lossline_jax.pipeline.prepare import open_corpora
from lossline_jax.pipeline.run_context import OpenedStudy, build_model_for
from lossline_jax.pipeline.scorer import Scorers
from lossline_jax.storage.files import path_inside, read_json, write_json
from lossline_jax.storage.paths import ModelDir
from lossline_jax.storage.run_records import checkpoint_steps
from lossline_jax.weights import exchange
from lossline_jax.weights.imported_model import ImportedModel, check_tokenizer, imported_tokenizer
from lossline_jax.weights.registry import ScoredModel, add_scored_model


@dataclass(frozen=True)
class ImportedContext:
    """A model from elsewhere with everything that scoring needs; see `scorer.ScoringTarget`."""

    run: ImportedModel
    model: Model
    suite: PreparedSuite

    def unique_tokens_at(self, step: int) -> None:
        """Return None: the order in which another program read its text is not known."""


class ImportedModels:
    """The models from elsewhere that a study scores. The suite of each model is opened once."""

    def __init__(self, opened: OpenedStudy, scorers: Scorers) -> None:
        self._opened, self._scorers = opened, scorers
        self._suites: dict[str, PreparedSuite] = {}  # by run id

    def add(self, source: str) -> ScoredModel:
        """Add a model to the study, after checking that the study can score it.

        Args:
            source: a folder that `import_model` wrote, or a folder of safetensors.

        Raises:
            LosslineError: the tokenizer is not the model's own, or the model has fewer positions than the suite needs.
        """
        study = self._opened.study
        imported, weights = exchange.resolve_model(self._opened.folder, source)
        trained_with, num_positions = imported.context_length, max_context_length(imported.model)
        scored_with = study.suite.for_context(trained_with).context_length
        if scored_with > trained_with:
            logs.info(
                f"note: {imported.name} was trained with {trained_with} tokens of context "
                f"and is scored with {scored_with}"
            )
        if num_positions is not None and scored_with > num_positions:
            raise LosslineError(
                f"{weights.root}: the model has {num_positions} positions, and suite.context_length is {scored_with}"
            )
        self.suite(imported, weights)
        return add_scored_model(self._opened.folder, imported, weights)

    def evaluate_each(self, entries: Sequence[ScoredModel]) -> dict[str, LosslineError]:
        """Score the checkpoints that have no row yet, model by model.

        Returns:
            The errors, by run id. An error of one model does not stop the scoring of the next model.
        """
        failures: dict[str, LosslineError] = {}
        for entry in entries:
            logs.info(f"imported {entry.model.run_id}")
            try:
                self.evaluate(entry)
            except Restart:
                raise
            except LosslineError as failure:
                failures[entry.model.run_id] = failure
                logs.info(f"left out: {failure}")
        return failures

    def evaluate(self, entry: ScoredModel) -> None:
        """Score the checkpoints of one model that have no row yet.

        Raises:
            RunFailed: such a checkpoint was deleted, is damaged, or has a loss that is not finite.
        """
        context = self._context(entry)
        with self._scorers.locked(context) as scorer:
            saved = from_main_process(lambda: checkpoint_steps(entry.weights))
            if deleted := scorer.missing(context.run.steps).keys() - set(saved):
                raise RunFailed(f"{entry.weights.root}: its checkpoints {sorted(deleted)} are gone; import them again")
            scorer.score_missing(entry.weights, context.run.steps, ended=True)

    def suite(self, imported: ImportedModel, directory: ModelDir) -> PreparedSuite:
        """Return the suite in the tokens of a model.

        Args:
            imported: the model.
            directory: the folder that has the model's tokenizer.json.
        """
        if imported.run_id not in self._suites:
            self._suites[imported.run_id] = self._find_suite(imported, directory)
        return self._suites[imported.run_id]

    @property
    def problems(self) -> dict[str, str]:
        """The reasons why sets cannot be scored with at least one model, by the name of the set."""
        return {name: reason for suite in self._suites.values() for name, reason in suite.problems.items()}

    def _context(self, entry: ScoredModel) -> ImportedContext:
        opened, model = self._opened, entry.model
        built = build_model_for(opened.mesh, model.model, model.vocab_size, opened.study.execution)
        tokenizer_configs = {tokenizer.fingerprint: config for config, tokenizer in opened.prepared.tokenizers.items()}
        if model.tokenizer_sha256 in tokenizer_configs:  # the study has this tokenizer: use its label in the rows
            model = dataclasses.replace(model, tokenizer=tokenizer_label(tokenizer_configs[model.tokenizer_sha256]))
        return ImportedContext(model, built, self.suite(entry.model, entry.home))

    def _find_suite(self, imported: ImportedModel, directory: ModelDir) -> PreparedSuite:
        """Open the suite that was made for the model after the study was last prepared, or make it now."""
        study, folder = self._opened.study, self._opened.folder
        home = folder.imported_model(imported.run_id)
        prepared = fingerprint(read_json(folder.prepared_file))
        corpora = open_corpora(study, folder)
        tokenizer = prepare_tokenizer(imported_tokenizer(imported, directory), corpora, folder.tokenizers)
        check_tokenizer(imported, directory, tokenizer.fingerprint)
        windows = study.suite.for_context(imported.context_length)
        stored = read_json(home.suite_file, {"suite": str}) if home.suite_file.exists() else {}
        if stored.get("prepared") == prepared:
            suite_folder = path_inside(folder.suites, stored["suite"], home.suite_file)
            if is_current(suite_folder, windows, tokenizer):
                return load_suite(suite_folder)
        suite = prepare_suite(windows, tokenizer, corpora, folder.suites)
        write_json(home.suite_file, {"suite": suite.fingerprint, "prepared": prepared})
        return suite
