"""The functions of the verbs on a study, on model weights and on a manifest. They call the pipeline and print.

A module of the pipeline is loaded when a verb first uses it, so that `status` and `plan` do not import jax.
"""

import json
from pathlib import Path

from etils import epy

from lossline_jax import logs
from lossline_jax.cli.options import (
    CheckOptions,
    CompareStudyOptions,
    EvaluateOptions,
    ExportOptions,
    FigureOptions,
    FitStudyOptions,
    ImportOptions,
    ManifestOptions,
    NewOptions,
    Place,
    PlanOptions,
    PrepareOptions,
    PruneOptions,
    ReportOptions,
    ResubmitOptions,
    RunOptions,
    ShowOptions,
    StatusOfRootOptions,
    StatusOptions,
    TrainOptions,
)
from lossline_jax.cli.paper import Paper, write_figures
from lossline_jax.cli.table_options import ImportLossesOptions
from lossline_jax.config.ranges import SECONDS, check_ranges
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import fold
from lossline_jax.pipeline import shipped, study_files
from lossline_jax.pipeline.experiment import load_study_function
from lossline_jax.storage.paths import StudyDir
from lossline_jax.summary import show
from lossline_jax.summary.leftovers import removal_text
from lossline_jax.summary.plan import measured_text
from lossline_jax.summary.status import root_status_text

with epy.lazy_imports():
    from lossline_jax.pipeline import compilation_cache, weights
    from lossline_jax.pipeline import prepare as preparation
    from lossline_jax.pipeline import report as report_verbs
    from lossline_jax.pipeline import study as study_verbs
    from lossline_jax.plan import measured, storage_and_epochs
    from lossline_jax.plan import plan as plans
    from lossline_jax.status import leftovers
    from lossline_jax.status import resubmit as resubmissions
    from lossline_jax.status import study as statuses
    from lossline_jax.summary import results


def new_command(name: str, _: NewOptions) -> None:
    """Write a commented experiment, and say what to type next."""
    path = shipped.write_experiment(name)
    logs.result(f"{path}: written; its comments say what to change. Next: lossline-jax plan {path}")


def plan_command(study: StudyConfig, folder: StudyDir, options: PlanOptions) -> None:
    """Show the costs of the runs, before anything is computed."""
    if options.price is not None and options.chip is None:
        raise LosslineError("--price: the price of which chip? add --chip, such as --chip v5e")
    storage_and_epochs.require_files(study, folder)
    plan = plans.plan_study(study, options.utilisation)
    show(plan)
    for speed in measured.measured_speeds(plan, folder):
        logs.result(fold(measured_text(speed)))
    if options.chip is not None:
        on_mesh = plans.plan_mesh(study, options.chip, options.devices, options.utilisation, price=options.price)
        logs.result("")
        show(on_mesh)
    if options.manifest:
        logs.result(f"manifest: {study_files.write_manifest(study, folder)}")


def check_command(study: StudyConfig, _: StudyDir, options: CheckOptions) -> None:
    """Compile the programs of the runs for a TPU slice, without that slice."""
    logs.result(study_verbs.check(study, options.topology, options.only))


def prepare_command(study: StudyConfig, folder: StudyDir, _: PrepareOptions) -> None:
    """Make corpora, tokenizers, token stores and evaluation sets."""
    preparation.prepare(study, folder)


def train_command(study: StudyConfig, folder: StudyDir, options: TrainOptions) -> None:
    """Train the runs."""
    check_ranges(options.processes, "--processes")
    study_verbs.train(study, folder, options.only, processes=options.processes, profile=options.profile)


def evaluate_command(study: StudyConfig, folder: StudyDir, options: EvaluateOptions) -> None:
    """Score the existing checkpoints, or with `follow` also every new one.

    Raises:
        LosslineError: a flag has a wrong value, or `--checkpoint` and `--follow` are given together.
    """
    check_ranges(options.processes, "--processes")
    if not options.follow:
        study_verbs.evaluate(study, folder, options.only, models=options.checkpoint, processes=options.processes)
        return
    if options.checkpoint:
        raise LosslineError("--checkpoint: a model from elsewhere does not train; leave out --follow")
    if not SECONDS.holds(options.poll_seconds):
        raise LosslineError(f"--poll-seconds: {options.poll_seconds:g} is not a time to wait; give {SECONDS}")
    study_verbs.follow(study, folder, options.only, poll_seconds=options.poll_seconds, processes=options.processes)


def fit_command(study: StudyConfig, folder: StudyDir, options: FitStudyOptions) -> None:
    """Fit the lines of the losses table, and compare them."""
    compilation_cache.enable_compilation_cache()
    show(report_verbs.fit(study, folder, options.merge_copies, options.out))


def compare_command(study: StudyConfig, folder: StudyDir, options: CompareStudyOptions) -> None:
    """Show which factor moves the line."""
    compilation_cache.enable_compilation_cache()
    show(report_verbs.compare(study, folder, options.merge_copies, options.out))


def report_command(study: StudyConfig, folder: StudyDir, options: ReportOptions) -> None:
    """Write the report, or with `watch` serve it."""
    compilation_cache.enable_compilation_cache()
    if options.watch:
        report_verbs.watch(study, folder, options.port, options.out)
    else:
        logs.result(f"report: {report_verbs.report(study, folder, options.out)}")


def figure_command(study: StudyConfig, folder: StudyDir, options: FigureOptions) -> None:
    """Write figures of the report in the size that a paper needs."""
    paper = Paper.of(options)
    write_figures(report_verbs.figures(study, folder), options, paper)


def run_command(study: StudyConfig, folder: StudyDir, options: RunOptions) -> None:
    """Prepare, train, evaluate, fit and report a study."""
    check_ranges(options.processes, "--processes")
    outcome = study_verbs.run(study, folder, options.processes, options.profile)
    if outcome.fits is not None:
        logs.result(fold(outcome.finding))
        logs.result(f"\nreport: {outcome.report}\ntables: lossline-jax show {folder.root}")
    outcome.raise_failures()


def run_manifest_command(options: ManifestOptions) -> None:
    """Train and score one run of a study, as one task in a scheduler's array of jobs."""
    check_ranges(options.processes, "--processes")
    index = study_files.index_from_environment() if options.index is None else options.index
    if index is None:
        raise LosslineError("--index: say which line of the manifest to run (no engine's variable is set)")
    study_verbs.run_one(
        *study_files.read_manifest_run(options.manifest, index, options.experiment),
        processes=options.processes,
        profile=options.profile,
    )


def status_command(study: StudyConfig, folder: StudyDir, options: StatusOptions) -> None:
    """Show the progress of every run. Only the run's folder is read."""
    status = statuses.read_status(study, folder)
    if options.json:
        logs.result(json.dumps(statuses.status_json(study, folder, status), indent=2))
    else:
        show(status)


def status_of_root_command(root: str, options: StatusOfRootOptions) -> None:
    """Show the progress of each study in a folder."""
    studies = [study_files.open_study(folder) for folder in study_files.studies_below(root)]
    read = [(study, folder, statuses.read_status(study, folder)) for study, folder in studies]
    if options.json:
        logs.result(json.dumps([statuses.status_json(*entry) for entry in read], indent=2))
    else:
        logs.result(root_status_text([(study.name, status) for study, _, status in read]))


def runs_command(study: StudyConfig, folder: StudyDir, _: Place) -> None:
    """Show what the folder of a study holds."""
    show(leftovers.read_leftovers(study, folder, study.execution.keep_moments))


def prune_command(study: StudyConfig, folder: StudyDir, options: PruneOptions) -> None:
    """List what a study no longer needs, or remove it."""
    keep = study.execution.keep_moments
    found = leftovers.read_leftovers(study, folder, keep)
    chosen = [*(found.others if options.other_runs else ()), *(found.lost if options.removed_runs else ())]
    logs.result(removal_text(found, chosen))
    if not options.yes:
        logs.result("nothing was removed; --yes removes it")
        return
    for line in leftovers.remove(study, folder, chosen, keep):
        logs.info(f"left alone: {line}")


def show_command(study: StudyConfig, folder: StudyDir, options: ShowOptions) -> None:
    """Show the results of a study, or the configuration of one run."""
    logs.result(results.show_text(study, folder, options.run))


def export_weights_command(study: StudyConfig, folder: StudyDir, options: ExportOptions) -> None:
    """Write a checkpoint of a run as a folder that transformers loads."""
    if options.run is None:
        raise LosslineError("--run: say which run; `lossline-jax plan` lists their ids")
    run_id = study.find_run(options.run).run_id
    out = options.out or f"exported/{run_id}"
    weights.export_run(
        study, folder, run_id, step=options.step, out=out, dtype=options.dtype, tokenizer=options.tokenizer
    )


def export_imported_command(source: str, options: ExportOptions) -> None:
    """Write a step of an imported model as a folder that transformers loads."""
    if options.run is not None:
        raise LosslineError(f"--run: {source} is an imported model and has no runs; leave the flag out")
    out = options.out or f"exported/{Path(source).resolve().name}"
    weights.export_model(source, options.step, out, dtype=options.dtype, tokenizer=options.tokenizer)


def import_weights_command(source: str, options: ImportOptions) -> None:
    """Convert a folder of safetensors into a folder for `evaluate`."""
    weights.import_model(source, options.out, options)


def import_losses_command(source: str, options: ImportLossesOptions) -> None:
    """Convert a published table to the columns of a lossline table."""
    weights.import_losses(source, options.out, options.schema)


def resubmit_command(source: str, options: ResubmitOptions) -> None:
    """Print the indices of the runs that are not done. The source is a manifest, a study's folder or its experiment."""
    if source.endswith(".py"):
        source = f"{options.root}/{load_study_function(source)().name}"
    resubmission = resubmissions.resubmission(*study_files.read_manifest(source), options.failed)
    for note in resubmission.notes:
        logs.info(note)
    if resubmission.indices:
        logs.result(resubmission.indices)
