"""An input outside the range or in another unit than a law needs is named, with what to do."""

import numpy as np
import pytest

from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.solve import fit_law
from tests.support import planted_laws

OUTSIDE = [
    ("sparsity", "S", 1.0),
    ("sparsity", "S", 87.5),
    ("p2", "rho", 0.0),
    ("p2", "rho", 1.0),
    ("compression", "r", 1.0),
    ("compression", "L0", 0.0),
    ("performance", "T", 15e12),
    ("performance", "S", 7e9),
    ("precision", "P_w", 0.0),
    ("critical batch", "L", 0.0),
    ("routing", "E", 0.0),
]


@pytest.mark.parametrize(("law", "name", "value"), OUTSIDE)
def test_an_input_outside_its_range_is_named(law, name, value):
    planted = planted_laws.CASES[law][1]
    parameters = planted.parameters([0.5] * len(planted.ranges))
    y = LAWS[law](parameters, planted.inputs)
    inputs = {input_name: np.array(values, float) for input_name, values in planted.inputs.items()}
    inputs[name][3] = value
    fit = fit_law(law, y, level=None, **inputs)
    assert fit.status == "failed"
    assert fit.note.startswith(f"{name} is {value:g} at 1 of {y.size} points, outside")
    assert LAWS[law].inputs[name] in fit.note
