"""Where runs are trained and scored: a prepared study on the devices of this machine."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from lossline_jax.config import to_json
from lossline_jax.data.batches import BatchSource
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.evaluate.evaluator import Evaluator
from lossline_jax.evaluate.harvest import NonFiniteLoss, current_rows, loss_rows, missing_checkpoints
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.models.base import Model, build_model
from lossline_jax.prepared import Prepared, open_prepared
from lossline_jax.rundir import RunDir, StudyDir, read_json, sole_writer, write_json
from lossline_jax.sharding import configure_devices, make_mesh
from lossline_jax.study import RunConfig, StudyConfig
from lossline_jax.table import LossRow, append_rows, read_rows, write_table
from lossline_jax.train.checkpoint import checkpoint_steps, load_params
from lossline_jax.train.loop import train_run
from lossline_jax.train.optim import make_schedule
from lossline_jax.train.step import microbatches_per_device


@dataclass(frozen=True)
class Workshop:
    """A study, its folder, what was prepared for it, and the mesh to work on."""

    study: StudyConfig
    folder: StudyDir
    prepared: Prepared
    mesh: Mesh

    @classmethod
    def open(cls, study: StudyConfig, folder: StudyDir, runs: Sequence[RunConfig]) -> "Workshop":
        """Opens the prepared data, starts the devices, and checks that every run can be begun.

        Raises:
            LosslineError: nothing is prepared for this study, the mesh does not fit the devices, or a run cannot
                be trained as it is configured.
        """
        prepared = open_prepared(study, folder)
        configure_devices(study.execution)
        _keep_compiled_programs(folder)
        workshop = cls(study, folder, prepared, make_mesh(study.execution))
        for run in runs:
            workshop._check(run)
        return workshop

    def train(self, run: RunConfig) -> None:
        """Train one run to its end."""
        with self._working_on(run):
            self._train(run, on_checkpoint=None)

    def evaluate(self, run: RunConfig) -> None:
        """Score the checkpoints of one run that lack a row."""
        with self._working_on(run):
            self._score_missing(run, CheckpointScorer(self, run))

    def train_and_evaluate(self, run: RunConfig) -> None:
        """Train one run, scoring each checkpoint while its parameters are in memory."""
        with self._working_on(run):
            scorer = CheckpointScorer(self, run)
            self._train(run, on_checkpoint=scorer)
            self._score_missing(run, scorer)

    @contextlib.contextmanager
    def _working_on(self, run: RunConfig) -> Iterator[None]:
        """Hold the run, refuse one that is not this study's, and write down why it failed if it does."""
        directory = self.directory(run)
        with sole_writer(directory):
            _claim(directory, run, self.source(run).fingerprint)
            try:
                yield
            except RunFailed as failure:
                if not directory.failed_file.exists():
                    write_json(directory.failed_file, {"reason": str(failure), "time": time.time()})
                raise
            if directory.done_file.exists():
                directory.failed_file.unlink(missing_ok=True)

    def write_losses(self) -> str:
        """The losses table from the rows of every run but the failed; returns what there is of it, in words."""
        failed = [run.run_id for run in self.study.runs if self.directory(run).failed_file.exists()]
        rows = [row for run in self.study.runs if run.run_id not in failed for row in self._rows(run)]
        expected = sum(len(run.checkpoint_steps) for run in self.study.runs) * len(self.study.suite.set_names)
        if not rows:
            raise LosslineError(f"{self.folder.root}: no checkpoint has been scored; run `lossline train` first")
        write_table(rows, self.folder.losses_csv, self.folder.losses_parquet)
        left_out = f"; without the failed {', '.join(failed)}" if failed else ""
        return f"losses table: {len(rows)} of {expected} rows in {self.folder.losses_csv}{left_out}"

    def directory(self, run: RunConfig) -> RunDir:
        return self.folder.run(run.run_id)

    def model(self, run: RunConfig) -> Model:
        execution = self.study.execution
        vocab_size = self.prepared.tokenizer(run).vocab_size
        return build_model(run.model, vocab_size, remat=execution.remat, attention=execution.attention)

    def source(self, run: RunConfig) -> BatchSource:
        stores, vocab_size = self.prepared.run_stores(run), self.prepared.tokenizer(run).vocab_size
        return BatchSource(stores, vocab_size, run.data, run.context_length, run.batch_size, run.seed)

    def _rows(self, run: RunConfig) -> list[LossRow]:
        return current_rows(read_rows(self.folder.loss_rows(run.run_id)), self.prepared.suite(run))

    def _check(self, run: RunConfig) -> None:
        try:
            self.model(run)
            self.source(run).check_epochs(run.num_steps)
            make_schedule(run.schedule, run.optim.learning_rate, run.num_steps)
            microbatches_per_device(run.batch_size, self.study.execution, self.mesh)
        except LosslineError as error:
            raise LosslineError(f"run {run.run_id}: {error}") from error

    def _train(self, run: RunConfig, on_checkpoint: Callable[[int, Any], None] | None) -> None:
        train_run(
            run,
            model=self.model(run),
            source=self.source(run),
            run_dir=self.directory(run),
            execution=self.study.execution,
            mesh=self.mesh,
            on_checkpoint=on_checkpoint,
        )

    def _score_missing(self, run: RunConfig, scorer: "CheckpointScorer") -> None:
        directory, model, fsdp = self.directory(run), self.model(run), self.study.execution.fsdp
        saved = [step for step in checkpoint_steps(directory) if step in run.checkpoint_steps]
        missing = missing_checkpoints(self._rows(run), run.run_id, saved, self.prepared.suite(run))
        for step in tqdm(missing, desc=f"score {run.run_id}", unit="checkpoint", disable=None):
            scorer(step, load_params(directory, step, model, self.mesh, fsdp=fsdp))


class CheckpointScorer:
    """Scores checkpoints of one run and adds the rows that it lacks."""

    def __init__(self, workshop: Workshop, run: RunConfig):
        self._workshop, self._run = workshop, run
        self._suite = workshop.prepared.suite(run)
        self._model = model = workshop.model(run)
        self._counts = count_parameters(run.model, model.vocab_size)
        self._flops = train_flops_per_token(run.model, model.vocab_size, run.context_length)

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        """Made at the first checkpoint: a finished run needs none."""
        workshop = self._workshop
        return Evaluator(self._model, workshop.mesh, self._suite, fsdp=workshop.study.execution.fsdp)

    def __call__(self, step: int, params: Any) -> None:
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
                self._model.vocab_size,
                step,
                self._suite,
                lacking,
            )
        except NonFiniteLoss as failure:
            append_rows(path, failure.rows)
            raise
        append_rows(path, rows)


def _claim(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Write down what a run's folder belongs to, or refuse one that belongs to something else.

    Raises:
        LosslineError: the folder was begun with another configuration, or with other data or another tokenizer.
    """
    claim = {"run": to_json(run), "data_fingerprint": data_fingerprint}
    if not directory.claim_file.exists():
        write_json(directory.claim_file, claim)
        return
    found = read_json(directory.claim_file)
    mend = "put it back, or move the folder away to train anew"
    if found.get("run") != claim["run"]:
        raise LosslineError(f"{directory.claim_file}: the configuration was changed under an existing run; {mend}")
    if found.get("data_fingerprint") != data_fingerprint:
        raise LosslineError(
            f"{directory.claim_file}: the corpus, its split or the tokenizer was changed under an existing run; {mend}"
        )


def _keep_compiled_programs(folder: StudyDir) -> None:
    """Runs of equal shape, and restarts, find their programs compiled."""
    jax.config.update("jax_compilation_cache_dir", str(folder.root / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
