"""The committed losses of each study of an intervention give again every row in the README of its results."""

import re

import pytest

from lossline_jax.fit.study.fit_study import fit_study
from lossline_jax.fit.study.panels import CELL, POOLED
from lossline_jax.losses.table import read_losses
from tests.end_to_end.test_results import RESULTS, WORDS, numbers

STUDIES = ("optimisers_cpu", "precision_cpu", "repetition_cpu")
UNIT = "nats_per_token"  # all runs of a study have one tokenizer, so bits per byte say the same


def readme_rows(study):
    """Return the cells after each level: gap, in noises, detects, verdict, far end, course."""
    lines = (RESULTS / study / "README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\|[^|]*\| `", line)]
    return {row[1].strip("`"): row[2:] for row in cells}


def computed_levels(study):
    frame = read_losses(str(RESULTS / study / "losses.parquet"))
    base = frame.drop_duplicates("run_id").iloc[0]
    fits = fit_study(frame, "wiki", "techdoc", {name: base[name] for name in (*CELL, *POOLED)})
    return {level.level: level for comparison in fits.comparisons_in(UNIT) for level in comparison.levels}


@pytest.mark.parametrize("study", STUDIES)
def test_the_readme_has_every_level_with_its_numbers(study):
    rows, levels = readme_rows(study), computed_levels(study)
    assert set(rows) == set(levels)
    for name, (gap, in_noises, detects, verdict, far_end, course) in rows.items():
        level = levels[name]
        assert verdict == level.verdict, name
        assert numbers(gap) == pytest.approx([level.gap, *level.interval], abs=2e-3), name
        assert numbers(in_noises) == pytest.approx([level.ratio], abs=0.06 + 0.02 * abs(level.ratio)), name
        assert numbers(detects) == pytest.approx([level.smallest_detectable_gap], abs=6e-4), name
        assert (course or None) == (level.course.word or None), name
        assert numbers(far_end) == pytest.approx([level.course.far, *level.course.far_interval], abs=2e-3), name


@pytest.mark.parametrize("study", STUDIES)
def test_the_page_has_the_verdicts_of_the_readme(study):
    page = (RESULTS / study / "report.html").read_text()
    words = re.findall(r'</span></th><td class="prose"[^>]*><span[^>]*>([^<]*)</span>', page)
    expected = [
        WORDS[verdict] + (f", {course}" if course else "") for *_, verdict, _, course in readme_rows(study).values()
    ]
    assert sorted(re.sub(r" by more than [^,]*", "", word) for word in words) == sorted(expected)


def test_the_pairs_of_the_repetition_study_are_those_of_its_losses():
    """Each pair of 16 epochs and one epoch is compared by itself, with all checkpoints and up to the lowest loss."""
    folder = RESULTS / "repetition_cpu"
    losses = read_losses(str(folder / "losses.parquet"))
    losses = losses[losses.eval_set.isin(["wiki", "techdoc"]) & losses.data.isin(["wiki", "wiki-u37500"])]
    rows = re.findall(r"^\| `(llama\S*)` `(\S*)` \|(.*)\|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 5
    for architecture, size, cells in rows:
        pair = losses[(losses.architecture == architecture) & (losses["size"] == size)]
        wiki = pair[pair.eval_set == "wiki"].sort_values("step")
        lowest_step = wiki.loc[wiki.groupby("run_id")[UNIT].idxmin()].set_index("run_id").step
        expected = []
        for part in (pair, pair[pair.step <= pair.run_id.map(lowest_step)]):
            (comparison,) = fit_study(part, "wiki", "techdoc", {"data": "wiki"}).comparisons_in(UNIT)
            (level,) = comparison.levels
            expected += [level.gap, *level.interval, level.course.far]
        by_run = wiki.groupby(["data", "run_id"])[UNIT]
        last, lowest = by_run.last().groupby("data").mean(), by_run.min().groupby("data").mean()
        expected += [last["wiki-u37500"], lowest["wiki-u37500"], last["wiki"]]
        assert [number for cell in cells.split("|") for number in numbers(cell)] == pytest.approx(expected, abs=2e-3)


def test_the_costs_of_rounding_are_those_of_the_losses():
    folder = RESULTS / "precision_cpu"
    losses = read_losses(str(folder / "losses.parquet"))
    wiki = losses[losses.eval_set == "wiki"].sort_values("step")
    last = wiki.groupby(["size", "seed", "architecture"])[UNIT].last().unstack("architecture")
    costs = last.sub(last["llama"], axis=0).groupby("size").mean()
    for width in (32, 64, 128):
        (row,) = re.findall(rf"^\| width {width} \|(.*)\|", (folder / "README.md").read_text(), re.MULTILINE)
        base, *cells = (number for cell in row.split("|")[:5] for number in numbers(cell))
        assert base == pytest.approx(last["llama"][f"d{width}-L4"].mean(), abs=6e-4)
        expected = costs.loc[f"d{width}-L4", ["llama-w8", "llama-w6", "llama-w4", "llama-w3"]]
        assert cells == pytest.approx(expected.tolist(), abs=6e-4)
