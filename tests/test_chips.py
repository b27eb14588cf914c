"""Hours of a chip are FLOPs over what it is assumed to do, and the plan says so."""

import re
from pathlib import Path

import pytest

from lossline_jax.chips import CHIPS, chip_hours
from lossline_jax.cli import main
from lossline_jax.errors import LosslineError

TINY = str(Path(__file__).with_name("tiny_study.py"))


def test_chip_hours_by_hand():
    by_name = {chip.name: chip for chip in CHIPS}
    # 989e12 x 3600 x .4 = 1.424e18 FLOPs an hour
    assert chip_hours(1.42416e18, by_name["H100 SXM"]) == pytest.approx(1.0)
    assert chip_hours(1.42416e18, by_name["H100 SXM"], 0.1) == pytest.approx(4.0)
    assert chip_hours(7.092e17, by_name["TPU v5e"], 1.0) == pytest.approx(1.0)
    assert chip_hours(8.262e17, by_name["TPU v5p"], 0.5) == pytest.approx(1.0)


@pytest.mark.parametrize("utilisation", [0.0, -0.4, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(utilisation):
    with pytest.raises(LosslineError, match="--utilisation"):
        chip_hours(1e18, CHIPS[0], utilisation)


def test_the_plan_ends_in_chip_hours_that_are_its_flops_over_the_chip(capsys):
    def plan(*flags):
        """Training FLOPs, hours of an H100 and the last line."""
        main(["plan", TINY, "--tokens", "1_000_000_000_000", *flags])
        out = capsys.readouterr().out
        hours = re.search(r"\nH100 SXM +989 +([\d.,]+) ", out)[1]
        return (
            float(re.search(r"([\d.e+]+) training FLOPs", out)[1]),
            float(hours.replace(",", "")),
            out.splitlines()[-1],
        )

    flops, hours, last = plan()
    assert "40% of its peak: an assumption" in last
    assert hours == pytest.approx(flops / (989e12 * 0.4 * 3600), rel=0.02)
    _, at_half, last = plan("--utilisation", "0.2")
    assert "20% of its peak: an assumption" in last
    assert at_half == pytest.approx(2 * hours, rel=0.02)


def test_the_plan_refuses_a_share_above_one_in_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", TINY, "--utilisation", "40"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("lossline: --utilisation: 40 is no share")
