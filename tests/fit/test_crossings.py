"""The search for crossings of two curves finds all crossings, at the right places, and nothing else."""

import numpy as np
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.combine import Crossing, find_crossings
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.solve import fit_law

pytestmark = pytest.mark.usefixtures("quick_compilation")
RANGE = {"x": (1.0, 1e6)}


def power_law(scale, slope):
    return lambda inputs: scale * inputs["x"] ** slope


def test_two_power_laws_cross_in_closed_form():
    (crossing,) = find_crossings(power_law(5.0, -0.5), power_law(0.3, -0.1), RANGE)
    assert crossing.x == pytest.approx((5.0 / 0.3) ** (1 / 0.4), rel=1e-10)
    assert crossing.y == pytest.approx(5.0 * crossing.x**-0.5, rel=1e-10)
    assert crossing.lower_after == "first"
    (swapped,) = find_crossings(power_law(0.3, -0.1), power_law(5.0, -0.5), RANGE)
    assert swapped == Crossing(swapped.x, swapped.y, "second")
    assert swapped.x == pytest.approx(crossing.x, rel=1e-12)


def test_every_crossing_is_found_in_order():
    wave = lambda inputs: np.sin(np.log(inputs["x"]))
    crossings = find_crossings(wave, lambda inputs: 0.0, {"x": (1.5, np.exp(10.0))})
    assert [np.log(c.x) for c in crossings] == pytest.approx([np.pi, 2 * np.pi, 3 * np.pi])
    assert [c.lower_after for c in crossings] == ["first", "second", "first"]


def test_a_crossing_on_a_grid_point_is_found_once():
    crossings = find_crossings(lambda v: np.log10(v["x"]) - 3, lambda v: 0.0, RANGE, num_grid=7)
    assert [c.x for c in crossings] == pytest.approx([1e3])


def test_curves_that_touch_are_the_same_or_never_meet_do_not_cross():
    touching = lambda inputs: (np.log10(inputs["x"]) - 3) ** 2
    assert find_crossings(touching, lambda v: 0.0, RANGE, num_grid=7) == ()
    assert find_crossings(power_law(1.0, -0.5), power_law(1.0, -0.5), RANGE) == ()
    assert find_crossings(power_law(1.0, -0.5), power_law(2.0, -0.5), RANGE) == ()


def test_no_crossing_where_a_curve_has_no_value():
    gap = lambda inputs: np.where(inputs["x"] < 1e3, 1.0, np.where(inputs["x"] > 2e3, -1.0, np.nan))
    assert find_crossings(gap, lambda v: 0.0, RANGE) == ()


def test_the_distillation_boundary_of_two_fits():
    law = LAWS["visual transfer"]
    samples, finetuned = (v.ravel() for v in np.meshgrid(np.geomspace(1e3, 1e6, 16), np.geomspace(1e3, 1e5, 4)))
    data = {"N": np.resize([5e6, 1e7, 2e7], samples.size), "D_p": samples, "D_f": finetuned}
    # the teacher helps most with few samples, so its curve has a smaller scale and falls more slowly
    with_teacher = {"E": 0.05, "A": 40.0, "alpha": 0.2, "beta": 0.1, "gamma": 0.2}
    without = {"E": 0.05, "A": 130.0, "alpha": 0.2, "beta": 0.2, "gamma": 0.2}
    fits = [fit_law(law, law(planted, data), level=None, **data) for planted in (with_teacher, without)]
    (boundary,) = find_crossings(*fits, over={"D_p": (1e3, 1e7)}, at={"N": 5e6, "D_f": 1e4})
    assert boundary.x == pytest.approx((130 / 40) ** 10, rel=1e-4)
    assert boundary.lower_after == "second"


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"x": (1.0, 2.0), "z": (1.0, 2.0)}, "one input"),
        ({"x": (0.0, 2.0)}, "positive"),
        ({"x": (3.0, 2.0)}, "increas"),
    ],
)
def test_mistakes_get_one_line(over, message):
    with pytest.raises(LosslineError, match=message) as caught:
        find_crossings(power_law(1.0, 1.0), power_law(2.0, 1.0), over)
    assert "\n" not in str(caught.value)
