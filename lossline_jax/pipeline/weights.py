"""Verbs for weights and losses from elsewhere: import them, and export checkpoints."""

from lossline_jax import logs
from lossline_jax.config.study import StudyConfig
from lossline_jax.formatting import human_count
from lossline_jax.models.accounting import count_parameters
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.outputs import output_folder, output_table
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.imported_model import ModelFacts, slug


def import_model(source: str, out: str | None, facts: ModelFacts) -> None:
    """A folder of safetensors to a folder that `evaluate` takes."""
    from lossline_jax.weights import exchange

    holds = "a model's checkpoints"
    place = None if out is None else output_folder(out, holds)
    public = exchange.read_public_model(expanded(source), facts)
    place = place or output_folder(f"imported/{slug(public.model.name)}", holds)
    imported, directory = exchange.import_weights(public, place)
    counts = count_parameters(imported.model, imported.vocab_size)
    logs.info(
        f"{directory.root}: {imported.model.architecture} {imported.factors['size']}, {human_count(counts.total)} "
        f"parameters ({human_count(counts.non_embedding)} without embeddings), steps {list(imported.steps)}"
    )


def import_losses(source: str, out: str, schema: str | None) -> None:
    """A published table of losses to one with the columns of ours."""
    from lossline_jax.losses.published.read import read_published
    from lossline_jax.losses.table import write_frame

    place = output_table(out)
    frame = read_published(source, schema)
    write_frame(frame, place)
    runs, sets = frame["run_id"].nunique(), frame["eval_set"].nunique()
    logs.info(
        f"{out}: {len(frame)} rows, {runs} runs, {sets} evaluation sets; column loss_definition says what each loss is"
    )


def export_run(
    study: StudyConfig, folder: StudyDir, run_id: str, step: int | None, out: str, dtype: str, tokenizer: bool
) -> None:
    """A checkpoint of a run to a folder that transformers loads."""
    from lossline_jax.pipeline.preflight import check_claim
    from lossline_jax.pipeline.run_context import build_context, open_on_devices
    from lossline_jax.weights import exchange

    place = output_folder(out, "safetensors and their configuration")
    run = study.run_by_id(run_id)
    context = build_context(open_on_devices(study, folder), run)
    check_claim(context)
    step = exchange.export_weights(
        context.directory,
        step,
        place,
        context.model,
        run.context_length,
        context.tokenizer,
        dtype,
        tokenizer,
    )
    logs.info(f"{out}: step {step} of {run_id}")


def export_model(source: str, step: int | None, out: str, dtype: str, tokenizer: bool) -> None:
    """The same for an imported model."""
    from lossline_jax.weights import exchange

    place = output_folder(out, "safetensors and their configuration")
    step = exchange.export_imported(source, step, place, dtype, tokenizer)
    logs.info(f"{out}: step {step} of {source}")
