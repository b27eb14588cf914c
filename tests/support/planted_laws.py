"""Typical parameters and inputs of every law. Tests make data from them, which a fit must give back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.laws.bounded import broken_power_law
from lossline_jax.fit.laws.mixtures import additive_mixture_law, data_mixing_law

Range = tuple[float, float]
POINTS = 64  # the same for every law, so that operations compiled for one law serve the others


def grid(**ranges: tuple[float, float, int]) -> dict[str, np.ndarray]:
    """Return every combination of geometrically spaced values: name=(low, high, count)."""
    axes = [np.geomspace(*values) for values in ranges.values()]
    return {name: values.ravel() for name, values in zip(ranges, np.meshgrid(*axes), strict=True)}


def line(name: str, low: float, high: float, count: int = POINTS, spacing=np.geomspace) -> dict[str, np.ndarray]:
    return {name: spacing(low, high, count)}


def draw_log_uniform(seed: int = 0, **ranges: Range) -> dict[str, np.ndarray]:
    """Return independent draws, uniform in the logarithm."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return {name: np.exp(generator.uniform(*np.log(pair), POINTS)) for name, pair in ranges.items()}


def proportions(*names: str) -> dict[str, np.ndarray]:
    """Return random mixtures that add up to 1."""
    draws = np.random.Generator(np.random.PCG64(1)).dirichlet(np.ones(len(names)), POINTS)
    return dict(zip(names, np.maximum(draws, 1e-3).T, strict=True))


@dataclass(frozen=True)
class Planted:
    """A law's parameters and inputs, with what a fit of exact data must reach."""

    ranges: Mapping[str, Range]  # of each parameter; both ends have one sign
    inputs: Mapping[str, np.ndarray]
    known: tuple[str, ...] | None = None  # parameters that such data fix to 2%; None: all
    fixed: Mapping[str, float] = field(default_factory=dict)  # parameters held at these values, in the data too
    curve: float = 1e-6  # largest error of the fitted curve, as a share of the spread of the data

    def parameters(self, shares) -> dict[str, float]:
        """Return values inside the ranges, from one share between 0 and 1 for each parameter."""
        pairs = zip(self.ranges.items(), shares, strict=True)
        return {name: low + share * (high - low) for (name, (low, high)), share in pairs} | dict(self.fixed)


SIZES = (1e7, 1e9, 8)
TOKENS = (2e8, 5e10, 8)
N_AND_M = grid(N=(3e7, 2e9, 16), M=(1.0, 8.0, 4))
SPARSE = {name: np.concatenate([values] * 4) for name, values in grid(N=(1e6, 1e8, 4), D=(1e9, 1e11, 4)).items()} | {
    "S": np.repeat([0.0, 0.5, 0.75, 0.875], 16)
}
REPEATED = grid(N=(5e7, 5e9, 4), U_D=(1e8, 1e10, 4), epochs=(1.0, 64.0, 4))
REPEATED |= {"D": REPEATED.pop("epochs") * REPEATED["U_D"]}
MIXTURES = proportions("web", "code", "books")

PLANTED: dict[str, Planted] = {
    "shifted power law": Planted(
        {"K": (0.4, 2.0), "kappa": (1.1, 1.8), "E_x": (0.8, 2.0), "E_y": (0.5, 2.0)}, line("x", 2.5, 6.0)
    ),
    "chinchilla": Planted(
        {"E": (1.3, 2.2), "A": (200, 800), "B": (500, 3000), "alpha": (0.28, 0.4), "beta": (0.28, 0.4)},
        grid(N=SIZES, D=TOKENS),
    ),
    "kaplan": Planted(
        {"E": (1.3, 2.2), "A": (1e7, 9e7), "B": (2e8, 2e9), "alpha": (0.35, 0.5), "beta": (0.35, 0.5)},
        grid(N=SIZES, D=TOKENS),
    ),
    "kaplan size": Planted({"N_c": (5e13, 2e14), "alpha_N": (0.06, 0.1)}, line("N", 1e5, 1e9)),
    "kaplan tokens": Planted({"D_c": (2e13, 9e13), "alpha_D": (0.08, 0.12)}, line("D", 2e7, 2e10)),
    "kaplan compute": Planted({"C_c": (1e7, 5e7), "alpha_C": (0.04, 0.08)}, line("C", 1e-7, 10)),
    "kaplan minimal compute": Planted({"C_c_min": (1e8, 5e8), "alpha_C_min": (0.04, 0.06)}, line("C_min", 1e-7, 10)),
    "kaplan without entropy": Planted(
        {"N_c": (4e13, 9e13), "D_c": (1e13, 3e13), "alpha_N": (0.07, 0.09), "alpha_D": (0.09, 0.12)},
        grid(N=(1e6, 1e9, 8), D=(2e7, 2e10, 8)),
    ),
    "kaplan steps": Planted(
        {"N_c": (4e13, 9e13), "S_c": (1e3, 4e3), "alpha_N": (0.07, 0.09), "alpha_S": (0.6, 0.9)},
        grid(N=(1e6, 1e9, 8), S_min=(2e3, 3e5, 8)),
    ),
    "critical batch": Planted({"B_star": (1e8, 4e8), "alpha_B": (0.15, 0.3)}, line("L", 2.0, 7.0)),
    "overtraining": Planted(
        {"E": (1.4, 2.0), "a": (120, 230), "b": (180, 400), "eta": (0.115, 0.14)},
        grid(C=(1e16, 1e20, 8), M=(5, 640, 8)),
    ),
    "downstream error": Planted(
        {"eps": (0.8, 0.95), "k": (1.5, 3.0), "gamma": (0.6, 0.9)}, line("L", 2.0, 5.5, spacing=np.linspace)
    ),
    "diloco size": Planted({"A": (15, 22), "alpha": (-0.11, -0.09)}, line("N", 3e7, 2e9)),
    "diloco": Planted({"A": (15, 22), "alpha": (-0.11, -0.09), "beta": (0.01, 0.3)}, N_AND_M),
    "diloco with floor": Planted(
        {"A": (30, 60), "alpha": (-0.25, -0.15), "beta": (0.01, 0.05), "C": (0.5, 1.5)}, N_AND_M
    ),
    "diloco replicas in exponent": Planted(
        {"A": (30, 60), "alpha": (-0.25, -0.15), "beta": (0.0003, 0.002), "C": (0.5, 1.5)}, N_AND_M
    ),
    "diloco additive": Planted(
        {"A": (30, 60), "alpha": (-0.25, -0.15), "B": (0.02, 0.1), "beta": (0.3, 0.8), "C": (0.5, 1.5)}, N_AND_M
    ),
    "repetition": Planted(
        {"R_D_star": (8.0, 25.0), "R_N_star": (3.0, 9.0)},
        REPEATED,
        fixed={"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353},
    ),
    "chinchilla, equal exponents": Planted(
        {"E": (1.5, 2.0), "A": (300, 800), "B": (800, 2000), "alpha": (0.3, 0.4)}, grid(N=SIZES, D=TOKENS)
    ),
    "unique tokens, additive": Planted(
        {
            "E": (1.5, 2.0),
            "A": (200, 500),
            "B": (300, 900),
            "C": (300, 900),
            "alpha": (0.3, 0.4),
            "beta": (0.3, 0.4),
            "gamma": (0.3, 0.4),
        },
        REPEATED,
    ),
    "translation data": Planted({"alpha": (0.65, 0.85), "C": (0.01, 0.16), "p": (0.2, 0.33)}, line("D", 0.5, 512)),
    "downstream score": Planted(
        {"A": (0.02, 0.2), "alpha": (0.6, 1.2), "beta": (1.0, 1.4)}, line("D_p", 1e8, 1e11), known=("beta",)
    ),
    "downstream cross-entropy": Planted(
        {"E": (0.5, 1.5), "A": (30, 300), "alpha": (0.25, 0.4)}, line("D_p", 1e8, 1e11)
    ),
    "rectified finetuning": Planted(
        {"B": (20, 90), "D_t": (10, 40), "beta": (0.5, 0.8), "E": (0.5, 1.5)}, line("D", 50, 1e6)
    ),
    "visual transfer": Planted(
        {"E": (0.05, 0.1), "A": (50, 200), "alpha": (0.15, 0.3), "beta": (0.1, 0.2), "gamma": (0.1, 0.25)},
        grid(N=(2.5e6, 3.8e7, 4), D_p=(1e4, 1e6, 4), D_f=(1e3, 1e5, 4)),
    ),
    "distillation": Planted(
        {
            "c0": (1.0, 3.0),
            "c1": (1.0, 4.0),
            "d1": (0.9, 1.2),
            "f1": (0.1, 0.3),
            "A": (1e3, 4e3),
            "B": (1e4, 4e4),
            "alpha": (0.35, 0.45),
            "beta": (0.5, 0.6),
            "gamma": (0.7, 0.9),
        },
        draw_log_uniform(L_T=(1.8, 3.2), L_supervised=(1.9, 3.4), N_S=(1e8, 1e10), D_S=(1e9, 1e12)),
        known=("c0", "d1"),
    ),
    "sparsity": Planted(
        {
            "a_S": (12, 25),
            "b_S": (0.6, 0.9),
            "c_S": (35, 60),
            "b_N": (0.22, 0.3),
            "a_D": (3e8, 9e8),
            "b_D": (0.2, 0.35),
            "c": (0.5, 0.9),
        },
        SPARSE,
    ),
    "p2": Planted(
        {
            "N_C": (50, 200),
            "D_C": (100, 400),
            "E": (0.3, 1.0),
            "alpha": (0.25, 0.4),
            "beta": (0.25, 0.4),
            "gamma": (-1.5, -0.8),
            "delta": (0.03, 0.1),
        },
        grid(N0=(5e8, 8e9, 4), D=(1e7, 1e9, 4), rho=(0.15, 0.35, 4)) | {"L0": np.resize([2.2, 2.4, 2.6], POINTS)},
    ),
    "compression": Planted(
        {"P0": (0.9, 1.1), "alpha": (-2.0, -0.3)},
        {"L0": np.resize([2.2, 2.5, 2.9], POINTS), "r": np.linspace(0.05, 0.5, POINTS)},
    ),
    "performance": Planted(
        {"w1": (10, 16), "w2": (0.1, 2.0), "w3": (-0.9, -0.1), "w4": (4, 7), "b": (5, 12), "gamma": (1.1, 2.0)},
        draw_log_uniform(N_l=(12, 96), h=(768, 9000), d=(2000, 3e4), T=(0.3, 15), S=(0.5, 70)),
    ),
    "domain curve": Planted({"a": (1.0, 6.0), "b": (0.8, 2.0), "c": (0.7, 0.95)}, line("x", 0.1, 10.0)),
    "private": Planted(
        {
            "E": (1.5, 2.5),
            "A": (1e4, 5e4),
            "B": (300, 900),
            "C": (20, 60),
            "alpha": (0.6, 0.8),
            "beta": (0.3, 0.5),
            "gamma": (0.2, 0.35),
        },
        grid(M=(5e6, 3e8, 4), n=(1e6, 1e9, 4), sigma=(1e-6, 1e-2, 4)),
    ),
    "private, saturated noise": Planted(
        {
            "E": (1.5, 2.5),
            "A": (500, 2000),
            "B": (20, 60),
            "C": (3, 8),
            "alpha": (0.4, 0.5),
            "beta": (0.2, 0.35),
            "gamma": (0.8, 1.1),
            "gamma2": (-0.09, -0.04),
        },
        grid(M=(5e6, 3e8, 4), n=(1e6, 1e9, 4), sigma=(1e-6, 1e-2, 4)),
    ),
    "m1": Planted({"beta": (0.5, 3.0), "c": (-0.5, -0.2)}, line("x", 1e3, 1e7)),
    "m2": Planted({"beta": (2.0, 9.0), "c": (-0.5, -0.3), "err_inf": (0.05, 0.2)}, line("x", 1e3, 1e7)),
    "m4": Planted(
        {"beta": (30, 90), "c": (-0.6, -0.4), "err_inf": (0.05, 0.15), "err_0": (0.85, 1.0), "alpha": (0.6, 1.5)},
        line("x", 1e2, 1e8),
    ),
    "accuracy from loss": Planted(
        {"b": (0.2, 0.3), "a": (0.4, 0.7), "k": (3.0, 8.0), "L_0": (0.7, 1.1)}, line("L", 0.3, 2.0, spacing=np.linspace)
    ),
    "routing": Planted(
        {
            "a": (-0.09, -0.07),
            "b": (-0.14, -0.1),
            "c": (0.008, 0.013),
            "d": (1.0, 1.2),
            "E_start": (1.5, 4.5),
            "E_max": (250, 500),
        },
        grid(N=(1.6e7, 1.3e9, 8), E=(1.0, 512.0, 8)),
    ),
    "vocabulary": Planted(
        {
            "E": (4, 6),
            "A1": (1.2, 2.5),
            "A2": (0.1, 0.4),
            "B": (1.5, 3),
            "alpha1": (0.35, 0.5),
            "alpha2": (0.5, 0.7),
            "beta": (0.35, 0.5),
        },
        grid(N_nv=(0.03, 1.2, 4), N_v=(0.004, 0.3, 4), H=(0.5, 100.0, 4)),
    ),
    "precision": Planted(
        {
            "E": (2.0, 3.0),
            "A": (2e3, 6e3),
            "B": (1e4, 3e4),
            "alpha": (0.4, 0.5),
            "beta": (0.45, 0.55),
            "gamma_w": (2.0, 3.0),
            "gamma_a": (1.8, 2.5),
            "gamma_kv": (0.8, 1.2),
        },
        draw_log_uniform(N=(3e7, 3e8), D=(1e9, 3e10), P_w=(2, 16), P_a=(2, 16), P_kv=(2, 16)),
    ),
    "post-training quantisation": Planted(
        {"C_T": (0.03, 0.09), "gamma_D": (0.45, 0.55), "gamma_N": (0.3, 0.4), "gamma_post": (0.5, 0.8)},
        grid(N=(3e7, 3e8, 4), D=(1e9, 3e10, 4), P_post=(3, 8, 4)),
    ),
    "farseer": Planted(
        {
            "a1": (-0.15, -0.1),
            "b1": (0.3, 0.5),
            "alpha": (0.11, 0.13),
            "a2": (80, 90),
            "b2": (-6.5, -5.5),
            "beta": (-0.11, -0.09),
            "a3": (-0.03, -0.02),
            "b3": (-0.2, -0.05),
            "gamma": (0.15, 0.18),
        },
        grid(N=(2e8, 6e9, 8), D=(2e9, 2e11, 8)),
        known=(),
        curve=2e-3,  # some starts end in a long flat valley
    ),
    "steplaw learning rate": Planted({"c": (1.0, 3.0), "a": (-0.8, -0.6), "b": (0.25, 0.35)}, grid(N=SIZES, D=TOKENS)),
    "steplaw batch": Planted({"d": (0.4, 0.8), "e": (0.5, 0.62)}, line("D", 1e9, 1e11)),
}

BUILT: dict[str, tuple[Law, Planted]] = {
    "data mixing": (
        data_mixing_law(("web", "code", "books")),
        Planted({"c": (1.5, 2.5), "k": (0.5, 2.0), "t_web": (-3.0, -1.0), "t_code": (0.3, 1.5)}, MIXTURES),
    ),
    "additive mixture": (
        additive_mixture_law(("web", "code", "books")),
        Planted(
            {
                "E": (1.0, 1.5),
                "C_web": (1.0, 2.0),
                "C_code": (0.5, 1.0),
                "C_books": (0.5, 1.0),
                "gamma_web": (0.5, 0.9),
                "gamma_code": (0.5, 0.9),
                "gamma_books": (0.5, 0.9),
                "A": (200, 800),
                "B": (500, 2000),
                "alpha": (0.28, 0.4),
                "beta": (0.28, 0.4),
            },
            MIXTURES | draw_log_uniform(N=(1e7, 1e9), D=(2e8, 5e10)),
        ),
    ),
    "no break": (
        broken_power_law(0),
        Planted({"a": (0.1, 0.3), "b": (3.0, 9.0), "c0": (0.25, 0.4)}, line("x", 1e3, 1e7)),
    ),
    "one break": (
        broken_power_law(1),
        Planted(
            {"a": (0.1, 0.3), "b": (1.0, 2.0), "c0": (0.05, 0.1), "c1": (0.3, 0.5), "d1": (5e4, 5e5), "f1": (0.2, 0.6)},
            line("x", 1e2, 1e9),
        ),
    ),
}

CASES: dict[str, tuple[Law, Planted]] = {name: (LAWS[name], planted) for name, planted in PLANTED.items()} | BUILT
