"""Write the losses table of a study from the current rows of each run and each imported model."""

from lossline_jax.evaluate.suite import PreparedSuite
from lossline_jax.losses.current_rows import current_rows, with_factors
from lossline_jax.losses.loss_row import LossRow
from lossline_jax.losses.table import read_loss_rows, write_table
from lossline_jax.pipeline.imported_models import ImportedModels
from lossline_jax.pipeline.run_context import OpenedStudy
from lossline_jax.status.leftovers import other_runs_note
from lossline_jax.status.runs import failed_runs
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import scored_models


def write_losses(opened: OpenedStudy, imported: ImportedModels) -> str | None:
    """Write the losses table from the rows of every imported model and every run that has not failed.

    Args:
        opened: the opened study.
        imported: its imported models.

    Returns:
        A one-line summary of the table. None: there are no rows yet, and no table was written.
    """
    study, folder = opened.study, opened.folder
    failed = failed_runs(study, folder)
    rows: list[LossRow] = []
    for run in study.runs:
        if run.run_id not in failed:
            rows += with_factors(_rows(folder, run.run_id, opened.prepared.suite(run)), run.factors)
    checkpoints = sum(len(run.checkpoint_steps) for run in study.runs)
    for entry in scored_models(folder):
        checkpoints += len(entry.model.steps)
        rows += _rows(folder, entry.model.run_id, imported.suite(entry.model, entry.home))
    if not rows:
        return None
    write_table(rows, folder.losses_csv, folder.losses_parquet)
    expected = checkpoints * len(study.suite.set_names)
    left_out = f"; without the failed {', '.join(failed)}" if failed else ""
    note = f"\n{others}" if (others := other_runs_note(study, folder)) else ""
    return f"losses table: {len(rows)} of {expected} rows in {folder.losses_csv}{left_out}{note}"


def sets_left_out(opened: OpenedStudy, imported: ImportedModels) -> dict[str, str]:
    """Return the reasons why evaluation sets were left out, by the name of the set.

    Args:
        opened: the opened study.
        imported: its imported models.
    """
    return opened.prepared.problems | imported.problems


def _rows(folder: StudyDir, run_id: str, suite: PreparedSuite) -> list[LossRow]:
    return current_rows(read_loss_rows(folder.loss_rows(run_id)), suite)
