"""Declared laws are complete, and a new one is little work."""

import numpy as np
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves import CHINCHILLA, KAPLAN, LAWS, Law, Parameter
from lossline_jax.fit.solve import solve

X = np.linspace(2.5, 6.0, 40)


def test_a_law_of_ones_own_takes_ten_lines():
    exponential = Law(
        name="error law",
        formula="err = eps - k exp(-gamma L)",
        inputs=("L",),
        output="err",
        parameters=(
            Parameter("eps", "1", 0.0, 2.0, linear=True),
            Parameter("k", "1", 1e-6, 1e3, start=(1e-2, 10.0), linear=True, log=True),
            Parameter("gamma", "1 / nat", 1e-3, 10.0, log=True),
        ),
        function=lambda p, v: p["eps"] - p["k"] * np.exp(-p["gamma"] * v["L"]),
        source="Gadre et al. 2024 (arXiv 2403.08540)",
    )
    err = 0.857 - 2.2 * np.exp(-0.7146 * X)
    fit = solve(exponential, {"L": X}, err)
    assert fit.status == "converged"
    assert fit.parameters == pytest.approx({"eps": 0.857, "k": 2.2, "gamma": 0.7146}, rel=1e-4)
    assert fit.predict({"L": X}, exponential) == pytest.approx(err)
    with pytest.raises(LosslineError, match="not declared"):
        fit.predict({"L": X})


@pytest.mark.parametrize("law", [CHINCHILLA, KAPLAN])
def test_rescaling_changes_the_parameters_and_not_the_curve(law):
    planted = {"E": 1.7, "A": 4e6, "B": 2e7, "alpha": 0.34, "beta": 0.36}
    scale = {"N": 3e7, "D": 2e9}
    values = {"N": np.geomspace(0.1, 10, 5), "D": np.geomspace(10, 0.1, 5)}
    raw = {name: values[name] * scale[name] for name in values}
    assert law.function(law.rescale(planted, scale), raw) == pytest.approx(law.function(planted, values))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_declarations_are_complete(law):
    assert law.source
    assert all(p.unit for p in law.parameters)
    assert all(p.lower > 0 for p in law.parameters if p.log)
    assert set(law.rescaled) <= set(law.names)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_linear_parameters_enter_linearly(law):
    generator = np.random.Generator(np.random.PCG64(0))
    inputs = {name: generator.uniform(3.0, 5.0, 6) for name in law.inputs}
    linear = [p.name for p in law.parameters if p.linear]
    at = {p.name: generator.uniform(0.3, 0.9) for p in law.parameters}
    one, two = at | dict.fromkeys(linear, 0.4), at | dict.fromkeys(linear, 1.6)
    middle = at | dict.fromkeys(linear, 1.0)
    halfway = (law.function(one, inputs) + law.function(two, inputs)) / 2
    assert law.function(middle, inputs) == pytest.approx(halfway)
