"""The verbs that import weights and losses from elsewhere, and export checkpoints."""

from typing import TYPE_CHECKING

from lossline_jax import logs
from lossline_jax.config.study import StudyConfig
from lossline_jax.formatting import human_count
from lossline_jax.models.accounting import count_parameters
from lossline_jax.storage.files import make_folder
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.outputs import output_folder, output_table
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.imported_model import ModelFacts, slug

if TYPE_CHECKING:
    from lossline_jax.weights.exchange import WeightDtype


def import_model(source: str, out: str | None, facts: ModelFacts) -> None:
    """Convert a folder of safetensors to a folder that `evaluate` can score.

    Args:
        source: folder of safetensors.
        out: folder to write. None: `imported/<name of the model>`.
        facts: facts about the model that its files do not hold.
    """
    from lossline_jax.weights import exchange

    content = "a model's checkpoints"
    folder = None if out is None else output_folder(out, content)  # refuse a bad folder before reading the weights
    public = exchange.read_public_model(expanded(source), facts)
    folder = folder or output_folder(f"imported/{slug(public.model.name)}", content)
    imported, directory = exchange.import_weights(public, folder)
    counts = count_parameters(imported.model, imported.vocab_size)
    logs.info(
        f"{directory.root}: {imported.model.architecture} {imported.factors['size']}, {human_count(counts.total)} "
        f"parameters ({human_count(counts.non_embedding)} without embeddings), steps {list(imported.steps)}"
    )


def import_losses(source: str, out: str, schema: str | None) -> None:
    """Convert a published table of losses to a table with lossline's columns.

    Args:
        source: the published table.
        out: file to write.
        schema: name of the format of the published table. None: it is recognised from the columns.
    """
    from lossline_jax.losses.published.read import read_published
    from lossline_jax.losses.table import write_frame

    file = output_table(out)
    frame = read_published(source, schema)
    make_folder(file.parent, "--out")
    write_frame(frame, file)
    runs, sets = frame["run_id"].nunique(), frame["eval_set"].nunique()
    logs.info(
        f"{out}: {len(frame)} rows, {runs} runs, {sets} evaluation sets; column loss_definition says what each loss is"
    )


def export_run(
    study: StudyConfig,
    folder: StudyDir,
    run_id: str,
    *,
    step: int | None,
    out: str,
    dtype: "WeightDtype",
    tokenizer: bool,
) -> None:
    """Export a checkpoint of a run to a folder that Hugging Face transformers loads.

    Args:
        study: the study.
        folder: its folder.
        run_id: id of the run.
        step: step of the checkpoint. None: the newest.
        out: folder to write.
        dtype: dtype of the exported weights.
        tokenizer: whether to export the tokenizer too.
    """
    from lossline_jax.pipeline.preflight import check_claim
    from lossline_jax.pipeline.run_context import build_context, open_on_devices
    from lossline_jax.weights import exchange

    export_folder = output_folder(out, "safetensors and their configuration")
    run = study.run_by_id(run_id)
    context = build_context(open_on_devices(study, folder), run)
    check_claim(context)
    step = exchange.export_weights(
        context.directory,
        step,
        export_folder,
        context.model,
        context_length=run.context_length,
        tokenizer=context.tokenizer,
        dtype=dtype,
        with_tokenizer=tokenizer,
    )
    logs.info(f"{out}: step {step} of {run_id}")


def export_model(source: str, step: int | None, out: str, *, dtype: "WeightDtype", tokenizer: bool) -> None:
    """Export a checkpoint of an imported model to a folder that Hugging Face transformers loads.

    Args:
        source: folder of the imported model.
        step: step of the checkpoint. None: the newest.
        out: folder to write.
        dtype: dtype of the exported weights.
        tokenizer: whether to export the tokenizer too.
    """
    from lossline_jax.weights import exchange

    export_folder = output_folder(out, "safetensors and their configuration")
    step = exchange.export_imported(source, step, export_folder, dtype=dtype, tokenizer=tokenizer)
    logs.info(f"{out}: step {step} of {source}")
