"""A prepared study on the devices of this machine, and what each of its runs is trained and scored with."""

from dataclasses import dataclass

from jax.sharding import Mesh

from lossline_jax.config.execution import ALONE, ExecutionConfig, ProcessesConfig
from lossline_jax.config.model import ModelConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.batches import BatchSource
from lossline_jax.data.tokenizers.build import Tokenizer
from lossline_jax.distributed import shutdown
from lossline_jax.distributed.chips import chip_of
from lossline_jax.distributed.devices import configure_devices
from lossline_jax.distributed.mesh import make_mesh, on_cpu
from lossline_jax.distributed.processes import connect, from_main_process
from lossline_jax.evaluate.suite import PreparedSuite
from lossline_jax.models.model import Model, build_model
from lossline_jax.pipeline.compilation_cache import enable_compilation_cache
from lossline_jax.pipeline.prepare import PreparedData, open_prepared_data
from lossline_jax.plan.choose_layout import resolve_execution
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import is_locked
from lossline_jax.storage.run_records import checkpoint_steps


@dataclass(frozen=True)
class OpenedStudy:
    """A prepared study, its folder, and the mesh that its runs are trained and scored on."""

    study: StudyConfig
    folder: StudyDir
    prepared: PreparedData
    mesh: Mesh


@dataclass(frozen=True)
class RunContext:
    """Everything that training and scoring one run take, made once a process."""

    run: RunConfig
    directory: RunDir
    tokenizer: Tokenizer
    model: Model
    execution: ExecutionConfig  # of the study, with what None means on these devices
    source: BatchSource
    suite: PreparedSuite

    def has_begun(self) -> bool:
        """Return whether the run has a folder that a process has claimed, or checkpoints whose claim was lost."""
        return from_main_process(lambda: self.directory.claim_file.exists() or bool(checkpoint_steps(self.directory)))

    def will_add_no_checkpoints(self) -> bool:
        """Return whether no process will add checkpoints to the run, as far as this machine can see."""

        def ask() -> bool:
            failed = self.directory.failed_file.exists() and not is_locked(self.directory.lock_file)
            return self.directory.done_file.exists() or failed

        return from_main_process(ask)


def open_on_devices(study: StudyConfig, folder: StudyDir, processes: ProcessesConfig = ALONE) -> OpenedStudy:
    """Open the prepared data, set up the devices of this process, and lay the mesh over those of all processes.

    Raises:
        LosslineError: nothing is prepared for this study, or the mesh does not fit the devices.
    """
    prepared = open_prepared_data(study, folder)
    start_devices(study.execution, processes)
    enable_compilation_cache()
    return OpenedStudy(study, folder, prepared, make_mesh(study.execution))


def start_devices(execution: ExecutionConfig, processes: ProcessesConfig) -> None:
    """Set up this process' devices and meet the processes that work on the run with it. A second call changes nothing.

    Raises:
        LosslineError: an impossible number of devices; otherwise as `processes.connect`.
    """
    shutdown.register()
    configure_devices(execution)
    connect(processes)


def build_context(opened: OpenedStudy, run: RunConfig) -> RunContext:
    """Build what a run is trained and scored with.

    Raises:
        LosslineError: the model, the data or the layout is impossible.
    """
    tokenizer = opened.prepared.tokenizer(run)
    execution = _settled_execution(opened, run, tokenizer.vocab_size)
    return RunContext(
        run=run,
        directory=opened.folder.run(run.run_id),
        tokenizer=tokenizer,
        model=build_model_for(opened.mesh, run.model, tokenizer.vocab_size, execution),
        execution=execution,
        source=BatchSource(
            opened.prepared.run_stores(run),
            tokenizer.vocab_size,
            run.data,
            context_length=run.context_length,
            batch_size=run.batch_size,
            seed=run.seed,
        ),
        suite=opened.prepared.suite(run),
    )


def build_model_for(mesh: Mesh, config: ModelConfig, vocab_size: int, execution: ExecutionConfig) -> Model:
    """Build a model with the attention and rematerialisation of `execution`.

    `remat=None` means `cheap` on CPU and `none` elsewhere.
    """
    remat = execution.remat or ("cheap" if on_cpu(mesh) else "none")
    return build_model(config, vocab_size, remat=remat, attention=execution.attention)


def _settled_execution(opened: OpenedStudy, run: RunConfig, vocab_size: int) -> ExecutionConfig:
    """Return the study's execution with the layout that fits the devices, where their memory is known."""
    execution, mesh = opened.study.execution, opened.mesh
    chip = chip_of(mesh.devices.flat[0].device_kind)
    return execution if chip is None else resolve_execution(run, vocab_size, execution, mesh.size, chip)
