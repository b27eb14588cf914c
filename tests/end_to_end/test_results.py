"""The committed losses give again every verdict in the README of the results."""

import re

import pandas as pd
import pytest

from lossline_jax.fit.study.fit_study import fit_study
from tests.support.paths import ROOT

RESULTS = ROOT / "results"
LEVELS = {  # row of the README's table -> level of the losses table
    "speeches": "speeches",
    "Python code": "code",
    "1024 pieces": "bpe1024-wiki",
    "Mamba-2": "mamba2",
    "GPT-2": "gpt2",
    "width 32": "d32-L4",
    "width 96": "d96-L4",
    "64": "64",
    "256": "256",
    "peak rate .001": "adamw-cosine-lr0.001-wd0.033",
    "Adam with L2": "adam_l2-cosine-lr0.003-wd0.033",
    "WSD": "adamw-wsd-lr0.003-wd0.033",
}
SHORT = {  # level of the losses table -> its name on the page, without the part that all levels share
    "adamw-cosine-lr0.001-wd0.033": "lr0.001",
    "adam_l2-cosine-lr0.003-wd0.033": "adam_l2",
    "adamw-wsd-lr0.003-wd0.033": "wsd",
}
WORDS = {"moves": "moves the line", "does not move": "does not move it", "cannot tell": "cannot tell"}
UNITS = ("nats_per_token", "bits_per_byte")


@pytest.fixture(scope="module")
def readme_rows():
    """Return each level's cells in the README: gaps in both units, in noises, detects, verdict, far end, course."""
    lines = (RESULTS / "llms_on_the_line_cpu/README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {LEVELS[row[1]]: row[2:] for row in rows if row[1] in LEVELS}


@pytest.fixture(scope="module")
def computed_levels():
    """Return each level's comparison in each unit."""
    frame = pd.read_parquet(RESULTS / "llms_on_the_line_cpu/losses.parquet")
    base = frame.drop_duplicates("run_id").iloc[0]
    names = ("data", "tokenizer", "architecture", "size", "context_length", "optimiser")
    fits = fit_study(frame, "wiki", "techdoc_cloze", {name: base[name] for name in names})
    levels = {}
    for unit in UNITS:
        for comparison in fits.comparisons_in(unit):
            for level in comparison.levels:
                levels.setdefault(level.level, {})[unit] = level
    return levels


@pytest.fixture(scope="module")
def page_rows():
    """Return each level's verdict, gaps in both units and far end. Keys are the names on the page."""
    page = (RESULTS / "llms_on_the_line_cpu/report.html").read_text()
    row_html = r'<span>([^<]*)</span></th><td class="prose"[^>]*><span[^>]*>([^<]*)</span>(.*?)</tr>'
    rows = re.findall(row_html, page, re.DOTALL)
    cells = [
        re.findall(r"<span>([^<]*)</span><small>(\[[^<\]]*\])[^<]*</small>", cells_html)[:3]
        for _, _, cells_html in rows
    ]
    return {
        level: (verdict, [" ".join(cell) for cell in three])
        for (level, verdict, _), three in zip(rows, cells, strict=True)
    }


def number(text: str) -> float:
    return float(text.replace("+", "").replace("\N{MINUS SIGN}", "-"))


def numbers(cell: str) -> list[float]:
    """Return the gap and the interval of a cell such as `-.299 [-.322, -.273]`."""
    return [number(text) for text in re.split(r"[ ,\[\]]+", cell) if text]


def test_every_level_has_a_row_in_the_readme(readme_rows, computed_levels):
    assert set(readme_rows) == set(computed_levels) == set(LEVELS.values())


def test_verdicts_and_gaps_are_those_of_the_losses(readme_rows, computed_levels):
    for level, (nats, bits, in_noises, detects, verdict, far_end, course) in readme_rows.items():
        for unit, cell in zip(UNITS, (nats, bits), strict=True):
            gap = computed_levels[level][unit]
            assert gap.verdict == verdict, (level, unit)
            assert gap.gap == pytest.approx(number(cell.split()[0]), abs=6e-4)
            low, high = cell[cell.index("[") + 1 : cell.index("]")].split(", ")
            assert gap.interval == pytest.approx((number(low), number(high)), abs=2e-3)
        measured = computed_levels[level]["bits_per_byte"].course
        assert measured.word == course, level
        assert (measured.far, *measured.far_interval) == pytest.approx(numbers(far_end), abs=2e-3), level
        assert computed_levels[level]["bits_per_byte"].ratio == pytest.approx(
            number(in_noises), abs=0.06 + abs(gap.ratio) * 0.02
        )
        assert computed_levels[level]["bits_per_byte"].smallest_detectable_gap == pytest.approx(
            number(detects), abs=6e-4
        )


def test_the_page_says_what_the_readme_says(readme_rows, page_rows):
    assert set(page_rows) == {SHORT.get(level, level) for level in readme_rows}
    for level, (nats, bits, *_, verdict, far_end, course) in readme_rows.items():
        on_page, gaps = page_rows[SHORT.get(level, level)]
        word = f", {course}" if course else ""
        assert re.sub(r" by more than [^,]*", "", on_page) == WORDS[verdict] + word, level
        assert [numbers(gap) for gap in gaps] == [numbers(nats), numbers(bits), numbers(far_end)], level
