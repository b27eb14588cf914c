"""Name the settings of a table that have no usable losses where a comparison needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

from lossline_jax.fit.compare.setting_line import SettingLine, confounders
from lossline_jax.fit.tables.settings import Setting, Settings, differences


@dataclass(frozen=True)
class AbsentSetting:
    """A setting of the table that has no line."""

    setting: Setting
    reason: str  # such as the row and the value that is no loss


def absent_levels(cells: Sequence[SettingLine], absent: Sequence[AbsentSetting], factor: str) -> list[str]:
    """Return the levels of a factor that only settings without a line have.

    Args:
        cells: every setting with its points and fitted line.
        absent: the settings without a line.
        factor: the factor.
    """
    known = {cell.levels[factor] for cell in cells}
    return list(
        dict.fromkeys(item.setting.levels[factor] for item in absent if item.setting.levels[factor] not in known)
    )


def note_on_lost_pairs(
    cells: Sequence[SettingLine], absent: Sequence[AbsentSetting], *, factor: str, level: str, reference: str
) -> str:
    """Return how many pairs of a level are lost because a setting has no line, and why. Empty: none.

    Args:
        cells: every setting with its points and fitted line.
        absent: the settings without a line.
        factor: the factor in which the settings of a pair differ.
        level: level of the factor that is compared.
        reference: level of the factor that `level` is compared with.
    """
    if not absent:  # looking for pairs takes the square of the number of settings
        return ""
    settings = Settings((*(cell.setting for cell in cells), *(item.setting for item in absent)))
    pairs = settings.pairs(factor, level, reference)
    lost = [pair for pair in pairs if max(pair) >= len(cells)]
    if not lost:
        return ""
    numbers = dict.fromkeys(number - len(cells) for pair in lost for number in pair if number >= len(cells))
    reasons = "; ".join(dict.fromkeys(absent[number].reason for number in numbers))
    return f"{len(lost)} of {len(pairs)} pairs left out, without usable losses: {reasons}"


def why_no_pair(
    cells: Sequence[SettingLine], absent: Sequence[AbsentSetting], *, factor: str, level: str, reference: str
) -> str:
    """Return the reason why no setting of the level has a partner of the reference level.

    Args:
        cells: every setting with its points and fitted line.
        absent: the settings without a line.
        factor: the factor in which the settings of a pair differ.
        level: level of the factor that is compared.
        reference: level of the factor that `level` is compared with.
    """
    of_level = [cell.levels for cell in cells if cell.levels[factor] == level]
    if not of_level:
        reasons = dict.fromkeys(item.reason for item in absent if item.setting.levels[factor] == level)
        return f"its setting has no usable losses: {'; '.join(reasons)}"
    for item in absent:
        unusable = item.setting.levels
        if unusable[factor] == reference and any(differences(levels, unusable) == [factor] for levels in of_level):
            return f"the setting of {reference} to compare it with has no usable losses: {item.reason}"
    names = " and ".join(confounders(cells, factor, level, reference))
    return f"confounded with {names}: no two settings differ in {factor} alone ({reference} and {level})"
