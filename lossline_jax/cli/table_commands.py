"""The functions of the verbs on any table of losses (fit, compare, report, predict, backtest) and of `laws`."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossline_jax import logs
from lossline_jax.cli.options import (
    BacktestOptions,
    CompareOptions,
    CompareTableOptions,
    FigureTableOptions,
    FitOptions,
    ForecastOptions,
    LawsOptions,
    PredictOptions,
    ReportTableOptions,
)
from lossline_jax.cli.paper import Paper, figure_file, save_axes, write_figures
from lossline_jax.errors import LosslineError
from lossline_jax.losses.table import read_losses
from lossline_jax.storage.files import export_json
from lossline_jax.storage.outputs import REPORT_FILES, output_folder, output_json
from lossline_jax.summary import show

if TYPE_CHECKING:
    import pandas as pd

    from lossline_jax.fit.study.results import StudyFits
    from lossline_jax.fit.study.table_laws import LawFits


def table_fit(table: str, options: FitOptions) -> None:
    """Fit lines of one loss over another, or the law of `--law`, in every group of a table."""
    _enable_compilation_cache()
    show(_fit_law(table, options, options.law) if options.law else _fit_lines(table, options))


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


def table_report(table: str, options: ReportTableOptions) -> None:
    """Write one HTML page about a table."""
    from lossline_jax.fit.study.fit_study import fit_study
    from lossline_jax.report.page import write_report

    _enable_compilation_cache()
    folder = output_folder(options.out, REPORT_FILES)
    frame, fits = _compared(table, options, fit_study)
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
    out, figure = output_json(options.out), figure_file(options.figure)
    frame = _read_table(table, options.cluster)
    check_target(options.at_params, options.at_tokens, options.at_flops, options.at_x)
    fitted = forecast(frame, options.y, level=options.level, **_columns(options))
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
    out, figure = output_json(options.out), figure_file(options.figure)
    frame = _read_table(table, options.cluster)
    result = backtest(frame, options.y, up_to=options.up_to, level=options.level, **_columns(options))
    if out is not None:
        export_json(out, result.to_json())
    show(result)
    if figure is not None:
        save_axes(draw(result), figure)


def _enable_compilation_cache() -> None:
    """Store compiled programs on the disk. This must happen before the first program of a fit is compiled."""
    from lossline_jax.pipeline.compilation_cache import enable_compilation_cache

    enable_compilation_cache()


def _compared(
    table: str, options: CompareOptions, fit_table: "Callable[..., StudyFits]"
) -> "tuple[pd.DataFrame, StudyFits]":
    """Return the table with its runs in the column run_id, and the fits.

    `fit_table` is `compare_lines` or `fit_study`.
    """
    from lossline_jax.fit.study.fit_study import Statistics
    from lossline_jax.fit.tables.rows import require_column, require_runs

    frame = _read_table(table, options.run)
    if not (options.margin > 0 and math.isfinite(options.margin)):
        raise LosslineError(f"--margin: {options.margin:g} noise floors are not a margin; give more than 0")
    if options.run is not None:
        require_column(frame, options.run)
        require_runs(frame, options.run)
        frame = frame.assign(run_id=frame[options.run])
    fits = fit_table(
        frame,
        options.x,
        options.y,
        _pairs(options.base, "--base", "FACTOR=LEVEL, such as data=wiki"),
        factors=options.factors or None,
        units=options.units or None,
        statistics=Statistics(margin_in_noise=options.margin),
        merge_copies=options.merge_copies,
    )
    return frame, fits


def _fit_lines(table: str, options: FitOptions) -> "StudyFits":
    from lossline_jax.fit.study.irreducible import IrreducibleModes
    from lossline_jax.fit.study.table_lines import Across, fit_lines

    _refuse(options, "belongs to --law; give --law too", "objective", "input")
    if options.across is None:
        _refuse(options, "belongs to --across; give --across too", "on")
    if options.x is None or len(options.y) != 1:
        raise LosslineError("a line needs --x and one --y; to fit a law of sizes or tokens name it with --law")
    if options.across is not None and not options.on:
        raise LosslineError("--on: say which columns make two models of --across a pair, such as --on params tokens")
    out = output_json(options.out)
    fits = fit_lines(
        _read_table(table, options.cluster),
        options.x,
        options.y[0],
        options.by,
        cluster=options.cluster,
        unit=options.unit,
        across=None if options.across is None else Across(options.across, options.on),
        irreducible=IrreducibleModes(
            _mode(options.e_x), _mode(options.e_y), options.form, options.params, options.tokens
        ),
        merge_copies=options.merge_copies,
    )
    if out is not None:
        export_json(out, fits.to_json())
    return fits


def _fit_law(table: str, options: FitOptions, law: str) -> "LawFits":
    from lossline_jax.fit.study.table_laws import fit_laws

    reason = "belongs to lines; name the inputs of --law by --input NAME=COLUMN ..."
    _refuse(options, reason, "x", "across", "on", "e_x", "e_y", "form", "params", "tokens")
    out = output_json(options.out)
    fits = fit_laws(
        _read_table(table, options.cluster),
        law,
        _pairs(options.input, "--input", "NAME=COLUMN, such as N=params"),
        options.y,
        by=options.by,
        cluster=options.cluster,
        objective=options.objective,
        unit=options.unit,
        merge_copies=options.merge_copies,
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


def _columns(options: ForecastOptions) -> dict[str, Any]:
    """Return the arguments of a forecast or backtest that have flags of the same names."""
    names = ("params", "tokens", "x", "by", "across", "flops", "unit", "cluster", "merge_copies")
    return {name: getattr(options, name) for name in names}


def _read_table(table: str, run: str | None) -> "pd.DataFrame":
    if not table.strip():
        raise LosslineError("TABLE: is empty; name a table, such as losses.csv")
    return read_losses(table, [run] if run else [])


def _mode(word: str) -> Any:
    """Return the number that a flag gives, or its word. `IrreducibleModes` checks the word."""
    try:
        return float(word)
    except ValueError:
        return word


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
