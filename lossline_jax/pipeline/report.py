"""The verbs that read the losses table of a study: fit, compare, report and watch."""

import dataclasses
import tempfile
from typing import TYPE_CHECKING

from etils import epath

from lossline_jax import logs
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.losses.loss_row import FACTOR_COLUMNS, ORDINARY_LEVELS
from lossline_jax.losses.table import read_losses
from lossline_jax.status.runs import failed_runs, log_note
from lossline_jax.storage.files import make_folder, may_write, read_record, write_json
from lossline_jax.storage.outputs import REPORT_FILES, output_folder, output_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import scored_models

if TYPE_CHECKING:
    import pandas as pd

    from lossline_jax.fit.study.results import Comparisons, StudyFits
    from lossline_jax.report.figures.figures import Figures


def compare(study: StudyConfig, folder: StudyDir, merge_copies: bool = False, out: str | None = None) -> "Comparisons":
    """Compare the lines of the losses table, and return which factor moves the line.

    Nothing else is fitted, so the fits in the study's folder stay as they are.

    Args:
        study: the study.
        folder: its folder.
        merge_copies: count a run that the table has under two names once. False: such a run is refused.
        out: a JSON file for the comparison. None: nothing is written.
    """
    from lossline_jax.fit.study.fit_study import compare_lines
    from lossline_jax.fit.study.results import Comparisons

    output_file, frame = output_json(out), losses(study, folder)
    compared = compare_lines(frame, study.x, study.y, study.base.factors, merge_copies=merge_copies)
    compared = _with_unfinished(_with_failed(compared, study, folder), study, folder, frame)
    if output_file is not None:
        make_folder(output_file.parent, "--out")
        write_json(output_file, compared.to_json())
    return Comparisons(compared)


def fit(study: StudyConfig, folder: StudyDir, merge_copies: bool = False, out: str | None = None) -> "StudyFits":
    """Fit the lines of the losses table, and write the fits to the study's folder.

    If the folder is read-only, the fits are returned and a message says that they were not written.

    Args:
        study: the study.
        folder: its folder.
        merge_copies: count a run that the table has under two names once. False: such a run is refused.
        out: a second JSON file for the fits. None: there is no second file.

    Raises:
        LosslineError: there is no losses table, or it was made for an earlier version of the study.
    """
    output_file, frame = output_json(out), losses(study, folder)
    logs.info(f"{folder.root}: fitting the losses of {frame['run_id'].nunique()} runs")
    fits = _with_unfinished(_fit_losses(study, folder, frame, merge_copies), study, folder, frame)
    if output_file is not None:
        make_folder(output_file.parent, "--out")
        write_json(output_file, fits.to_json())
    if may_write(folder.fits_file):
        write_json(folder.fits_file, fits.to_json())
    else:
        result = f"are kept in {out} alone" if out else "are shown and not kept; --out FILE keeps them elsewhere"
        logs.info(f"{folder.fits_file}: may not be written, so the fits {result}")
    return fits


def _fit_losses(study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame", merge_copies: bool = False) -> "StudyFits":
    """Fit a losses table, and add a note for each failed run, which has no rows in the table."""
    from lossline_jax.fit.study.fit_study import fit_study

    fits = fit_study(frame, study.x, study.y, study.base.factors, merge_copies=merge_copies)
    return _with_failed(fits, study, folder)


def _with_failed(fits: "StudyFits", study: StudyConfig, folder: StudyDir) -> "StudyFits":
    """Return the fits with a note for each run that failed."""
    notes = [f"run {run_id} failed and is left out: {reason}" for run_id, reason in failed_runs(study, folder).items()]
    return dataclasses.replace(fits, failures=(*notes, *fits.failures))


def _with_unfinished(fits: "StudyFits", study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame") -> "StudyFits":
    """Return the fits with a note for each run whose checkpoints are not all in the table."""
    notes = [
        f"run {run.run_id} is not finished, {count} of {len(run.checkpoint_steps)} checkpoints are in the losses "
        "table; `lossline-jax run` continues it"
        for run, count in _unfinished(study, folder, frame)
    ]
    return dataclasses.replace(fits, failures=(*notes, *fits.failures))


def _unfinished(study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame") -> list[tuple[RunConfig, int]]:
    """Return each run that has not failed and lacks losses, with the number of its checkpoints in the table."""
    scored, failed = set(zip(frame["run_id"], frame["step"], strict=True)), failed_runs(study, folder)
    counts = [(run, sum((run.run_id, step) in scored for step in run.checkpoint_steps)) for run in study.runs]
    return [(run, count) for run, count in counts if run.run_id not in failed and count < len(run.checkpoint_steps)]


def report(study: StudyConfig, folder: StudyDir, out: str | None = None) -> epath.Path:
    """Write one HTML page with the study's figures and tables, and return its path.

    Args:
        study: the study.
        folder: its folder.
        out: folder for the page. None: the study's own folder.

    Raises:
        LosslineError: there are no losses or fits, they were made for an earlier version of the study, or the page
            cannot be written.
    """
    report_folder = folder.report if out is None else output_folder(out, REPORT_FILES)
    frame = losses(study, folder)
    if not folder.fits_file.exists() and out is not None:
        # The study's folder may be read-only, and then `fit` cannot write fits there.
        fits = _with_unfinished(_fit_losses(study, folder, frame), study, folder, frame)
    else:
        fits = stored_fits(study, folder)
    logs.info(f"{report_folder}: drawing the figures")
    return _write_report(study, folder, frame, fits, report_folder=report_folder)


def stored_fits(study: StudyConfig, folder: StudyDir) -> "StudyFits":
    """Return the fits that `fit` wrote to the study's folder.

    Args:
        study: the study.
        folder: its folder.

    Raises:
        LosslineError: there are no fits, or they were made for an earlier version of the study.
    """
    from lossline_jax.fit.study.results import StudyFits

    if not folder.fits_file.exists():
        raise LosslineError(f"{folder.fits_file}: no fits yet; run `lossline-jax fit` first")
    fits = read_record(StudyFits, folder.fits_file)
    if foreign := fits.run_ids - _known_runs(study, folder):
        raise LosslineError(
            f"{folder.fits_file}: made with runs that the study no longer has, or that have failed ({min(foreign)}); "
            "run `lossline-jax fit` again"
        )
    if (study.x, study.y) != (fits.x, fits.y):
        raise LosslineError(
            f"{folder.fits_file}: the fits are of {fits.y!r} against {fits.x!r} and the study compares {study.y!r} "
            f"against {study.x!r}; run `lossline-jax fit` again"
        )
    return fits


def figures(study: StudyConfig, folder: StudyDir) -> "Figures":
    """Return the figures of the study's page. The arguments are those of `report`."""
    from lossline_jax.report.page import figures_of
    from lossline_jax.storage.step_log import read_step_log

    steps = {run.run_id: read_step_log(folder.run(run.run_id)) for run in study.runs}
    return figures_of(losses(study, folder), stored_fits(study, folder), study, steps)


def watch(study: StudyConfig, folder: StudyDir, port: int, out: str | None = None) -> None:
    """Serve the report of a running study with the progress of its runs, until interrupted.

    Args:
        study: the study.
        folder: its folder.
        port: TCP port of the server.
        out: folder for the page. None: the study's own folder, or a temporary folder if that is read-only.
    """
    from lossline_jax.status.live import losses_so_far
    from lossline_jax.status.server import LiveReport, serve

    def build() -> str:
        frame = losses_so_far(study, folder)
        if frame.empty:
            raise LosslineError("no run has a row of the current evaluation sets")
        fits = _fit_losses(study, folder, frame)
        return _write_report(study, folder, frame, fits, report_folder=report_folder).read_text("utf-8")

    with tempfile.TemporaryDirectory() as scratch:
        default_folder = folder.report if may_write(folder.report) else epath.Path(scratch)
        report_folder = default_folder if out is None else output_folder(out, REPORT_FILES)
        serve(LiveReport(study, folder, build), port, logs.info)


def _write_report(
    study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame", fits: "StudyFits", *, report_folder: epath.Path
) -> epath.Path:
    """Write the page and its figures into `report_folder`."""
    from lossline_jax.pipeline.prepare import open_corpora
    from lossline_jax.report.page import write_report
    from lossline_jax.storage.step_log import read_step_log

    if not may_write(report_folder):
        raise LosslineError(f"{report_folder}: may not be written; name another folder for the page with --out")
    steps = {run.run_id: read_step_log(folder.run(run.run_id)) for run in study.runs}
    for run in study.runs:
        if note := log_note(run, folder.run(run.run_id), next(reversed(steps[run.run_id]), None)):
            logs.info(f"{run.run_id}{note}")
    return write_report(
        frame,
        fits,
        report_folder,
        study.name,
        study=study,
        steps=steps,
        corpora={name: corpus.manifest for name, corpus in open_corpora(study, folder).items()},
        progress=_progress(study, folder, frame),
    )


def _progress(study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame") -> str:
    """Return `3 of 7 runs are complete`, or an empty text where no more losses are to come."""
    ended = len(study.runs) - len(_unfinished(study, folder, frame))
    return "" if ended == len(study.runs) else f"{ended} of {len(study.runs)} runs are complete"


def finding_text(study: StudyConfig, folder: StudyDir, fits: "StudyFits") -> str:
    """Return the finding of a study in some sentences, as its page has it.

    Args:
        study: the study.
        folder: its folder.
        fits: the fits of its losses table.
    """
    from lossline_jax.report.content.finding import study_finding

    frame = losses(study, folder)
    return study_finding(frame, fits, study, _progress(study, folder, frame))


def _known_runs(study: StudyConfig, folder: StudyDir) -> set[str]:
    """Return the ids of the models that may have rows: the runs that have not failed, and the imported models."""
    runs = {run.run_id for run in study.runs} - failed_runs(study, folder).keys()
    return runs | {entry.model.run_id for entry in scored_models(folder)}


def losses(study: StudyConfig, folder: StudyDir) -> "pd.DataFrame":
    """Return the losses table.

    Args:
        study: the study.
        folder: its folder.

    Raises:
        LosslineError: there is no table, or it was made for an earlier version of the study.
    """
    if not folder.losses_parquet.exists():
        raise LosslineError(f"{folder.losses_parquet}: no losses table yet; run `lossline-jax evaluate` first")
    frame = read_losses(folder.losses_parquet)
    if foreign := set(frame["run_id"]) - _known_runs(study, folder):
        raise LosslineError(
            f"{folder.losses_parquet}: has runs that the study no longer has, or that have failed ({min(foreign)}); "
            "run `lossline-jax evaluate` again"
        )
    return _with_factors_of_today(frame, study)


def _with_factors_of_today(frame: "pd.DataFrame", study: StudyConfig) -> "pd.DataFrame":
    """Return the losses with the factor levels of the study's runs, which an older table lacks or has less exactly."""
    levels = {run.run_id: run.factors for run in study.runs}
    kept = {name: frame[name] if name in frame else [ORDINARY_LEVELS.get(name)] * len(frame) for name in FACTOR_COLUMNS}
    columns = {
        name: [
            levels[run_id][name] if run_id in levels else level
            for run_id, level in zip(frame["run_id"], kept[name], strict=True)
        ]
        for name in study.base.factors
    }
    return frame.assign(**columns)
