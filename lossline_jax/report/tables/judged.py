"""A table of losses with its fits in the form that the page, its figures and its finding share."""

from dataclasses import dataclass

import pandas as pd

from lossline_jax.config.study import StudyConfig
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.rows import plain_frame
from lossline_jax.formatting import shown_tree
from lossline_jax.report.content.points import as_long
from lossline_jax.report.content.run_names import Run, describe_runs
from lossline_jax.report.tables.verdicts import FactorVerdict, group_by_factor


@dataclass(frozen=True, eq=False)
class JudgedTable:
    """The losses, the runs and the factors of a table. All names are printable."""

    fits: StudyFits
    long: pd.DataFrame  # as `as_long` gives it
    runs: dict[str, Run]  # as `describe_runs` gives them
    factors: list[FactorVerdict]  # as `group_by_factor` gives them


def judged_table(frame: pd.DataFrame, fits: StudyFits, study: StudyConfig | None) -> JudgedTable:
    """Return a table with its runs and factors described.

    Args:
        frame: the losses table that `fits` was made on, long or wide.
        fits: the fits of the table.
        study: the study of the table. None: a table without a study.
    """
    fits = fits.as_shown()
    long = as_long(_printable_frame(plain_frame(frame)), fits)
    runs = describe_runs(long, fits, study.runs if study else ())
    names = {(run.factor, run.level): run.name for run in runs.values()}
    return JudgedTable(fits, long, runs, group_by_factor(fits.comparisons, names))


def _printable_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with printable texts and column names."""
    texts = frame.select_dtypes(include=["object", "string", "category"])
    shown_columns = {
        str(name): column.map(shown_tree)
        for name, column in texts.items()
        if any(isinstance(value, str) and not value.isprintable() for value in column.unique())
    }
    return frame.assign(**shown_columns).rename(columns=shown_tree)
