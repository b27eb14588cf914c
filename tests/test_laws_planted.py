"""Every law gives back the curve that made its data, and the parameters that the data fix."""

import numpy as np
import planted_laws
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.fit.solve import solve

MOST_PARAMETERS = 11


@pytest.mark.parametrize("case", planted_laws.CASES.values(), ids=planted_laws.CASES.keys())
@settings(max_examples=3, deadline=None, derandomize=True)
@given(shares=st.lists(st.floats(0, 1), min_size=MOST_PARAMETERS, max_size=MOST_PARAMETERS))
def test_planted_parameters_are_recovered(case, shares):
    law, planted = case
    parameters = planted.parameters(shares[: len(planted.ranges)])
    inputs = {name: planted.inputs[name] for name in law.inputs}
    y = law(parameters, inputs)
    fit = solve(law, inputs, y, fixed=planted.fixed, level=None)
    assert fit.predict(inputs, law) == pytest.approx(y, abs=1e-6 * np.ptp(y))
    known = planted.known if planted.known is not None else planted.ranges
    assert {name: fit.parameters[name] for name in known} == pytest.approx(
        {name: parameters[name] for name in known}, rel=0.02
    )
