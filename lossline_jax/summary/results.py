"""Format the results of a study: final losses, fits and the path of the report. This file needs no jax."""

import json

from lossline_jax.config.serialise import to_json
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.formatting import fold, text_table
from lossline_jax.losses.table import read_loss_rows
from lossline_jax.status.runs import last_row, run_status
from lossline_jax.storage.files import read_record
from lossline_jax.storage.paths import StudyDir
from lossline_jax.summary.status import NOT_WRITTEN
from lossline_jax.weights.imported_model import ImportedModel
from lossline_jax.weights.registry import scored_models


def show_text(study: StudyConfig, folder: StudyDir, run_id: str | None) -> str:
    """Return the results of a study, or the configuration and progress of one run.

    Args:
        study: the configuration of the study.
        folder: the folder of the study.
        run_id: the run to show. None: the whole study.
    """
    if run_id is not None:
        return _show_run(study.find_run(run_id), folder)
    parts = [_final_losses(study, folder)]
    if not folder.fits_file.exists():
        parts.append("no fits yet: `lossline-jax fit` makes them")
    else:
        from lossline_jax.fit.study.results import StudyFits
        from lossline_jax.summary.fits import fits_text

        fits = read_record(StudyFits, folder.fits_file)
        stale = fits.run_ids - {run.run_id for run in (*study.runs, *_imported(folder))}
        message = "The fits are of other runs; run `lossline-jax run` to make new ones"
        parts.append(message if stale else fits_text(fits))
    report = folder.report_file if folder.report_file.exists() else NOT_WRITTEN
    return fold("\n\n".join([*parts, f"report: {report}"]))


def _show_run(run: RunConfig, folder: StudyDir) -> str:
    directory = folder.run(run.run_id)
    status = run_status(run, directory, last_row(directory))
    config = json.dumps(to_json(run), indent=2, ensure_ascii=False)
    progress = f"{status.state}, step {status.step} of {run.num_steps} {status.note}".rstrip()
    return f"{run.run_id}\n{progress}\nfolder: {directory.root}\n{config}"


def _final_losses(study: StudyConfig, folder: StudyDir) -> str:
    rows: list[list[str | None]] = []
    last_steps = [(run.run_id, run.num_steps) for run in study.runs]
    last_steps += [(model.run_id, model.steps[-1]) for model in _imported(folder)]
    for run_id, last_step in last_steps:
        losses = {row.eval_set: row for row in read_loss_rows(folder.loss_rows(run_id)) if row.step == last_step}
        cells = [f"{losses[name].bits_per_byte:.4f}" if name in losses else None for name in study.suite.set_names]
        rows.append([run_id, *cells])
    header = ["bits/byte at the last step", *study.suite.set_names]
    num_incomplete = sum(None in cells for cells in rows)
    note = f"\nempty: no row yet, of {num_incomplete} of {len(rows)} runs and models" if num_incomplete else ""
    return text_table(header, rows) + note


def _imported(folder: StudyDir) -> list[ImportedModel]:
    return [entry.model for entry in scored_models(folder)]
