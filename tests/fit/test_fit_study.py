"""A study is fitted in steps. A verb runs only the steps whose results it shows."""

import shutil

import pytest

from lossline_jax.cli.main import main
from lossline_jax.fit.study import fit_study as steps
from lossline_jax.fit.study.fit_study import Statistics, compare_lines, fit_study
from lossline_jax.fit.study.read_settings import read_settings
from lossline_jax.fit.study.setting_lines import fit_setting_lines
from tests.support import planted_figures as planted
from tests.support.paths import TESTS

OLD_STUDY = TESTS / "golden" / "old_study"
BEYOND_COMPARING = ("fit_compute_laws", "fit_panel_lines", "fit_isoflops")


@pytest.fixture
def only_comparing(monkeypatch):
    """Make every step but those of a comparison fail."""

    def refuse(*_, **__):
        raise AssertionError("a comparison needs no such fit")

    for name in BEYOND_COMPARING:
        monkeypatch.setattr(steps, name, refuse)


@pytest.fixture(scope="module")
def table():
    return planted.table()


@pytest.mark.usefixtures("only_comparing")
def test_comparing_a_table_fits_no_line_of_a_figure_and_no_compute_law(table, tmp_path, capsys):
    table.to_csv(tmp_path / "t.csv", index=False)
    arguments = [str(tmp_path / "t.csv"), "--x", planted.X, "--y", planted.Y]
    main(["table", "compare", *arguments])
    assert "Does it move the line?" in capsys.readouterr().out
    with pytest.raises(AssertionError):
        main(["table", "report", *arguments, "--out", str(tmp_path / "page")])


@pytest.mark.usefixtures("only_comparing")
def test_comparing_a_study_fits_nothing_else_and_leaves_its_fits_alone(tmp_path, capsys):
    folder = shutil.copytree(OLD_STUDY, tmp_path / "old_study")
    before = (folder / "fits" / "fits.json").read_bytes()
    main(["compare", str(folder)])
    assert "Does it move the line?" in capsys.readouterr().out
    assert (folder / "fits" / "fits.json").read_bytes() == before
    with pytest.raises(AssertionError):
        main(["fit", str(folder)])


def test_a_comparison_says_what_the_whole_fit_says(table):
    compared = compare_lines(table, planted.X, planted.Y, planted.BASE, statistics=Statistics(num_resamples=5))
    fitted = fit_study(table, planted.X, planted.Y, planted.BASE, statistics=Statistics(num_resamples=5))
    assert compared.lines == fitted.lines
    assert compared.comparisons == fitted.comparisons
    assert compared.failures == fitted.failures[: len(compared.failures)]
    assert (compared.panel_lines, compared.compute_fits, compared.isoflops) == ((), (), ())
    assert fitted.panel_lines
    assert fitted.compute_fits


def test_each_step_returns_its_results_and_its_notes(table):
    unknown = table.copy()
    first = unknown["run_id"].iloc[0]
    unknown.loc[unknown["run_id"] == first, "data"] = "unknown"
    study, notes = read_settings(unknown, planted.X, planted.Y, planted.BASE)
    assert notes == [f"runs {first}: data not known: not compared"]
    lines, notes = fit_setting_lines(study, study.units[0], num_resamples=5, seed=0)
    assert len(lines.lines) == len(lines.cells) == len(study.settings)
    assert notes == []
