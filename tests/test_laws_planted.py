"""Every law gives back the curves that made its data, and the parameters that the data fix."""

import zlib

import numpy as np
import planted_laws
import pytest

from lossline_jax.fit.laws.published import PUBLISHED
from lossline_jax.fit.solve import Points, solve_many

every_law = pytest.mark.parametrize("name", planted_laws.CASES)


def planted_parameters(name):
    """Two points inside the ranges, and two of their corners."""
    _, planted = planted_laws.CASES[name]
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    shares = generator.uniform(size=(4, len(planted.ranges)))
    shares[2:] = np.round(shares[2:])
    return [planted.parameters(row) for row in shares]


@every_law
def test_planted_and_published_parameters_are_recovered(name):
    law, planted = planted_laws.CASES[name]
    inputs = {key: planted.inputs[key] for key in law.inputs}
    published = list(PUBLISHED.get(name, {}).values())
    wanted = planted_parameters(name) + published
    data = [Points(inputs, law(p, inputs), fixed={key: p[key] for key in planted.fixed}) for p in wanted]
    known = planted.known if planted.known is not None else law.names
    for parameters, points, fit in zip(wanted, data, solve_many(law, data), strict=True):
        assert fit.predict(inputs, law) == pytest.approx(points.y, abs=planted.curve * np.ptp(points.y))
        found = {key: fit.parameters[key] for key in known}
        assert found == pytest.approx({key: parameters[key] for key in known}, rel=0.02)
