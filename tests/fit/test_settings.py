"""Comparisons of lines and panels of figures use the same settings, which are equal in all factors but one."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.fit.study.panels import matched_panels, runs_of
from lossline_jax.fit.tables.rows import open_rows
from lossline_jax.fit.tables.settings import FACTORS, Setting, Settings, find_settings

BASE = {"data": "wiki", "tokenizer": "bpe", "architecture": "llama", "size": "L12"}


def setting(params=(np.nan, np.nan), **changes):
    return Setting(BASE | changes, params)


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (setting(data="code"), ["data"]),
        (setting(size="L24"), ["size"]),
        (setting((420e6, 140e6), architecture="mamba", size="L24"), ["architecture"]),
        (setting((420e6, np.nan), architecture="mamba", size="L24"), ["architecture"]),  # one count is enough
        (setting((900e6, 140e6), architecture="mamba", size="L24"), ["architecture"]),  # the nearer count decides
        (setting((900e6, 800e6), architecture="mamba", size="L24"), ["architecture", "size"]),
        (setting(architecture="mamba", size="L24"), ["architecture", "size"]),  # no count is known
        (setting((420e6, 140e6), data="code", size="L24"), ["data", "size"]),  # data does not change the size
        (setting((420e6, 140e6), tokenizer="bytes", architecture="mamba", size="L24"),
         ["tokenizer", "architecture", "size"]),
    ],
)  # fmt: skip
def test_the_factors_that_differ(other, names):
    assert other.differing(setting((416e6, 138e6))) == names


def test_a_setting_is_in_one_pair_and_the_nearest_sizes_make_it():
    sizes = [("llama", "L12", 416e6), ("llama", "L8", 365e6), ("mamba", "L24", 420e6), ("mamba", "L16", 367e6)]
    settings = Settings(tuple(setting((p, p / 3), architecture=a, size=s) for a, s, p in sizes))
    assert settings.pairs("architecture", "mamba", "llama") == [(0, 2), (1, 3)]
    assert settings.have_partners("architecture") == [True] * 4
    assert settings.pairs("data", "wiki", "code") == []
    assert settings.have_partners("size") == [True] * 4


def test_lines_and_figures_match_the_same_runs():
    rows = [
        BASE | {"run_id": "a", "params_total": 416e6},
        BASE | {"run_id": "b", "architecture": "mamba", "size": "L24", "params_total": 420e6},
        BASE | {"run_id": "c", "architecture": "mamba", "size": "L48", "params_total": 900e6},
    ]
    frame = pd.DataFrame(rows)
    _, settings, notes = find_settings(open_rows(frame), list(BASE))
    assert notes == []
    assert settings.pairs("architecture", "mamba", "llama") == [(0, 1)]
    ((panel, runs),) = matched_panels(runs_of(frame), "architecture")
    assert panel == {"data": "wiki", "tokenizer": "bpe"}
    assert list(runs["run_id"]) == ["a", "b"]
    assert set(BASE) <= set(FACTORS)
