"""A fit of every law recovers the curve that made its data, and the parameters that the data identify."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.laws.published_values import PUBLISHED
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.solver.batching import BLOCK
from tests.support import planted_laws

pytestmark = pytest.mark.usefixtures("quick_compilation")
NUM_DRAWN = 1  # parameter sets in an example; all starts fit in one block, so that one program is compiled
FAST = {"shifted power law", "chinchilla", "kaplan"}  # the laws of the study; `make test-all` adds the rest
every_law = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in planted_laws.CASES]
)


def check_recovery(name, parameter_sets):
    law, planted = planted_laws.CASES[name]
    inputs = {key: planted.inputs[key] for key in law.inputs}
    data = [DataSet(inputs, law(p, inputs), fixed={key: p[key] for key in planted.fixed}) for p in parameter_sets]
    known = planted.known if planted.known is not None else law.names
    fits = fit_law_many(law, data, num_starts=BLOCK // len(data))
    for parameters, points, fit in zip(parameter_sets, data, fits, strict=True):
        assert fit.predict(law=law, **inputs) == pytest.approx(points.y, abs=planted.curve * np.ptp(points.y))
        fitted = {key: fit.parameters[key] for key in known}
        assert fitted == pytest.approx({key: parameters[key] for key in known}, rel=0.02)


@every_law
@settings(max_examples=4, deadline=None, derandomize=True)
@given(drawn=st.data())
def test_planted_parameters_are_recovered(name, drawn):
    _, planted = planted_laws.CASES[name]
    share = st.floats(0.0, 1.0)
    shares = drawn.draw(st.lists(st.tuples(*(share for _ in planted.ranges)), min_size=NUM_DRAWN, max_size=NUM_DRAWN))
    check_recovery(name, [planted.parameters(row) for row in shares])


@pytest.mark.parametrize("name", [name for name in planted_laws.CASES if name in PUBLISHED])
def test_published_parameters_are_recovered(name):
    check_recovery(name, list(PUBLISHED[name].values()))
