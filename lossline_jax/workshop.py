"""Where runs are trained and scored: a prepared study on the devices of this machine."""

from dataclasses import dataclass

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from lossline_jax.config import from_json, to_json
from lossline_jax.data.batches import BatchSource
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.evaluator import Evaluator
from lossline_jax.evaluate.harvest import NonFiniteLoss, current_rows, loss_rows, missing_checkpoints
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.models.base import Model, build_model
from lossline_jax.prepared import Prepared, open_prepared
from lossline_jax.rundir import RunDir, StudyDir, read_json, sole_writer, write_json
from lossline_jax.sharding import configure_devices, make_mesh
from lossline_jax.study import RunConfig, StudyConfig
from lossline_jax.table import append_rows, read_rows, write_table
from lossline_jax.train.checkpoint import checkpoint_steps, load_params
from lossline_jax.train.loop import train_run


@dataclass(frozen=True)
class Workshop:
    """A study, its folder, what was prepared for it, and the mesh to work on."""

    study: StudyConfig
    folder: StudyDir
    prepared: Prepared
    mesh: Mesh

    @classmethod
    def open(cls, study: StudyConfig, folder: StudyDir) -> "Workshop":
        """Opens the prepared data and starts the devices.

        Raises:
            LosslineError: nothing is prepared for this study, or the mesh does not fit the devices.
        """
        prepared = open_prepared(study, folder)
        configure_devices(study.execution)
        _keep_compiled_programs(folder)
        return cls(study, folder, prepared, make_mesh(study.execution))

    def train(self, run: RunConfig) -> None:
        """Train one run to its end."""
        with sole_writer(self._directory(run)):
            self._train(run, self._model(run), on_checkpoint=None)

    def evaluate(self, run: RunConfig) -> None:
        """Score the checkpoints of one run that lack a row."""
        with sole_writer(self._directory(run)):
            self._score_missing(run, self._model(run), None)

    def train_and_evaluate(self, run: RunConfig) -> None:
        """Train one run, scoring each checkpoint while its parameters are in memory."""
        with sole_writer(self._directory(run)):
            model = self._model(run)
            harvest = Harvest(self, run, model)
            self._train(run, model, on_checkpoint=harvest)
            self._score_missing(run, model, harvest)

    def write_losses(self) -> str:
        """The losses table from the rows of every run; returns what there is of it, in words."""
        rows = [row for run in self.study.runs for row in self._rows(run)]
        expected = sum(len(run.checkpoint_steps) for run in self.study.runs) * len(self.study.suite.set_names)
        if not rows:
            raise LosslineError(f"{self.folder.root}: no checkpoint has been scored; run `lossline train` first")
        write_table(rows, self.folder.losses_csv, self.folder.losses_parquet)
        return f"losses table: {len(rows)} of {expected} rows in {self.folder.losses_csv}"

    def _rows(self, run: RunConfig):
        return current_rows(read_rows(self.folder.loss_rows(run.run_id)), self.prepared.suite(run))

    def _directory(self, run: RunConfig) -> RunDir:
        return self.folder.run(run.run_id)

    def _model(self, run: RunConfig) -> Model:
        vocab_size = self.prepared.tokenizer(run).vocab_size
        return build_model(run.model, vocab_size, remat=self.study.execution.remat)

    def _train(self, run: RunConfig, model: Model, on_checkpoint) -> None:
        directory = self._directory(run)
        _claim_folder(directory, run)
        source = BatchSource(
            self.prepared.run_stores(run),
            self.prepared.tokenizer(run).token_bytes_V,
            run.data,
            run.context_length,
            run.batch_size,
            run.seed,
        )
        train_run(
            run,
            model=model,
            source=source,
            run_dir=directory,
            execution=self.study.execution,
            mesh=self.mesh,
            on_checkpoint=on_checkpoint,
        )

    def _score_missing(self, run: RunConfig, model: Model, harvest: "Harvest | None") -> None:
        directory = self._directory(run)
        saved = [step for step in checkpoint_steps(directory) if step in run.checkpoint_steps]
        missing = missing_checkpoints(self._rows(run), run.run_id, saved, self.prepared.suite(run))
        if missing:
            harvest = harvest or Harvest(self, run, model)
        for step in tqdm(missing, desc=f"score {run.run_id}", unit="checkpoint", disable=None):
            harvest(step, load_params(directory, step, model, self.mesh))


class Harvest:
    """Scores checkpoints of one run and adds the rows that it lacks."""

    def __init__(self, workshop: Workshop, run: RunConfig, model: Model):
        self._workshop, self._run = workshop, run
        self._suite = workshop.prepared.suite(run)
        self._evaluator = Evaluator(model, workshop.mesh, self._suite)
        self._counts = count_parameters(run.model, model.vocab_size)
        self._flops = train_flops_per_token(run.model, model.vocab_size, run.context_length)
        self._vocab_size = model.vocab_size

    def __call__(self, step: int, params) -> None:
        """Score the parameters after `step` updates on every set that has no row yet.

        Raises:
            NonFiniteLoss: after the rows of the finite sets have been written.
        """
        path = self._workshop.folder.loss_rows(self._run.run_id)
        missing = missing_checkpoints(read_rows(path), self._run.run_id, [step], self._suite).get(step, ())
        if not missing:
            return
        scores = self._evaluator.score(params)
        lacking = {name: score for name, score in scores.items() if name in missing}
        try:
            rows = loss_rows(
                self._workshop.study.name,
                self._run,
                self._counts,
                self._flops,
                self._vocab_size,
                step,
                self._suite,
                lacking,
            )
        except NonFiniteLoss as failure:
            append_rows(path, failure.rows)
            raise
        append_rows(path, rows)


def _claim_folder(directory: RunDir, run: RunConfig) -> None:
    """Write the run's configuration, or refuse a folder that holds another one.

    Raises:
        LosslineError: the folder's config.json is not this run's.
    """
    if directory.config_file.exists():
        found = from_json(RunConfig, read_json(directory.config_file), str(directory.config_file))
        if found != run:
            raise LosslineError(
                f"{directory.config_file}: not the configuration of this run; it was changed under an existing run: "
                "put it back, or move the folder away to train anew"
            )
    else:
        write_json(directory.config_file, to_json(run))


def _keep_compiled_programs(folder: StudyDir) -> None:
    """Runs of equal shape, and restarts, find their programs compiled."""
    jax.config.update("jax_compilation_cache_dir", str(folder.root / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
