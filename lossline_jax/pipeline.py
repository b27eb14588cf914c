"""One function a verb: the whole study reads top to bottom here.

    experiments/*.py -> Study -> prepare -> train -> evaluate -> fit -> report

Each function reads only what stands left of it, writes only its own folder, skips what is already there and can
be killed at any moment.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from etils import epath

from lossline_jax.config import to_json
from lossline_jax.console import say, show
from lossline_jax.errors import LosslineError, RunBusy, RunFailed, StartAgain
from lossline_jax.imported import ModelFacts, Registered, registered, slug
from lossline_jax.models.accounting import count_parameters
from lossline_jax.outputs import REPORT_FILES, output_folder, output_json, output_table
from lossline_jax.rundir import StudyDir, may_write, read_record, write_atomic, write_json
from lossline_jax.status import failed_runs, log_note
from lossline_jax.storage import expanded
from lossline_jax.study import RunConfig, StudyConfig
from lossline_jax.table import read_table
from lossline_jax.train.config import ALONE, ProcessesConfig
from lossline_jax.units import human_count

if TYPE_CHECKING:
    import pandas as pd

    from lossline_jax.fit.study_fits import StudyFits
    from lossline_jax.workshop import Workshop


def save_study(study: StudyConfig, folder: StudyDir) -> None:
    """Write the resolved study, so that the folder can be opened without the experiment file."""
    write_json(folder.study_file, to_json(study))


def write_manifest(study: StudyConfig, folder: StudyDir) -> epath.Path:
    """A line a run for an engine's array of jobs; `lossline run --manifest` reads it with study.json."""
    save_study(study, folder)
    lines = [
        json.dumps({"index": k, "run_id": run.run_id, "tokens": run.tokens, "steps": run.num_steps})
        for k, run in enumerate(study.runs)
    ]
    path = folder.root / "manifest.jsonl"
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def check(study: StudyConfig, topology: str, only: Sequence[str] = ()) -> str:
    """Compile the programs of the runs for a TPU slice that is not there; returns what they take, as a table.

    Raises:
        LosslineError: one does not fit or breaks a rule of `check.rules`.
    """
    from lossline_jax.check.study import check_study

    return check_study(study, topology, _chosen(study, only), say)


def prepare(study: StudyConfig, folder: StudyDir) -> None:
    """Corpora, tokenizers, token stores and evaluation sets."""
    _raise_failures({}, _prepare(study, folder))


def _prepare(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Returns why sets cannot be scored, by name."""
    from lossline_jax.prepared import make_prepared

    save_study(study, folder)
    return make_prepared(study, folder, say).problems


def train(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train the runs, each from its newest checkpoint; `profile`: steps of the first one to trace."""
    runs = _chosen(study, only)
    workshop = _open(study, folder, runs, processes, profile)
    _raise_failures(_each(runs, workshop.train))


def evaluate(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    models: Sequence[str] = (),
    processes: ProcessesConfig = ALONE,
) -> None:
    """Score every checkpoint that lacks a row, then write the losses table.

    Args:
        only: ids of the runs to score; none: all runs, and the models that were imported earlier.
        models: folders of models from elsewhere, to score these alone.
    """
    from lossline_jax.processes import from_first, several

    runs = [] if models and not only else _chosen(study, only)
    workshop = _open(study, folder, runs, processes)
    if models and several():
        raise LosslineError(
            "--checkpoint: models from elsewhere are taken in by one process; several may score them later"
        )
    entries = [_add_imported(workshop, model) for model in models]
    failures = _each(runs, workshop.evaluate)
    if not (only or models):
        entries = registered(folder)
    failures |= _evaluate_imported(workshop, entries)
    table = from_first(workshop.write_losses)
    if table is not None:
        say(table)
    _raise_failures(failures, workshop.problems)
    if table is None:
        raise LosslineError(f"{folder.root}: no checkpoint has been scored; run `lossline train` first")
    waiting = [run.run_id for run in runs if not workshop.has_begun(run)]
    if waiting and only:
        raise LosslineError(f"{waiting[0]}: not begun, so nothing of it was scored; run `lossline train` first")
    if waiting:
        say(f"{len(waiting)} of {len(runs)} runs are not begun, so nothing of them was scored: {waiting[0]}, ...")


def follow(
    study: StudyConfig, folder: StudyDir, only: Sequence[str], poll_seconds: float, processes: ProcessesConfig = ALONE
) -> None:
    """Score the checkpoints of runs that other processes train, as they come, until every run has ended."""
    from lossline_jax.follow import follow_runs
    from lossline_jax.workshop import Workshop

    runs = _chosen(study, only)
    workshop = Workshop.open(study, folder, runs, processes)
    failures = follow_runs(workshop, runs, poll_seconds, say)
    _raise_failures(failures, workshop.problems)


def import_weights(source: str, out: str | None, facts: ModelFacts) -> None:
    """A folder of safetensors to a folder that `evaluate` takes."""
    from lossline_jax import exchange

    holds = "a model's checkpoints"
    place = None if out is None else output_folder(out, holds)
    public = exchange.describe(expanded(source), facts)
    place = place or output_folder(f"imported/{slug(public.model.name)}", holds)
    imported, directory = exchange.import_weights(public, place)
    counts = count_parameters(imported.model, imported.vocab_size)
    say(
        f"{directory.root}: {imported.model.architecture} {imported.factors['size']}, {human_count(counts.total)} "
        f"parameters ({human_count(counts.non_embedding)} without embeddings), steps {list(imported.steps)}"
    )


def import_losses(source: str, out: str, schema: str | None) -> None:
    """A published table of losses to one with the columns of ours."""
    from lossline_jax.published.read import read_published
    from lossline_jax.table import write_frame

    place = output_table(out)
    frame = read_published(source, schema)
    write_frame(frame, place)
    runs, sets = frame["run_id"].nunique(), frame["eval_set"].nunique()
    say(f"{out}: {len(frame)} rows, {runs} runs, {sets} evaluation sets; column loss_definition says what each loss is")


def export_weights(
    study: StudyConfig, folder: StudyDir, run_id: str, step: int | None, out: str, dtype: str, tokenizer: bool
) -> None:
    """A checkpoint of a run to a folder that transformers loads."""
    from lossline_jax import exchange
    from lossline_jax.workshop import Workshop

    place = output_folder(out, "safetensors and their configuration")
    run = study.run_by_id(run_id)
    workshop = Workshop.open(study, folder, [])
    workshop.check_claim(run)
    own = workshop.prepared.tokenizer(run)
    directory, model = workshop.directory(run), workshop.model(run)
    step = exchange.export_weights(directory, step, place, model, run.context_length, own, dtype, tokenizer)
    say(f"{out}: step {step} of {run_id}")


def export_imported(source: str, step: int | None, out: str, dtype: str, tokenizer: bool) -> None:
    """The same for an imported model."""
    from lossline_jax import exchange

    place = output_folder(out, "safetensors and their configuration")
    step = exchange.export_imported(source, step, place, dtype, tokenizer)
    say(f"{out}: step {step} of {source}")


def run_one(
    study: StudyConfig,
    folder: StudyDir,
    run_id: str,
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train and evaluate one run of a prepared study: a task of an engine's array of jobs."""
    from lossline_jax.workshop import Workshop

    run = study.run_by_id(run_id)
    workshop = Workshop.open(study, folder, [run], processes, profile)
    _raise_failures(_each([run], workshop.train_and_evaluate), workshop.problems)


def fit(study: StudyConfig, folder: StudyDir, merge_copies: bool = False, out: str | None = None) -> str:
    """Fit the lines of the losses table; returns the fits as text, and writes them into `out` too."""
    from lossline_jax.fit.text_tables import fits_text

    return fits_text(_fit(study, folder, merge_copies, out))


def compare(study: StudyConfig, folder: StudyDir, merge_copies: bool = False, out: str | None = None) -> str:
    """The same, and of its text the answer alone: which factor moves the line."""
    from lossline_jax.fit.compare_text import compare_text

    return compare_text(_fit(study, folder, merge_copies, out))


def _fit(study: StudyConfig, folder: StudyDir, merge_copies: bool, out: str | None) -> "StudyFits":
    """The fits, kept in the study's folder; one that may not be written can be looked at all the same."""
    elsewhere, frame = output_json(out), _losses(study, folder)
    fits = _with_unfinished(_fit_losses(study, folder, frame, merge_copies), study, folder, frame)
    if elsewhere is not None:
        write_json(elsewhere, fits.to_json())
    if may_write(folder.fits_file):
        write_json(folder.fits_file, fits.to_json())
    else:
        instead = f"are kept in {out} alone" if out else "are shown and not kept; --out FILE keeps them elsewhere"
        say(f"{folder.fits_file}: may not be written, so the fits {instead}")
    return fits


def _fit_losses(study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame", merge_copies: bool = False) -> "StudyFits":
    """The fits of a losses table, which say which runs are not in it because they failed."""
    from lossline_jax.fit.study_lines import fit_study

    fits = fit_study(frame, study.x, study.y, study.base.factors, merge_copies=merge_copies)
    left_out = [f"run {run_id} failed and is left out: {why}" for run_id, why in failed_runs(study, folder).items()]
    return dataclasses.replace(fits, failures=(*left_out, *fits.failures))


def _with_unfinished(fits: "StudyFits", study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame") -> "StudyFits":
    """The fits, saying also which runs have checkpoints that the table does not have."""
    scored = set(zip(frame["run_id"], frame["step"], strict=True))
    failed, notes = failed_runs(study, folder), []
    for run in study.runs:
        count = sum((run.run_id, step) in scored for step in run.checkpoint_steps)
        if run.run_id not in failed and count < len(run.checkpoint_steps):
            share = f"{count} of {len(run.checkpoint_steps)} checkpoints are in the losses table"
            notes.append(f"run {run.run_id} is not finished, {share}; `lossline run` goes on with it")
    return dataclasses.replace(fits, failures=(*notes, *fits.failures))


def report(study: StudyConfig, folder: StudyDir, out: str | None = None) -> epath.Path:
    """One HTML page with the study's figures and tables, in its folder or in `out`."""
    from lossline_jax.fit.study_fits import StudyFits

    place = folder.report if out is None else output_folder(out, REPORT_FILES)
    frame = _losses(study, folder)
    if not folder.fits_file.exists():
        if out is not None:  # of a study that may not be written, perhaps: no other command could make them
            fits = _with_unfinished(_fit_losses(study, folder, frame), study, folder, frame)
            return _write_report(study, folder, frame, fits, place)
        raise LosslineError(f"{folder.fits_file}: no fits yet; run `lossline fit` first")
    fits = read_record(StudyFits, folder.fits_file)
    if foreign := fits.run_ids - _known_runs(study, folder):
        raise LosslineError(
            f"{folder.fits_file}: made with runs that the study no longer has, or that have failed ({min(foreign)}); "
            "run `lossline fit` again"
        )
    return _write_report(study, folder, frame, fits, place)


def watch(study: StudyConfig, folder: StudyDir, port: int, out: str | None = None) -> None:
    """Serve the report of a study that is running, with the progress of its runs, until interrupted."""
    from lossline_jax.watch.progress import losses_so_far
    from lossline_jax.watch.server import Watch, serve

    def build() -> str:
        frame = losses_so_far(study, folder)
        if frame.empty:
            raise LosslineError("no run has a row of the sets as they are now")
        fits = _fit_losses(study, folder, frame)
        return _write_report(study, folder, frame, fits, place).read_text("utf-8")

    with tempfile.TemporaryDirectory() as aside:
        own = folder.report if may_write(folder.report) else epath.Path(aside)
        place = own if out is None else output_folder(out, REPORT_FILES)
        serve(Watch(study, folder, build), port, say)


def _write_report(
    study: StudyConfig, folder: StudyDir, frame: "pd.DataFrame", fits: "StudyFits", place: epath.Path
) -> epath.Path:
    """Write the page and its figures into `place`."""
    from lossline_jax.prepared import open_corpora
    from lossline_jax.report.page import write_report
    from lossline_jax.train.steplog import read_rows

    if not may_write(place):
        raise LosslineError(f"{place}: may not be written; name another folder for the page with --out")
    steps = {run.run_id: read_rows(folder.run(run.run_id)) for run in study.runs}
    for run in study.runs:
        if note := log_note(run, folder.run(run.run_id), next(reversed(steps[run.run_id]), None)):
            say(f"{run.run_id}{note}")
    return write_report(
        frame,
        fits,
        study=to_json(study),
        steps=steps,
        report_folder=place,
        title=study.name,
        x=study.x,
        y=study.y,
        corpora={name: corpus.manifest for name, corpus in open_corpora(study, folder).items()},
    )


def run(study: StudyConfig, folder: StudyDir, processes: ProcessesConfig = ALONE, profile: int | None = None) -> None:
    """The whole road. A failed run, or a set that cannot be scored, is left out and named at the end."""
    from lossline_jax.processes import from_first, is_first
    from lossline_jax.workshop import Workshop, start_devices

    start_devices(study.execution, processes)
    problems = from_first(lambda: _prepare(study, folder))
    if axes := {study.x, study.y} & problems.keys():
        _raise_failures({}, {name: problems[name] for name in axes})  # before hours of training for no line
    workshop = Workshop.open(study, folder, study.runs, profile=profile)
    failures = _each(study.runs, workshop.train_and_evaluate)
    failures |= _take_up(workshop, failures) | _evaluate_imported(workshop, registered(folder))
    failures = {run_id: failure for run_id, failure in failures.items() if failure is not None}
    if is_first():
        _show(study, folder, workshop, failures)
    _raise_failures(failures, workshop.problems)


def _take_up(workshop: "Workshop", failures: Mapping[str, LosslineError]) -> dict[str, LosslineError | None]:
    """Look again at the runs that were in the hands of another process, and wait for those that still are.

    Returns:
        What went wrong with each; None: it is done. Several processes on one run do not wait: the first would hold
        up the others for longer than they wait for each other.
    """
    from lossline_jax.processes import several

    busy = [run for run in workshop.study.runs if isinstance(failures.get(run.run_id), RunBusy)]
    if several() or not busy:
        return {}
    for run in busy:
        say(f"another process works on {run.run_id}; waiting until it is done")
    found = _each(busy, lambda run: workshop.train_and_evaluate(run, wait=True))
    return {run.run_id: found.get(run.run_id) for run in busy}


def _show(study: StudyConfig, folder: StudyDir, workshop: "Workshop", failures: Mapping[str, LosslineError]) -> None:
    """The last part of the road: losses table, fits, report."""
    try:
        say(workshop.write_losses() or f"{folder.root}: no checkpoint has been scored")
        lines, page = fit(study, folder), report(study, folder)  # both made before anything is shown
        show(f"{lines}\n\nreport: {page}")
    except LosslineError as error:
        if not failures:
            raise
        say(str(error))  # a consequence: the failed runs are the news


def _add_imported(workshop: "Workshop", source: str) -> Registered:
    from lossline_jax import exchange

    imported, weights = exchange.fetch(workshop.folder, source)
    made_for = imported.context_length
    windows = workshop.study.suite.for_context(made_for).context_length
    if windows > made_for:
        say(f"note: {imported.name} was trained with {made_for} tokens of context and is scored with {windows}")
    return workshop.add_imported(imported, weights)


def _evaluate_imported(workshop: "Workshop", entries: Sequence[Registered]) -> dict[str, LosslineError]:
    """Score models from elsewhere; returns what went wrong, by run id."""
    failures: dict[str, LosslineError] = {}
    for entry in entries:
        say(f"imported {entry.model.run_id}")
        try:
            workshop.evaluate_imported(entry)
        except StartAgain:
            raise
        except LosslineError as failure:
            failures[entry.model.run_id] = failure
            say(f"left out: {failure}")
    return failures


def _open(
    study: StudyConfig,
    folder: StudyDir,
    runs: Sequence[RunConfig],
    processes: ProcessesConfig,
    profile: int | None = None,
) -> "Workshop":
    """A workshop of the study as the command line has it, which its folder says from now on."""
    from lossline_jax.processes import is_first
    from lossline_jax.workshop import Workshop

    workshop = Workshop.open(study, folder, runs, processes, profile)
    if is_first():
        save_study(study, folder)
    return workshop


def _chosen(study: StudyConfig, only: Sequence[str]) -> Sequence[RunConfig]:
    return [study.run_by_id(run_id) for run_id in only] or study.runs


def _each(runs: Sequence[RunConfig], work: Callable[[RunConfig], None]) -> dict[str, LosslineError]:
    """Do `work` for every run; returns what went wrong with those that failed or are busy, by run id."""
    failures: dict[str, LosslineError] = {}
    for k, run in enumerate(runs):
        say(f"[{k + 1}/{len(runs)}] {run.run_id}")
        try:
            work(run)
        except (RunFailed, RunBusy) as failure:
            failures[run.run_id] = failure
            if len(runs) > 1:
                say(f"left out: {failure}")
    return failures


def _raise_failures(failures: dict[str, LosslineError], problems: Mapping[str, str] | None = None) -> None:
    """Raise what went wrong.

    Args:
        failures: by run id.
        problems: reasons by the name of an evaluation set that was left out; each gets a line of its own.
    """
    reasons = list((problems or {}).values())
    if len(failures) + len(reasons) == 1:
        raise next(iter(failures.values()), None) or LosslineError(reasons[0])
    for reason in reasons:
        say(f"left out: {reason}")
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures and all(isinstance(failure, RunBusy) for failure in failures.values()):
        raise RunBusy(f"another process works on {', '.join(failures)}; run again when it is done")
    if failures:
        raise RunFailed(f"{len(failures)} runs failed or are busy: {', '.join(failures)}; `lossline status` tells why")
    if reasons:
        raise LosslineError(f"{len(reasons)} evaluation sets cannot be scored: {', '.join(problems)}; see above")


def _known_runs(study: StudyConfig, folder: StudyDir) -> set[str]:
    """The runs that may have rows: all but the failed, and the imported models."""
    runs = {run.run_id for run in study.runs} - failed_runs(study, folder).keys()
    return runs | {entry.model.run_id for entry in registered(folder)}


def _losses(study: StudyConfig, folder: StudyDir) -> "pd.DataFrame":
    """The losses table, if it is of the study as it is now."""
    if not folder.losses_parquet.exists():
        raise LosslineError(f"{folder.losses_parquet}: no losses table yet; run `lossline evaluate` first")
    frame = read_table(folder.losses_parquet)
    if foreign := set(frame["run_id"]) - _known_runs(study, folder):
        raise LosslineError(
            f"{folder.losses_parquet}: has runs that the study no longer has, or that have failed ({min(foreign)}); "
            "run `lossline evaluate` again"
        )
    return frame
