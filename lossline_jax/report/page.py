"""The report: one HTML file that needs no other file, and its figures as files. Read `write_report` first."""

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import pandas as pd
from etils import epath
from markupsafe import Markup

from lossline_jax import logs
from lossline_jax.config.study import StudyConfig
from lossline_jax.fit.study.fit_study import LARGE_ROWS
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.formatting import shown, shown_tree
from lossline_jax.report.content.finding import finding, missing_base
from lossline_jax.report.content.points import units_of
from lossline_jax.report.content.sections import configurations, factors_json, facts, filters, json_in_page, versions
from lossline_jax.report.figures.emphasis import emphasised
from lossline_jax.report.figures.figures import Figures, all_figures, counted_in
from lossline_jax.report.figures.gallery import GallerySection
from lossline_jax.report.figures.plot import KeyEntry, Plot, draw_sheet, panel_svgs, swatch
from lossline_jax.report.figures.style import css_variables
from lossline_jax.report.figures.svg import write_figure
from lossline_jax.report.tables.downloads import csv_text, download, downloads, table_download
from lossline_jax.report.tables.fits import compute_table, conventions, laws_without_curve, lines_table
from lossline_jax.report.tables.judged import JudgedTable, judged_table
from lossline_jax.report.tables.speedups import speedups_table
from lossline_jax.report.tables.table import corpora_table, losses_table, runs_table
from lossline_jax.report.tables.verdicts import noise_sentence, verdicts_table
from lossline_jax.storage.files import make_folder, write_atomic


def write_report(
    frame: pd.DataFrame,
    fits: StudyFits,
    report_folder: epath.Path,
    title: str,
    *,
    study: StudyConfig | None = None,
    steps: Mapping[str, Sequence[Mapping]] | None = None,
    corpora: Mapping[str, Mapping] | None = None,
    progress: str = "",
) -> epath.Path:
    """Write `report.html` and `figures/*.png, *.pdf, *.svg` into `report_folder`.

    Equal arguments and library versions give equal bytes: the page carries no date.

    Args:
        frame: the losses table that `fits` was made on, long or wide.
        fits: the fits of the table.
        report_folder: the folder to write into. It is created if it is missing.
        title: name of the study or of the table.
        study: the study of the table. None: a table without a study.
        steps: rows of steps.jsonl by run id; runs without rows may be missing. None: no run has rows.
        corpora: manifest of each corpus by name. None: no manifest is known.
        progress: the part of an unfinished study that the table has: `3 of 7 runs are complete`. Empty: all of it.

    Returns:
        The path of the page.

    Raises:
        LosslineError: a file cannot be written.
    """
    folder = make_folder(report_folder / "figures", "--out")
    table = judged_table(frame, fits, study)
    content = _values(table, study=study, steps=_shown_steps(steps), figures_folder=folder, progress=progress)
    content |= {"title": shown(title), "corpora": corpora_table(shown_tree(corpora or {}))}
    path = report_folder / "report.html"
    write_atomic(path, template().render(content, downloads=downloads(frame, fits)))
    return path


def figures_of(
    frame: pd.DataFrame, fits: StudyFits, study: StudyConfig | None, steps: Mapping[str, Sequence[Mapping]] | None
) -> Figures:
    """Return the figures of a table, as the page shows them. The arguments are those of `write_report`."""
    return _figures(judged_table(frame, fits, study), _shown_steps(steps))


def _figures(table: JudgedTable, steps: Mapping[str, Sequence[Mapping]]) -> Figures:
    return all_figures(table.fits, table.long, table.runs, table.factors, steps=steps)


def _shown_steps(steps: Mapping[str, Sequence[Mapping]] | None) -> dict[str, Sequence[Mapping]]:
    return {shown(run_id): rows for run_id, rows in (steps or {}).items()}


def _values(
    table: JudgedTable,
    *,
    study: StudyConfig | None,
    steps: Mapping[str, Sequence[Mapping]],
    figures_folder: epath.Path,
    progress: str,
) -> dict[str, Any]:
    """Write the figures into `figures_folder` and return the values of the template."""
    fits, long, runs, judged = table.fits, table.long, table.runs, table.factors
    figures = _figures(table, steps)
    names = {(run.factor, run.level): run.name for run in runs.values()}

    def written(plot: Plot | None) -> dict[str, Any] | None:
        return _written(plot, figures_folder, table) if plot else None

    return {
        "question": shown(study.question if study else "") or f"What moves the line of {fits.y} against {fits.x}?",
        "finding": finding(judged, fits.x, fits.y, missing_base(fits), progress=progress),
        "facts": facts(long, runs, counted_in(fits)),
        "verdicts": verdicts_table(judged, emphasised(runs, judged)),
        "noise": noise_sentence(judged),
        "speedup_figures": [write_plot(plot, figures_folder) for plot in figures.speedups],
        "speedups": speedups_table(fits.speedups, emphasised(runs, judged), names),
        "forest": written(figures.forest),
        "trends": written(figures.trends),
        "residual": written(figures.residual),
        "line": written(figures.line),
        "sections": [_section(section, figures_folder, table) for section in figures.sections],
        "training": written(figures.training),
        "lines": lines_table(fits, names),
        "compute": compute_table(fits),
        "failures": [*fits.failures, *laws_without_curve(fits)],
        "conventions": conventions(fits),
        "runs": runs_table(long, runs, steps),
        "losses": losses_table(long, runs, units_of(fits)),
        "configs": configurations(runs),
        "versions": versions(),
        "x": fits.x,
        "losses_note": _losses_note(fits),
        "light": Markup(css_variables(dark=False)),
        "dark": Markup(css_variables(dark=True)),
        "css": Markup(_package_text("page.css")),
        "js": Markup(_package_text("page.js")),
        "filters": filters(long, runs),
        "factors": factors_json(long, runs),
        "names": json_in_page({run_id: run.title for run_id, run in runs.items()}),
        "csv": table_download,
    }


def _written(plot: Plot, figures_folder: epath.Path, table: JudgedTable) -> dict[str, Any]:
    """Write the files of a plot. Drawing a large table takes many seconds, so each of its plots is named."""
    if len(table.long) > LARGE_ROWS:
        logs.info(f"drawing {plot.name}")
    return write_plot(plot, figures_folder)


def _section(section: GallerySection, figures_folder: epath.Path, table: JudgedTable) -> dict[str, Any]:
    exhibits = [
        {"plots": [_written(plot, figures_folder, table) for plot in exhibit.plots], "units": exhibit.units}
        for exhibit in section.exhibits
    ]
    return {
        "id": section.id,
        "title": section.title,
        "text": section.text,
        "exhibits": exhibits,
        "is_row": section.is_row,
    }


def write_plot(plot: Plot, figures_folder: epath.Path) -> dict[str, Any]:
    """Write the files of a plot and return its values for the template.

    Args:
        plot: the plot to draw.
        figures_folder: the folder of the figure files.
    """
    sheet = draw_sheet(plot)
    write_figure(sheet.figure, figures_folder, plot.name)
    drawings, table = panel_svgs(plot, sheet)
    return {
        "name": plot.name,
        "title": plot.title,
        "caption": plot.caption,
        "columns": plot.columns,
        "drawings": [Markup(svg) for svg in drawings],
        "csv": download(f"{plot.name}.csv", csv_text(table, float_format="%.7g")),
        "key": [_key_item(entry) for entry in plot.key],
    }


def _key_item(entry: KeyEntry) -> dict[str, Any]:
    return {
        "swatch": swatch(entry.style),
        "prefix": "" if entry.factor == "base" else entry.factor,
        "name": entry.level,
        "remark": entry.remark,
    }


def _losses_note(fits: StudyFits) -> str:
    labels = [unit.label for unit in units_of(fits)]
    below = "" if len(labels) == 1 else f", below it {labels[1]} and a task’s accuracy"
    return f"Each cell is the loss in {labels[0]}{below}."


@functools.cache
def template() -> jinja2.Template:
    """Return the template of the page. It escapes every value that is not Markup."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_package_text("page.html.jinja"))


def _package_text(name: str) -> str:
    return resources.files("lossline_jax.report").joinpath("assets", name).read_text(encoding="utf-8")
