"""The verbs of the command line, with their flags, their functions and their lines on the help page."""

from collections.abc import Callable
from dataclasses import dataclass

from lossline_jax.cli import options, study_commands, table_commands, table_options
from lossline_jax.cli.parsing import COMMAND


@dataclass(frozen=True)
class Verb:
    """A verb of the command line, with its flags, its function, and its line on the help page.

    The arguments of the function depend on `source`. If it is STUDY, they are the study, its folder and the options.
    If it is another word, they are the first word and the options. If it is None, there are only the options.
    """

    options: type
    run: Callable[..., None]
    help: str
    source: str | None = "STUDY"  # kind of thing that the first word names; None: the parser gets every word
    without_study: "Verb | None" = None  # the form of the verb whose first word is a flag; None: there is none
    of_model: "Verb | None" = None  # the form for the folder of an imported model; None: there is none
    of_root: "Verb | None" = None  # the form for a folder of studies; None: there is none


STUDY_VERBS = {
    "run": Verb(
        options.RunOptions,
        study_commands.run_command,
        "walk the whole road: prepare, train, evaluate, fit, report",
        without_study=Verb(
            options.ManifestOptions, study_commands.run_manifest_command, "one run of a study", source=None
        ),
    ),
    "plan": Verb(
        options.PlanOptions,
        study_commands.plan_command,
        "show the runs with their parameters, tokens, FLOPs and chip-hours; nothing is computed",
    ),
    "check": Verb(
        options.CheckOptions,
        study_commands.check_command,
        "compile its programs for a TPU slice (--topology v5e:4x4) without one: do they fit, what do they send",
    ),
    "prepare": Verb(
        options.PrepareOptions, study_commands.prepare_command, "corpora, tokenizers, token stores and evaluation sets"
    ),
    "train": Verb(options.TrainOptions, study_commands.train_command, "train the runs"),
    "evaluate": Verb(
        options.EvaluateOptions,
        study_commands.evaluate_command,
        "score every checkpoint on every evaluation set; write the losses table; with --follow as they come",
    ),
    "fit": Verb(
        options.FitStudyOptions,
        study_commands.fit_command,
        "fit the lines, and compare those that are equal in all but one factor",
    ),
    "compare": Verb(
        options.CompareStudyOptions,
        study_commands.compare_command,
        "the answer alone, and no other fit: which factor moves the line",
    ),
    "report": Verb(
        options.ReportOptions,
        study_commands.report_command,
        "one HTML page with figures and tables; with --watch served while the study runs",
    ),
    "figure": Verb(
        options.FigureOptions,
        study_commands.figure_command,
        "figures of the report for a paper: --only residual --width 3.3in --font 8",
    ),
    "status": Verb(
        options.StatusOptions,
        study_commands.status_command,
        "progress, time left, failures and costs of every run, from the run folders; or of the studies below a folder",
        of_root=Verb(
            options.StatusOfRootOptions, study_commands.status_of_root_command, "all studies of a folder", source="ROOT"
        ),
    ),
    "runs": Verb(
        options.Place,
        study_commands.runs_command,
        "what the folder holds: sizes of runs, and other runs that are not part of the study",
    ),
    "prune": Verb(
        options.PruneOptions,
        study_commands.prune_command,
        "list what can be removed, or with --yes remove it: old moments, other runs, files of killed processes",
    ),
    "show": Verb(
        options.ShowOptions,
        study_commands.show_command,
        "results in the terminal; with --run ID that run's configuration",
    ),
}
NEW_VERBS = {
    "new": Verb(
        options.NewOptions,
        study_commands.new_command,
        "NAME: write NAME.py, a commented experiment to start from",
        source="NAME",
    ),
}
WEIGHT_VERBS = {
    "import-weights": Verb(
        options.ImportOptions,
        study_commands.import_weights_command,
        f"DIR: into a folder for `{COMMAND} evaluate STUDY --checkpoint FOLDER` (which takes DIR too)",
        source="DIR",
    ),
    "export-weights": Verb(
        options.ExportOptions,
        study_commands.export_weights_command,
        "STUDY --run ID: a run's checkpoint; or `export-weights FOLDER` of an imported model",
        of_model=Verb(
            options.ExportOptions, study_commands.export_imported_command, "an imported model", source="FOLDER"
        ),
    ),
}
TABLE_VERBS = {
    "table fit": Verb(
        table_options.FitOptions,
        table_commands.table_fit,
        "--x X --y Y [--by COLUMN ...]: lines; or --law LAW --y Y --input N=params ...: any law",
        source="TABLE",
    ),
    "table compare": Verb(
        table_options.CompareTableOptions,
        table_commands.table_compare,
        "--x X --y Y [--factors COLUMN ...]: which factor moves the line, and is it more than noise",
        source="TABLE",
    ),
    "table speedup": Verb(
        table_options.SpeedupOptions,
        table_commands.table_speedup,
        "--y Y [--factors COLUMN ...]: which level needs less compute for the same loss, and how much less",
        source="TABLE",
    ),
    "table report": Verb(
        table_options.ReportTableOptions,
        table_commands.table_report,
        "--x X --y Y [--factors COLUMN ...]: the same as one HTML page",
        source="TABLE",
    ),
    "table figure": Verb(
        table_options.FigureTableOptions,
        table_commands.table_figure,
        "--x X --y Y [--only residual] [--width 3.3in]: figures of the report for a paper",
        source="TABLE",
    ),
    "table predict": Verb(
        table_options.PredictOptions,
        table_commands.table_predict,
        "--y Y --params P --tokens D --at-flops 1e21: losses of a run nobody trained, with intervals",
        source="TABLE",
    ),
    "table backtest": Verb(
        table_options.BacktestOptions,
        table_commands.table_backtest,
        "--y Y --params P --tokens D: the largest budgets predicted from the smaller ones",
        source="TABLE",
    ),
}
OTHER_VERBS = {
    "laws": Verb(
        table_options.LawsOptions,
        table_commands.laws_command,
        "[LAW]: the laws that can be fitted; one of them in full",
        source=None,
    ),
    "import-losses": Verb(
        table_options.ImportLossesOptions,
        study_commands.import_losses_command,
        "TABLE --out losses.csv: the published tables of other studies, in the columns of ours",
        source="TABLE",
    ),
}
ENGINE_VERBS = {
    "resubmit": Verb(
        options.ResubmitOptions,
        study_commands.resubmit_command,
        "STUDY or M: the indices of the runs that are not done, for an engine's array of jobs: 0,3,5-7",
        source="MANIFEST",
    ),
}
VERBS: dict[str, Verb] = {**NEW_VERBS, **STUDY_VERBS, **WEIGHT_VERBS, **TABLE_VERBS, **OTHER_VERBS, **ENGINE_VERBS}
