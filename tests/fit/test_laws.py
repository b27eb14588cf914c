"""Declared laws are complete and compute what they declare. A new law takes few lines."""

import jax
import numpy as np
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law, Parameter
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.laws.parameters import amount, exponent
from lossline_jax.fit.laws.published_values import PUBLISHED
from lossline_jax.fit.solve import fit_law
from tests.support import planted_laws

pytestmark = pytest.mark.usefixtures("quick_compilation")
every_law = pytest.mark.parametrize("case", planted_laws.CASES.values(), ids=planted_laws.CASES.keys())
MIDDLE = 0.5


def middle(case):
    """Return the law, parameters in the middle of their typical ranges, and inputs."""
    law, planted = case
    parameters = planted.parameters([MIDDLE] * len(planted.ranges))
    return law, parameters, {name: np.asarray(planted.inputs[name], float) for name in law.inputs}


def test_every_declared_law_is_tested():
    missing = set(LAWS) - set(planted_laws.PLANTED)
    assert not missing, f"add {sorted(missing)} to PLANTED of tests/support/planted_laws.py, with typical values"
    assert set(planted_laws.PLANTED) <= set(LAWS)


@every_law
def test_declarations_are_complete(case):
    law, planted = case
    assert law.source
    assert law.formula
    assert all(law.inputs.values())
    assert set(planted.ranges) | set(planted.fixed) == set(law.names)
    assert len(set(law.names)) == len(law.names)
    assert set(law.normalise) <= set(law.inputs)
    for p in law.parameters:
        assert p.unit
        assert p.lower < p.upper
        assert p.lower > 0 or not p.log
        assert p.below in (None, law.output, *law.inputs)
        first, last = p.start or (p.lower, p.upper)
        assert p.lower <= first < last <= p.upper
        # a range without an upper end must be limited by the smallest value of the data
        assert np.isfinite(last) or p.below


@every_law
def test_scales_need_only_parameters_without_a_scale(case):
    law, parameters, _ = middle(case)
    free = {name: value for name, value in parameters.items() if name not in law.scaled}
    scales = dict.fromkeys(law.normalise, 10.0)
    factors = [p.scale(free, scales) for p in law.parameters if p.scale]
    assert all(factor > 0 for factor in factors)
    assert bool(factors) == bool(law.normalise)


@every_law
def test_rescaling_changes_the_parameters_and_not_the_curve(case):
    law, natural, inputs = middle(case)
    scales = {name: 3.7 * (k + 1) for k, name in enumerate(law.normalise)}
    fitted = {p.name: natural[p.name] / (p.scale(natural, scales) if p.scale else 1.0) for p in law.parameters}
    divided = {name: values / scales.get(name, 1.0) for name, values in inputs.items()}
    curve = law(natural, inputs)
    assert law(fitted, divided) == pytest.approx(curve, rel=1e-10, abs=1e-12)
    assert law(law.rescale(fitted, scales), inputs) == pytest.approx(curve, rel=1e-10, abs=1e-12)


@every_law
def test_linear_parameters_enter_linearly_together(case):
    law, parameters, inputs = middle(case)
    linear = [p.name for p in law.parameters if p.linear]
    ends = [parameters | {name: factor * parameters[name] for name in linear} for factor in (0.8, 1.3)]
    between = parameters | {name: 1.05 * parameters[name] for name in linear}
    halfway = (law(ends[0], inputs) + law(ends[1], inputs)) / 2
    assert law(between, inputs) == pytest.approx(halfway, rel=1e-10, abs=1e-12)


@every_law
def test_curves_are_elementwise_and_defined_on_typical_inputs(case):
    law, parameters, inputs = middle(case)
    curve = law(parameters, inputs)
    assert curve.dtype == np.float64
    assert np.isfinite(curve).all()
    one_by_one = [float(law(parameters, {name: v[k] for name, v in inputs.items()})) for k in range(3)]
    assert curve[:3] == pytest.approx(one_by_one, rel=1e-13)
    if law.defined is not None:
        assert np.all(law.defined(parameters, inputs))


@pytest.mark.slow
@every_law
def test_derivatives_agree_with_differences(case):
    law, parameters, inputs = middle(case)
    few = {name: values[:: max(1, values.size // 4)] for name, values in inputs.items()}
    with jax.enable_x64(True):
        slopes = jax.jit(jax.jacfwd(lambda p: law.function(p, few)))(parameters)
    for name, value in parameters.items():
        step = 1e-5 * abs(value)
        rise = law(parameters | {name: value + step}, few) - law(parameters | {name: value - step}, few)
        size = np.abs(law(parameters, few)).max() / abs(value)
        assert np.asarray(slopes[name]) == pytest.approx(rise / (2 * step), rel=1e-4, abs=1e-7 * size), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values_name_every_parameter(name):
    law = LAWS[name]
    for values in PUBLISHED[name].values():
        assert set(values) == set(law.names)
        assert all(p.lower <= values[p.name] <= p.upper for p in law.parameters if p.scale is None)


def test_a_law_of_ones_own_takes_ten_lines():
    saturating = Law(
        name="saturating growth",
        formula="y = top - k exp(-x/tau)",
        inputs={"x": "days"},
        output="y",
        parameters=(Parameter("top", "1", 0.0, 2.0, linear=True), amount("k", "1"), exponent("tau", 0.01, 100.0)),
        function=lambda p, v: p["top"] - p["k"] * jax.numpy.exp(-v["x"] / p["tau"]),
        source="test",
    )
    x = np.linspace(2.5, 6.0, 40)
    y = 0.857 - 2.2 * np.exp(-x / 1.4)
    fit = fit_law(saturating, y, x=x, level=None)
    assert fit.status == "converged"
    assert fit.parameters == pytest.approx({"top": 0.857, "k": 2.2, "tau": 1.4}, rel=1e-6)
    assert fit.predict(x=x, law=saturating) == pytest.approx(y)
    with pytest.raises(LosslineError, match="not declared"):
        fit.predict(x=x)
