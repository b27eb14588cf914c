"""Chip hours are FLOPs divided by the assumed FLOPs an hour, and the plan states the assumption."""

import re

import pytest

from lossline_jax.cli.main import main
from lossline_jax.distributed.chips import CHIPS, chip_hours, chip_named, chip_of
from lossline_jax.errors import LosslineError
from tests.support.paths import SUPPORT

TINY = str(SUPPORT / "tiny_study.py")


def test_chip_hours_by_hand():
    by_name = {chip.name: chip for chip in CHIPS}
    # 989e12 x 3600 x .4 = 1.424e18 FLOPs an hour
    assert chip_hours(1.42416e18, by_name["H100 SXM"]) == pytest.approx(1.0)
    assert chip_hours(1.42416e18, by_name["H100 SXM"], 0.1) == pytest.approx(4.0)
    assert chip_hours(7.092e17, by_name["TPU v5e"], 1.0) == pytest.approx(1.0)
    assert chip_hours(8.262e17, by_name["TPU v5p"], 0.5) == pytest.approx(1.0)


def test_a_chip_is_found_by_its_short_name_and_by_what_jax_calls_it():
    assert chip_named("V5P") is chip_of("TPU v5p") is chip_of("TPU v5")
    assert chip_of("TPU v5 lite") is chip_named("v5e") is not chip_named("v5p")
    assert chip_of("cpu") is chip_of("NVIDIA H100 PCIe") is None  # not the SXM chip, so no utilisation is given
    kinds = [kind for chip in CHIPS for kind in chip.device_kinds]
    assert len(kinds) == len(set(kinds))
    for chip in CHIPS:
        assert chip_named(chip.short) is chip
        assert 15e9 < chip.hbm_bytes < 2e11
        # the dollars for one hour of 1 petaFLOP/s were in this range for all recent generations
        assert 2 < chip.dollars_per_hour / chip.peak_flops_per_second * 1e15 < 20


def test_an_unknown_chip_is_refused_with_the_names_there_are():
    with pytest.raises(LosslineError, match=r"'v5x' is not known; did you mean 'v5[pe]'\?; there are v4, v5e, "):
        chip_named("v5x")


@pytest.mark.parametrize("utilisation", [0.0, -0.4, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(utilisation):
    with pytest.raises(LosslineError, match="--utilisation"):
        chip_hours(1e18, CHIPS[0], utilisation)


def test_the_plan_ends_in_chip_hours_that_are_its_flops_over_the_chip(capsys):
    def plan(*flags):
        """Return the training FLOPs, the hours of an H100 and the last line of the output."""
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
    assert capsys.readouterr().err.startswith("lossline: --utilisation: 40 is not a share")
