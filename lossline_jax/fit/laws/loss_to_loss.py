"""The shifted power law between two losses of the same models, or of models paired by size and tokens."""

import numpy as np

from lossline_jax.fit.law import Law, Parameter, power

SHIFTED_POWER = Law(
    name="shifted power law",
    formula="y = K (x - E_x)^kappa + E_y",
    inputs={"x": "loss on the first set"},
    output="y",
    parameters=(
        Parameter("K", "y / x^kappa", 1e-9, 1e9, start=(1e-3, 1e3), linear=True, log=True),
        Parameter("kappa", "1", 0.05, 20.0, start=(0.3, 4.0), log=True),
        Parameter("E_x", "unit of x", 0.0, np.inf, below="x"),
        Parameter("E_y", "unit of y", 0.0, np.inf, linear=True, below="y"),
    ),
    function=lambda p, v: p["K"] * power(v["x"] - p["E_x"], p["kappa"]) + p["E_y"],
    source="Brandfonbrener et al. 2024 (arXiv 2411.12925); Mayilvahanan et al. 2025 (arXiv 2502.12120)",
    defined=lambda p, v: v["x"] > p["E_x"],
    rises=("x",),
)
