"""Compare the compute of the settings of a study on the losses of both axes."""

from lossline_jax.errors import LosslineError
from lossline_jax.fit.speedup.compare_compute import TABLE_COLUMNS, compare_table
from lossline_jax.fit.speedup.read_compute import COMPUTE_COLUMN, SIZE_COLUMN, TOKEN_COLUMN, with_compute
from lossline_jax.fit.speedup.speedups import FactorSpeedup
from lossline_jax.fit.study.read_settings import StudyTable
from lossline_jax.fit.tables.columns import PER_BYTE
from lossline_jax.fit.tables.rows import RUN_ID


def study_speedups(table: StudyTable) -> tuple[tuple[FactorSpeedup, ...], list[str], dict[str, str]]:
    """Return the speedups on both axes, in bits/byte or else the first unit, notes, and conventions.

    A table without compute has none.

    Args:
        table: the table by settings.
    """
    frame = table.frame
    has_compute = COMPUTE_COLUMN in frame or {SIZE_COLUMN, TOKEN_COLUMN} <= set(frame.columns)
    if RUN_ID not in frame or not has_compute:
        return (), [], {}
    unit = PER_BYTE if PER_BYTE in table.units else table.units[0]
    try:
        known, notes = with_compute(frame, table.settings, table.base, columns=TABLE_COLUMNS)
        result = compare_table(known, (table.x, table.y), unit, notes=notes)
    except LosslineError as error:
        return (), [f"compute at equal loss: {error}"], {}
    return result.factors, [f"compute at equal loss: {note}" for note in result.failures], result.conventions
