"""Where runs are trained and scored: a prepared study on the devices of this machine."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from lossline_jax.config.execution import ALONE, ExecutionConfig, ProcessesConfig
from lossline_jax.config.model import ModelConfig, max_context_length
from lossline_jax.config.serialise import fingerprint
from lossline_jax.config.study import RunConfig, StudyConfig, tokenizer_label
from lossline_jax.data.batches import BatchSource
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.distributed import shutdown
from lossline_jax.distributed.batch_rows import my_rows
from lossline_jax.distributed.chips import chip_of
from lossline_jax.distributed.devices import configure_devices
from lossline_jax.distributed.mesh import make_mesh, on_cpu
from lossline_jax.distributed.processes import from_first, held_by_first, is_first, start
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.evaluate.loss_rows import TableRun
from lossline_jax.evaluate.suite import PreparedSuite, is_current, load_suite, prepare_suite
from lossline_jax.logs import say
from lossline_jax.losses.current_rows import current_rows
from lossline_jax.losses.table import LossRow, read_rows, write_table
from lossline_jax.models.model import Model, build_model
from lossline_jax.pipeline.claims import claim
from lossline_jax.pipeline.compilation_cache import keep_programs
from lossline_jax.pipeline.prepare import Prepared, open_corpora, open_prepared
from lossline_jax.pipeline.scorer import CheckpointScorer, Evaluators
from lossline_jax.plan.choose_layout import settled
from lossline_jax.status.runs import failed_runs, strangers_note
from lossline_jax.storage.files import inside, read_json, read_reason, write_json
from lossline_jax.storage.leftovers import remove_leftovers
from lossline_jax.storage.paths import ModelDir, RunDir, StudyDir
from lossline_jax.storage.run_lock import has_writer, sole_writer
from lossline_jax.storage.run_records import checkpoint_steps
from lossline_jax.train.loop import OnCheckpoint, train_run
from lossline_jax.train.optimiser import make_schedule
from lossline_jax.train.step import microbatches_per_device
from lossline_jax.weights.imported_model import ImportedModel, check_tokenizer, tokenizer_config
from lossline_jax.weights.registry import Registered, register, registered


@dataclass(frozen=True)
class Workshop:
    """A study, its folder, what was prepared for it, and the mesh to work on."""

    study: StudyConfig
    folder: StudyDir
    prepared: Prepared
    mesh: Mesh
    evaluators: Evaluators
    profiled: tuple[str | None, int] = (None, 0)  # id of the run to trace, and steps
    scorers: dict[str, CheckpointScorer] = field(default_factory=dict)  # by run id
    imported_suites: dict[str, PreparedSuite] = field(default_factory=dict)  # by run id
    sound_stores: set[epath.Path] = field(default_factory=set)  # folders whose tokens were checked

    @classmethod
    def open(
        cls,
        study: StudyConfig,
        folder: StudyDir,
        runs: Sequence[RunConfig],
        processes: ProcessesConfig = ALONE,
        profile: int | None = None,
    ) -> "Workshop":
        """Opens the prepared data, and checks that every run can be begun on the devices of all processes.

        Args:
            runs: to work on.
            processes: that work on them together.
            profile: steps to trace, of the first of the runs that is not done.

        Raises:
            LosslineError: nothing is prepared for this study, the mesh does not fit the devices, or a run cannot
                be trained as it is configured.
        """
        if profile is not None and profile < 1:
            raise LosslineError(f"--profile: {profile} is no number of steps to trace; give 1 or more")
        prepared = open_prepared(study, folder)
        start_devices(study.execution, processes)
        keep_programs()
        mesh = make_mesh(study.execution)
        if is_first():
            remove_leftovers(
                *(folder.losses, folder.losses / "rows", folder.losses / "unscored", folder.fits_file.parent),
                *(folder.report, folder.report / "figures", *(folder.run(run.run_id).root for run in runs)),
            )
        first = next((run.run_id for run in runs if not folder.run(run.run_id).done_file.exists()), None)
        if profile and first is None:
            say("--profile: nothing to trace, every run is done")
        evaluators = Evaluators(mesh, study.execution.fsdp)
        workshop = cls(study, folder, prepared, mesh, evaluators, (first, profile or 0))
        for run in runs:
            workshop._check(run)
        return workshop

    def train(self, run: RunConfig) -> None:
        """Train one run to its end."""
        with self._training(run):
            self._train(run, on_checkpoint=None)

    def evaluate(self, run: RunConfig) -> None:
        """Score the checkpoints of one run that lack a row, if it has begun; another process may be training it.

        Raises:
            RunBusy: another process is scoring it.
            RunFailed: something of it cannot be scored.
        """
        directory = self.directory(run)
        if self.has_begun(run):
            self.check_claim(run)
            with self._scoring(run, self.model(run), self.prepared.suite(run)) as scorer:
                ended = from_first(directory.done_file.exists)
                scorer.score_missing(directory, run.checkpoint_steps, ended)

    def train_and_evaluate(self, run: RunConfig, wait: bool = False) -> None:
        """Train one run, scoring each checkpoint while its parameters are in memory.

        Args:
            wait: for a process that works on it, and take up what that leaves.
        """
        with (
            self._training(run, wait),
            self._scoring(run, self.model(run), self.prepared.suite(run), wait=True) as scorer,
        ):
            self._train(run, on_checkpoint=scorer)
            scorer.score_missing(self.directory(run), run.checkpoint_steps, ended=True)

    def has_begun(self, run: RunConfig) -> bool:
        """Return whether the run has a folder that a process has claimed, or checkpoints whose claim was lost."""
        directory = self.directory(run)
        return from_first(lambda: directory.claim_file.exists() or bool(checkpoint_steps(directory)))

    def is_finished(self, run: RunConfig) -> bool:
        """Whether no process will add checkpoints to the run, as far as this machine can see."""
        directory = self.directory(run)

        def ask() -> bool:
            failed = directory.failed_file.exists() and not has_writer(directory.lock_file)
            return directory.done_file.exists() or failed

        return from_first(ask)

    def add_imported(self, imported: ImportedModel, weights: ModelDir) -> Registered:
        """Make a model from elsewhere one of those that the study scores, once it is sure that it can be.

        Raises:
            LosslineError: its tokenizer does not fit the suite, or it has not the positions for its windows.
        """
        longest = max_context_length(imported.model)
        windows = self.study.suite.for_context(imported.context_length).context_length
        if longest is not None and windows > longest:
            raise LosslineError(
                f"{weights.root}: the model has {longest} positions, and suite.context_length is {windows}"
            )
        self._imported_suite(imported, weights)
        return register(self.folder, imported, weights)

    def evaluate_imported(self, entry: Registered) -> None:
        """Score the checkpoints of a model from elsewhere that lack a row.

        Raises:
            RunFailed: a checkpoint that lacks a row is no longer there, is damaged, or has a loss that is not finite.
        """
        model = entry.model
        built = self._build(model.model, model.vocab_size, self.study.execution)
        own = {tokenizer.fingerprint: config for config, tokenizer in self.prepared.tokenizers.items()}
        if model.tokenizer_sha256 in own:  # so that the column says what the study's own rows say
            model = dataclasses.replace(model, tokenizer=tokenizer_label(own[model.tokenizer_sha256]))
        with self._scoring(model, built, self._imported_suite(entry.model, entry.home)) as scorer:
            if gone := scorer.missing(model.steps).keys() - set(from_first(lambda: checkpoint_steps(entry.weights))):
                raise RunFailed(f"{entry.weights.root}: its checkpoints {sorted(gone)} are gone; import them again")
            scorer.score_missing(entry.weights, model.steps, ended=True)

    def check_claim(self, run: RunConfig) -> None:
        """Raise LosslineError if the run was begun with other data, or another tokenizer, than are prepared now."""
        data = self.source(run).fingerprint
        from_first(lambda: claim(self.directory(run), run, data))

    @contextlib.contextmanager
    def _training(self, run: RunConfig, wait: bool = False) -> Iterator[None]:
        """Hold the run, refuse one that is not this study's, and write down why it failed if it does."""
        directory = self.directory(run)
        with held_by_first(sole_writer(directory.lock_file, wait)):
            self.check_claim(run)
            if wait and from_first(directory.failed_file.exists):  # in the hands of the other
                raise RunFailed(f"run {run.run_id}: {read_reason(directory.failed_file)}")
            try:
                yield
            except RunFailed as failure:
                ended = directory.failed_file.exists() or directory.done_file.exists()
                if is_first() and not ended:
                    write_json(directory.failed_file, {"reason": str(failure), "time": time.time()})
                raise
            if is_first() and directory.done_file.exists():
                directory.failed_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _scoring(
        self, run: TableRun, model: Model, suite: PreparedSuite, wait: bool = False
    ) -> Iterator[CheckpointScorer]:
        """Hold the rows of a run, and tell at the end what could not be scored."""
        with held_by_first(sole_writer(self.folder.scoring_lock(run.run_id), wait)):
            if run.run_id in self.scorers:
                self.scorers[run.run_id].refresh()
            else:
                scorer = CheckpointScorer(self.study.name, run, model, suite, self.folder, self.evaluators)
                self.scorers[run.run_id] = scorer
            yield self.scorers[run.run_id]
            self.scorers[run.run_id].raise_failures()

    @property
    def num_added(self) -> int:
        """Rows that were scored in this process."""
        return sum(scorer.num_added for scorer in self.scorers.values())

    def write_losses(self) -> str | None:
        """The losses table from the rows of every run but the failed, and of every imported model.

        Returns what there is of it, in words; None: not a row yet, and no table written.
        """
        failed = failed_runs(self.study, self.folder)
        rows = [
            row
            for run in self.study.runs
            if run.run_id not in failed
            for row in self._rows(run.run_id, self.prepared.suite(run))
        ]
        checkpoints = sum(len(run.checkpoint_steps) for run in self.study.runs)
        for entry in registered(self.folder):
            checkpoints += len(entry.model.steps)
            rows += self._rows(entry.model.run_id, self._imported_suite(entry.model, entry.home))
        if not rows:
            return None
        write_table(rows, self.folder.losses_csv, self.folder.losses_parquet)
        expected = checkpoints * len(self.study.suite.set_names)
        left_out = f"; without the failed {', '.join(failed)}" if failed else ""
        others = strangers_note(self.study, self.folder)
        return f"losses table: {len(rows)} of {expected} rows in {self.folder.losses_csv}{left_out}{others}"

    @property
    def problems(self) -> dict[str, str]:
        """The evaluation sets that some model could not be scored on, with the reason."""
        found = dict(self.prepared.problems)
        for suite in self.imported_suites.values():
            found |= suite.problems
        return found

    def directory(self, run: RunConfig) -> RunDir:
        return self.folder.run(run.run_id)

    def model(self, run: RunConfig) -> Model:
        vocab_size = self.prepared.tokenizer(run).vocab_size
        return self._build(run.model, vocab_size, self.execution(run))

    def execution(self, run: RunConfig) -> ExecutionConfig:
        """The study's, with what None means on these devices: on chips of known memory, what fits them."""
        execution, device = self.study.execution, self.mesh.devices.flat[0]
        chip = chip_of(device.device_kind)
        if chip is None:
            return execution
        return settled(run, self.prepared.tokenizer(run).vocab_size, execution, self.mesh.size, chip)

    def _build(self, config: ModelConfig, vocab_size: int, execution: ExecutionConfig) -> Model:
        """As the execution has it; see `ExecutionConfig.remat` for what None means."""
        remat = execution.remat or ("cheap" if on_cpu(self.mesh) else "none")
        return build_model(config, vocab_size, remat=remat, attention=execution.attention)

    def source(self, run: RunConfig) -> BatchSource:
        stores, vocab_size = self.prepared.run_stores(run), self.prepared.tokenizer(run).vocab_size
        return BatchSource(stores, vocab_size, run.data, run.context_length, run.batch_size, run.seed)

    def _rows(self, run_id: str, suite: PreparedSuite) -> list[LossRow]:
        return current_rows(read_rows(self.folder.loss_rows(run_id)), suite)

    def _imported_suite(self, imported: ImportedModel, directory: ModelDir) -> PreparedSuite:
        if imported.run_id not in self.imported_suites:
            self.imported_suites[imported.run_id] = self._find_imported_suite(imported, directory)
        return self.imported_suites[imported.run_id]

    def _find_imported_suite(self, imported: ImportedModel, directory: ModelDir) -> PreparedSuite:
        """The suite that was made for it when the study was last prepared, or made now."""
        home = self.folder.imported_model(imported.run_id)
        prepared = fingerprint(read_json(self.folder.prepared_file))
        corpora = open_corpora(self.study, self.folder)
        tokenizer = prepare_tokenizer(tokenizer_config(imported, directory), corpora, self.folder.tokenizers)
        check_tokenizer(imported, directory, tokenizer.fingerprint)
        windows = self.study.suite.for_context(imported.context_length)
        stored = read_json(home.suite_file, {"suite": str}) if home.suite_file.exists() else {}
        if stored.get("prepared") == prepared:
            place = inside(self.folder.suites, stored["suite"], home.suite_file)
            if is_current(place, windows, tokenizer):
                return load_suite(place)
        suite = prepare_suite(windows, tokenizer, corpora, self.folder.suites)
        write_json(home.suite_file, {"suite": suite.fingerprint, "prepared": prepared})
        return suite

    def _check(self, run: RunConfig) -> None:
        try:
            self.model(run)
            self.source(run).check_epochs(run.num_steps)
            make_schedule(run.schedule, run.optim.learning_rate, run.num_steps)
            my_rows(self.mesh)
            microbatches_per_device(run.batch_size, run.context_length, self.execution(run), self.mesh)
            self._check_attention(run)
        except LosslineError as error:
            raise LosslineError(f"run {run.run_id}: {error}") from error

    def _check_attention(self, run: RunConfig) -> None:
        """Trace the model once where its attention may be one that cannot run here."""
        if self.study.execution.attention != "xla":
            model = self.model(run)
            tokens_BT = jax.ShapeDtypeStruct((run.batch_size, run.context_length), jnp.int32)
            segments_BT = tokens_BT if run.data.separate_documents else None
            with jax.set_mesh(self.mesh):
                params = jax.eval_shape(model.init, jax.random.key(0))
                jax.eval_shape(model.hidden, params, tokens_BT, segments_BT)

    def _check_tokens(self, run: RunConfig) -> None:
        """Raise LosslineError if tokens that the run still has to read are not those that were prepared."""
        if from_first(self.directory(run).done_file.exists):
            return
        for store in self.prepared.run_stores(run).values():
            if store.folder not in self.sound_stores:
                from_first(store.verify_changed)
                self.sound_stores.add(store.folder)

    def _train(self, run: RunConfig, on_checkpoint: OnCheckpoint | None) -> None:
        self._check_tokens(run)
        train_run(
            run,
            model=self.model(run),
            source=self.source(run),
            run_dir=self.directory(run),
            execution=self.execution(run),
            mesh=self.mesh,
            on_checkpoint=on_checkpoint,
            profile_steps=self.profiled[1] if self.profiled[0] == run.run_id else 0,
        )


def start_devices(execution: ExecutionConfig, processes: ProcessesConfig) -> None:
    """Set up this process' devices and meet the processes that work on the run with it. A second call changes nothing.

    Raises:
        LosslineError: an impossible number of devices; otherwise as `processes.start`.
    """
    shutdown.register()
    configure_devices(execution)
    start(processes)
