"""Compile the programs that a study would run on a TPU slice, and report them as a table.

Each shape of program is compiled once. `programs.py` compiles, `hlo.py` reads the result and `rules.py` judges it.
"""

from collections.abc import Callable, Iterator, Sequence

from jax.sharding import Mesh

from lossline_jax.config.custom import require_code
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig
from lossline_jax.data.tokenizers.build import planned_vocab_size
from lossline_jax.distributed.chips import Chip
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import human_count, text_table
from lossline_jax.models.model import Model
from lossline_jax.plan.compiler.hlo import count_by_kind
from lossline_jax.plan.compiler.programs import (
    Compiled,
    compile_evaluation,
    compile_training,
    mesh_and_model,
    topology_devices,
)
from lossline_jax.plan.compiler.rules import broken_rules, largest_logits

_SHORT_NAMES = {  # names of the collectives in the table's notes
    "all-gather": "gather",
    "reduce-scatter": "scatter",
    "all-reduce": "reduce",
    "all-to-all": "exchange",
    "collective-permute": "permute",
}
# 1 GB is 1e9 bytes. `of least`: bytes sent, as a multiple of the least that FSDP must send.
HEADER = ("program", "remat", "rows", "args GB", "temp GB", "HBM GB", "of chip", "sent GB", "of least", "logits")


def compile_check(study: StudyConfig, topology: str, runs: Sequence[RunConfig], info: Callable[[str], None]) -> str:
    """Compile the programs of the runs and return a table of them.

    Args:
        study: the study. It gives the execution and the evaluation sets.
        topology: name of the TPU slice, such as `v5e:4x4`.
        runs: the runs to check.
        info: prints a line of progress.

    Raises:
        LosslineError: a program does not fit or breaks a rule (the table is printed by `info` first), libtpu is
            missing, the mesh does not fit the slice, or the code of one of the study's own classes is not loaded.
    """
    require_code(runs, study.code)
    devices, chip = topology_devices(topology)
    rows, notes, problems = [], [], []
    shapes = by_shape(runs)
    for number, (run, num_runs) in enumerate(shapes):
        vocab_size = planned_vocab_size(run.tokenizer)
        mesh, model, execution = mesh_and_model(run, vocab_size, study.execution, devices=devices, chip=chip)
        label = f"{run.model.architecture} {run.factors['size']} c{run.context_length} b{run.batch_size}"
        info(f"[{number + 1}/{len(shapes)}] {label}: {num_runs} run(s), such as {run.run_id}")
        for compiled in _programs(study, run, model=model, execution=execution, mesh=mesh):
            rows.append(_row(f"{compiled.kind} {label}", compiled, model=model, execution=execution, chip=chip))
            row_text = ", ".join(f"{name} {cell}" for name, cell in zip(HEADER[1:], rows[-1][1:], strict=True) if cell)
            info(f"      {compiled.kind}: compiled in {compiled.compile_seconds:.0f} s; {row_text}")
            notes.append(f"{compiled.kind} {label}: {_collectives(compiled)}")
            broken = broken_rules(compiled, model, chip, execution.model_parallel)
            problems += [f"{compiled.kind} {label}: {rule}" for rule in broken]
    text = "\n".join(
        [
            f"{topology}: {len(devices)} x {chip.name} with {chip.hbm_bytes / 1e9:.1f} GB; bytes are of one device",
            "",
            text_table(HEADER, rows),
            "",
            *notes,
        ]
    )
    if problems:
        info(text)
        raise LosslineError(f"{topology}: {len(problems)} broken rule(s): " + "; ".join(problems))
    return text


def by_shape(runs: Sequence[RunConfig]) -> list[tuple[RunConfig, int]]:
    """Group runs whose programs have the same shape.

    Args:
        runs: the runs.

    Returns:
        For each shape, its first run and the number of runs that have it.
    """
    runs_of_shape: dict[tuple, list[RunConfig]] = {}
    for run in runs:
        shape = (
            run.model,
            planned_vocab_size(run.tokenizer),
            run.context_length,
            run.batch_size,
            run.data.separate_documents,
            run.optim.name if isinstance(run.optim, OptimConfig) else run.optim,
            run.optim.gradients_per_step,
            run.algorithm,
            run.objective,
        )
        runs_of_shape.setdefault(shape, []).append(run)
    return [(group[0], len(group)) for group in runs_of_shape.values()]


def _programs(
    study: StudyConfig, run: RunConfig, *, model: Model, execution: ExecutionConfig, mesh: Mesh
) -> Iterator[Compiled]:
    yield compile_training(run, model, execution, mesh)
    yield compile_evaluation(study, run, model, fsdp=execution.fsdp, mesh=mesh)


def _row(label: str, compiled: Compiled, *, model: Model, execution: ExecutionConfig, chip: Chip) -> list[object]:
    is_training = compiled.kind == "train"
    start = [label, execution.remat if is_training else "-", execution.microbatch_size if is_training else "-"]
    if compiled.program is None:
        return [*start, None, None, None, "too much", None, None, None]
    sent = sum(sent for _, sent in count_by_kind(compiled.program).values())
    logits = largest_logits(compiled.program, model, execution.model_parallel)
    return [
        *start,
        f"{compiled.argument_bytes / 1e9:.2f}",
        f"{compiled.temporary_bytes / 1e9:.2f}",
        f"{compiled.hbm_bytes / 1e9:.2f}",
        f"{compiled.hbm_bytes / chip.hbm_bytes:.0%}",
        f"{sent / 1e9:.3f}",
        f"{sent / compiled.minimum_bytes:.2f}" if compiled.minimum_bytes else "-",
        "x".join(str(size) for size in logits.shape) if logits else "-",
    ]


def _collectives(compiled: Compiled) -> str:
    if compiled.program is None:
        return compiled.too_much
    counts = count_by_kind(compiled.program)
    memory = f"outputs {compiled.output_bytes / 1e9:.2f} GB, of which {compiled.aliased_bytes / 1e9:.2f} in place"
    kinds = ", ".join(f"{count} {_SHORT_NAMES[kind]} {human_count(sent)}B" for kind, (count, sent) in counts.items())
    return f"{kinds or 'no collectives'}; {memory}"
