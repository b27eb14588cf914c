"""Compute-optimal size and tokens for a budget C = 6 N D, in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOPS_PER_PARAMETER_AND_TOKEN = 6


@dataclass(frozen=True)
class Allocation:
    """Arrays or floats of the shape of the budget; N and D counted as in the fit."""

    N: Any
    D: Any
    L: Any  # the loss that the law gives there


def chinchilla_allocation(parameters: Mapping[str, float], compute: Any) -> Allocation:
    """Least loss of L = E + A/N^alpha + B/D^beta under 6 N D = C.

    N = G (C/6)^(beta/(alpha+beta)), D = (C/6)^(alpha/(alpha+beta)) / G, G = (alpha A / (beta B))^(1/(alpha+beta));
    L - E = (A G^-alpha + B G^beta) (C/6)^(-alpha beta/(alpha+beta)). Hoffmann et al. 2022, eq. 4.
    """
    p = parameters
    budget = np.asarray(compute, float) / FLOPS_PER_PARAMETER_AND_TOKEN
    both = p["alpha"] + p["beta"]
    balance = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / both)
    reducible = p["A"] * balance ** -p["alpha"] + p["B"] * balance ** p["beta"]
    size = balance * budget ** (p["beta"] / both)
    loss = p["E"] + reducible * budget ** (-p["alpha"] * p["beta"] / both)
    return Allocation(N=size, D=budget / size, L=loss)


def kaplan_allocation(parameters: Mapping[str, float], compute: Any) -> Allocation:
    """Least loss of L = E + ((A/N)^(alpha/beta) + B/D)^beta under 6 N D = C; without entropy, E is 0.

    N = (G C/6)^(beta/(alpha+beta)), G = alpha A^(alpha/beta) / (beta B). arXiv 2411.12925. The names of the form
    without entropy (N_c, D_c, alpha_N, alpha_D) are understood too.
    """
    p = parameters
    if "N_c" in p:
        p = {"E": 0.0, "A": p["N_c"], "B": p["D_c"], "alpha": p["alpha_N"], "beta": p["alpha_D"]}
    budget = np.asarray(compute, float) / FLOPS_PER_PARAMETER_AND_TOKEN
    ratio = p["alpha"] / p["beta"]
    size = (ratio * p["A"] ** ratio * budget / p["B"]) ** (p["beta"] / (p["alpha"] + p["beta"]))
    tokens = budget / size
    loss = p["E"] + ((p["A"] / size) ** ratio + p["B"] / tokens) ** p["beta"]
    return Allocation(N=size, D=tokens, L=loss)
