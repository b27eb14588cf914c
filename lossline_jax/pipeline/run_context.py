"""A prepared study opened on the devices of this machine, and the context that each run is trained and scored in.

Read `open_on_devices` first, then `build_context`.
"""

import sys
from dataclasses import dataclass

from jax.sharding import Mesh

from lossline_jax import logs
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
    """A prepared study, its folder, and the mesh on which its runs are trained and scored."""

    study: StudyConfig
    folder: StudyDir
    prepared: PreparedData
    mesh: Mesh


@dataclass(frozen=True)
class RunContext:
    """A run with everything that training and scoring need. A process builds it once."""

    run: RunConfig
    directory: RunDir
    tokenizer: Tokenizer
    model: Model
    execution: ExecutionConfig  # of the study; fields that were None have their value on these devices
    source: BatchSource
    suite: PreparedSuite

    def unique_tokens_at(self, step: int) -> int:
        """Return the number of distinct training tokens up to a step."""
        return self.source.unique_tokens(step)

    def has_begun(self) -> bool:
        """Return whether a process has claimed the run's folder, or the folder has checkpoints without a claim."""
        return from_main_process(lambda: self.directory.claim_file.exists() or bool(checkpoint_steps(self.directory)))

    def will_add_no_checkpoints(self) -> bool:
        """Return whether the run is done, or has failed and no process that this machine can see works on it."""

        def has_ended() -> bool:
            failed = self.directory.failed_file.exists() and not is_locked(self.directory.lock_file)
            return self.directory.done_file.exists() or failed

        return from_main_process(has_ended)


def open_on_devices(study: StudyConfig, folder: StudyDir, processes: ProcessesConfig = ALONE) -> OpenedStudy:
    """Open the prepared data, set up this process' devices, and make the mesh over the devices of all processes.

    Args:
        study: the study.
        folder: its folder, which `prepare` has filled.
        processes: the processes that work together.

    Raises:
        LosslineError: nothing is prepared for this study, or the mesh does not fit the devices.
    """
    prepared = open_prepared_data(study, folder)
    start_devices(study.execution, processes)
    enable_compilation_cache()
    return OpenedStudy(study, folder, prepared, make_mesh(study.execution))


def start_devices(execution: ExecutionConfig, processes: ProcessesConfig) -> None:
    """Set up this process' devices, and connect to the other processes. A second call changes nothing.

    Args:
        execution: gives the number of devices.
        processes: the processes that work together.

    Raises:
        LosslineError: the number of devices is impossible, or `processes.connect` fails.
    """
    if sys.platform == "win32":
        logs.warning("lossline: training and scoring have not been tried on Windows; if they fail, use WSL")
    shutdown.register()
    configure_devices(execution)
    connect(processes)


def build_context(opened: OpenedStudy, run: RunConfig) -> RunContext:
    """Build the context that a run is trained and scored in.

    Args:
        opened: the opened study.
        run: one of its runs.

    Raises:
        LosslineError: the model, the data or the layout is impossible.
    """
    tokenizer = opened.prepared.tokenizer(run)
    execution = _execution_on_devices(opened, run, tokenizer.vocab_size)
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
    """Build a model with the attention and rematerialisation settings of a run.

    Args:
        mesh: the mesh that the model runs on.
        config: the model.
        vocab_size: number of tokens of the tokenizer.
        execution: the settings. `remat=None` means `cheap` on CPU and `none` elsewhere.
    """
    remat = execution.remat or ("cheap" if on_cpu(mesh) else "none")
    return build_model(config, vocab_size, remat=remat, attention=execution.attention)


def _execution_on_devices(opened: OpenedStudy, run: RunConfig, vocab_size: int) -> ExecutionConfig:
    """Return the study's execution with a layout that fits the devices' memory, if that memory is known."""
    execution, mesh = opened.study.execution, opened.mesh
    chip = chip_of(mesh.devices.flat[0].device_kind)
    return execution if chip is None else resolve_execution(run, vocab_size, execution, devices=mesh.size, chip=chip)
