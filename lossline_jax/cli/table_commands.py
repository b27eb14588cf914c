"""The functions of the verbs on any table of losses (fit, compare, report, predict, backtest) and of `laws`."""

import dataclasses
import gc
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossline_jax import logs
from lossline_jax.cli.paper import Paper, save_axes, write_figures
from lossline_jax.cli.read_tables import OpenTable, open_table
from lossline_jax.cli.table_options import (
    BacktestOptions,
    CompareOptions,
    CompareTableOptions,
    FigureTableOptions,
    FitOptions,
    ForecastOptions,
    LawsOptions,
    PredictOptions,
    ReportTableOptions,
    SpeedupOptions,
    TableOptions,
)
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import export_json
from lossline_jax.storage.outputs import REPORT_FILES, output_figure, output_folder, output_json
from lossline_jax.summary import show

if TYPE_CHECKING:
    import pandas as pd

    from lossline_jax.fit.study.results import StudyFits
    from lossline_jax.fit.study.table_laws import LawFits

MOST_NOTES = 10  # notes on rows and runs that `table figure` prints. A choice
GARBAGE_THRESHOLD = 20_000  # new containers before Python looks for garbage; its own default is 700. A choice


def table_fit(table: str, options: FitOptions) -> None:
    """Fit lines of one loss over another, or the law of `--law`, in every group of a table."""
    _enable_compilation_cache()
    if options.law:
        show(_fit_law(table, options, options.law))
        return
    for k, fits in enumerate(_fit_lines(table, options)):
        if k:
            logs.result("")
        show(fits)


def table_compare(table: str, options: CompareTableOptions) -> None:
    """Show which factor of a table moves the line."""
    from lossline_jax.fit.study.fit_study import compare_lines
    from lossline_jax.fit.study.results import Comparisons

    _enable_compilation_cache()
    out = output_json(options.out)
    fits = _compared(table, options, compare_lines)[1]
    if out is not None:
        export_json(out, fits.to_json())
    show(Comparisons(fits))


def table_speedup(table: str, options: SpeedupOptions) -> None:
    """Show how much less compute each level of a factor needs for the same loss."""
    from lossline_jax.fit.speedup.compare_compute import CurveOptions, compare_compute
    from lossline_jax.fit.speedup.read_compute import ComputeColumns
    from lossline_jax.fit.tables.loss_names import named_losses

    out = output_json(options.out)
    opened = open_table(table, options)
    result = compare_compute(
        _with_run_ids(opened),
        named_losses(opened.frame, options.y),
        _pairs(options.base, "--base", "FACTOR=LEVEL, such as data=wiki"),
        factors=options.factors or None,
        unit=options.unit,
        columns=ComputeColumns(options.compute, options.params, options.tokens),
        curves=CurveOptions(
            curve="power law" if options.curve == "power-law" else options.curve,
            fix=_given_values(options.fix),
            share=options.share or None,
            last=options.last,
            frontier=options.frontier,
            margin=options.margin,
        ),
        merge_copies=options.merge_copies,
    )
    if out is not None:
        export_json(out, result.to_json())
    show(result)


def table_report(table: str, options: ReportTableOptions) -> None:
    """Write one HTML page about a table."""
    from lossline_jax.fit.study.fit_study import fit_study
    from lossline_jax.report.page import write_report

    _enable_compilation_cache()
    folder = output_folder(options.out, REPORT_FILES)
    frame, fits = _compared(table, options, fit_study)
    logs.info(f"{folder}: drawing the figures")
    title = options.title or Path(table).stem
    path = write_report(frame, fits, folder, title)
    logs.result(f"report: {path}")


def table_figure(table: str, options: FigureTableOptions) -> None:
    """Write figures of a table in the size that a paper needs."""
    from lossline_jax.fit.study.fit_study import fit_study
    from lossline_jax.report.page import figures_of

    _enable_compilation_cache()
    paper = Paper.of(options)
    frame, fits = _compared(table, options, fit_study)
    write_figures(figures_of(frame, fits, None, None), options, paper)
    for note in fits.failures[:MOST_NOTES]:
        logs.warning(f"note: {note}")
    if (more := len(fits.failures) - MOST_NOTES) > 0:
        logs.warning(f"{more} more such notes: lossline-jax table compare prints them all")


def laws_command(options: LawsOptions) -> None:
    """Show one law, or list all laws."""
    from lossline_jax.fit.laws import LAWS, find_law

    if len(options.law) > 1:
        raise LosslineError("lossline-jax laws [LAW]: name one law, in quotes if it has spaces")
    if options.law:
        show(find_law(options.law[0]))
    else:
        show(LAWS)


def table_predict(table: str, options: PredictOptions) -> None:
    """Predict losses of a run that nobody trained."""
    from lossline_jax.fit.predict.table_forecast import forecast
    from lossline_jax.fit.predict.target import check_target
    from lossline_jax.report.figures.draw import draw

    _enable_compilation_cache()
    out, figure = output_json(options.out), output_figure(options.figure)
    opened = open_table(table, options)
    check_target(options.at_params, options.at_tokens, options.at_flops, options.at_x)
    fitted = forecast(opened.frame, _losses(opened, options), level=options.level, **_columns(opened, options))
    predicted = fitted.predict(
        params=options.at_params, tokens=options.at_tokens, flops=options.at_flops, x=options.at_x, only=options.only
    )
    if out is not None:
        export_json(out, predicted.to_json())
    show(predicted)
    if figure is not None:
        has_curve = options.at_flops is not None and any(not item.is_line for item in fitted.forecast.series)
        save_axes(draw(predicted, draw(fitted) if has_curve else None), figure)


def table_backtest(table: str, options: BacktestOptions) -> None:
    """Predict the largest budgets of a table from the smaller ones."""
    from lossline_jax.fit.predict.table_forecast import backtest
    from lossline_jax.report.figures.draw import draw

    _enable_compilation_cache()
    out, figure = output_json(options.out), output_figure(options.figure)
    opened = open_table(table, options)
    losses, columns = _losses(opened, options), _columns(opened, options)
    result = backtest(opened.frame, losses, up_to=options.up_to, level=options.level, **columns)
    if out is not None:
        export_json(out, result.to_json())
    show(result)
    if figure is not None:
        save_axes(draw(result), figure)


def _enable_compilation_cache() -> None:
    """Store compiled programs on the disk. This must happen before the first program of a fit is compiled."""
    from lossline_jax.pipeline.compilation_cache import enable_compilation_cache

    enable_compilation_cache()


def _collect_garbage_rarely() -> None:
    """Let Python look for cyclic garbage less often. Otherwise the search takes a twentieth of the time of a report.

    The imported modules and classes stay until the process ends, so that they are not searched again.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)


def _compared(
    table: str, options: CompareOptions, fit_table: "Callable[..., StudyFits]"
) -> "tuple[pd.DataFrame, StudyFits]":
    """Return the table with its runs in the column run_id, and the fits.

    `fit_table` is `compare_lines` or `fit_study`.
    """
    from lossline_jax.fit.study.fit_study import Statistics

    _collect_garbage_rarely()
    opened = open_table(table, options)
    if not (options.margin > 0 and math.isfinite(options.margin)):
        raise LosslineError(f"--margin: {options.margin:g} noise floors are not a margin; give more than 0")
    frame = _with_run_ids(opened)
    fits = fit_table(
        frame,
        options.x,
        options.y,
        _pairs(options.base, "--base", "FACTOR=LEVEL, such as data=wiki"),
        factors=options.factors or None,
        units=options.unit or None,
        statistics=Statistics(margin_in_noise=options.margin),
        merge_copies=options.merge_copies,
    )
    return frame, fits


def _with_run_ids(opened: OpenTable) -> "pd.DataFrame":
    """Return the table with its runs in the column run_id, if a column of runs is known."""
    from lossline_jax.fit.tables.rows import require_column, require_runs

    frame, run = opened.frame, opened.run
    if run is None:
        return frame
    require_column(frame, run, "run")
    require_runs(frame, run)
    return frame.assign(run_id=frame[run])


def _fit_lines(table: str, options: FitOptions) -> "list[StudyFits]":
    """Return the lines of each loss of --y. A loss whose lines cannot be fitted is named, and stops no other."""
    from lossline_jax.fit.study.irreducible import IrreducibleModes
    from lossline_jax.fit.study.table_lines import Across, LineOptions, fit_lines

    _refuse(options, "belongs to --law; give --law too", "objective", "input", "budget", "fix", "share")
    if options.across is None:
        _refuse(options, "belongs to --across; give --across too", "on")
    if options.x is None:
        raise LosslineError("a line needs --x and --y; to fit a law of sizes or tokens name it with --law")
    if options.across is not None and not options.on:
        raise LosslineError("--on: say which columns make two models of --across a pair, such as --on params tokens")
    out = output_json(options.out)
    opened = open_table(table, options)
    across = None if options.across is None else Across(options.across, options.on)
    irreducible = IrreducibleModes(_mode(options.e_x), _mode(options.e_y), options.form, options.params, options.tokens)
    line_options = LineOptions(irreducible, options.noise_x, merge_copies=options.merge_copies)
    losses = _losses(opened, options)
    fits, failures = [], []
    for y in losses:
        try:
            lines = fit_lines(
                opened.frame,
                options.x,
                y,
                options.by,
                cluster=opened.run,
                unit=options.unit,
                across=across,
                options=line_options,
            )
            fits.append(lines)
        except LosslineError as error:
            if len(losses) == 1:
                raise
            failures.append(error)
    if not fits:
        raise failures[0]
    for error in failures:
        logs.warning(f"left out: {error}")
    if out is not None:
        export_json(out, fits[0].to_json() if len(losses) == 1 else [lines.to_json() for lines in fits])
    return fits


def _fit_law(table: str, options: FitOptions, law: str) -> "LawFits":
    from lossline_jax.fit.study.law_request import LawOptions
    from lossline_jax.fit.study.table_laws import fit_laws

    reason = "belongs to lines; name the inputs of --law by --input NAME=COLUMN ..."
    _refuse(options, reason, "x", "across", "on", "e_x", "e_y", "noise_x", "form", "params", "tokens")
    out = output_json(options.out)
    opened = open_table(table, options)
    fits = fit_laws(
        opened.frame,
        law,
        _pairs(options.input, "--input", "NAME=COLUMN, such as N=params"),
        _losses(opened, options),
        by=options.by,
        cluster=opened.run,
        unit=options.unit,
        options=LawOptions(
            fixed=_given_values(options.fix),
            shared=options.share,
            objective=options.objective,
            budget=options.budget,
            merge_copies=options.merge_copies,
        ),
    )
    if out is not None:
        export_json(out, fits.to_json())
    return fits


def _refuse(options: FitOptions, reason: str, *names: str) -> None:
    """Refuse the first of these flags whose value is not its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(FitOptions)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise LosslineError(f"--{name.replace('_', '-')} {reason}")


def _losses(opened: OpenTable, options: TableOptions) -> tuple[str, ...]:
    """Return the losses of --y, with all losses that a pattern matches."""
    from lossline_jax.fit.tables.loss_names import named_losses

    return named_losses(opened.frame, options.y, leave_out=() if options.x is None else (options.x,))


def _columns(opened: OpenTable, options: ForecastOptions) -> dict[str, Any]:
    """Return the arguments of a forecast or backtest that have flags of the same names."""
    names = ("params", "tokens", "x", "by", "across", "flops", "unit", "merge_copies")
    return {"cluster": opened.run} | {name: getattr(options, name) for name in names}


def _mode(word: str) -> Any:
    """Return the number that a flag gives, or its word. `IrreducibleModes` checks the word."""
    try:
        return float(word)
    except ValueError:
        return word


def _given_values(words: Sequence[str]) -> dict[str, float]:
    """Return `{"E": 1.6}` for `("E=1.6",)`."""
    values = {}
    for name, text in _pairs(words, "--fix", "NAME=VALUE, such as E=1.6").items():
        try:
            values[name] = float(text)
        except ValueError:
            raise LosslineError(f"--fix: {name}={text}: {text!r} is not a number") from None
    return values


def _pairs(words: Sequence[str], flag: str, form: str) -> dict[str, str]:
    """Return `{"N": "params"}` for `("N=params",)`."""
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise LosslineError(f"{flag}: {word!r} is not {form}")
        if name in values:
            raise LosslineError(f"{flag}: {name} is given twice, as {values[name]} and as {value}; keep one")
        values[name] = value
    return values
