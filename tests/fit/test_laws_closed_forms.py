"""Functions that go with the laws agree with closed forms, limits and brute force."""

import numpy as np
import pytest
from scipy import optimize

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.combine import compose
from lossline_jax.fit.curves.compute_law import chinchilla_allocation, kaplan_allocation
from lossline_jax.fit.curves.data_mixture import (
    interpolate_quantities,
    mixture_weights,
    optimal_quantities,
    predict_quantities,
)
from lossline_jax.fit.laws import LAWS, kaplan, repetition
from lossline_jax.fit.laws.architecture import effective_size, saturated_experts
from lossline_jax.fit.laws.bounded import broken_power_law
from lossline_jax.fit.laws.mixtures import additive_mixture_law, data_mixing_law
from lossline_jax.fit.laws.overtraining import compute_and_multiplier
from lossline_jax.fit.laws.performance import clip_mmlu
from lossline_jax.fit.laws.privacy import saturated_noise
from lossline_jax.fit.laws.published_values import PUBLISHED
from lossline_jax.fit.laws.sparsity import dense_multiplier, optimal_sparsity
from lossline_jax.fit.solve import fit_law

pytestmark = pytest.mark.usefixtures("quick_compilation")
BESIROGLU = PUBLISHED["chinchilla"]["Besiroglu et al. 2024"]
MUENNIGHOFF = PUBLISHED["repetition"]["Muennighoff et al. 2023"]
KAPLAN_FORM = {"E": 2.17, "A": 6.787e7, "B": 9.31e8, "alpha": 0.4107, "beta": 0.4531}  # FineWeb, arXiv 2411.12925
WITHOUT_ENTROPY = PUBLISHED["kaplan without entropy"]["table 2"]


@pytest.mark.parametrize(
    ("allocate", "law", "parameters"),
    [
        (chinchilla_allocation, "chinchilla", BESIROGLU),
        (kaplan_allocation, "kaplan", KAPLAN_FORM),
        (kaplan_allocation, "kaplan without entropy", WITHOUT_ENTROPY),
    ],
)
def test_optimal_allocation_is_the_minimum_under_6nd(allocate, law, parameters):
    compute = np.array([1e18, 1e21, 1e24])
    best = allocate(parameters, compute)
    sizes, tokens, losses = best.N, best.D, best.L
    assert 6 * sizes * tokens == pytest.approx(compute)
    assert losses == pytest.approx(LAWS[law](parameters, {"N": sizes, "D": tokens}), rel=1e-12)
    for budget, size in zip(compute, sizes, strict=True):
        loss = lambda log_n, c=budget: float(LAWS[law](parameters, {"N": np.exp(log_n), "D": c / 6 / np.exp(log_n)}))
        minimum = optimize.minimize_scalar(loss, bounds=(np.log(1e5), np.log(1e14)), options={"xatol": 1e-9})
        assert np.exp(minimum.x) == pytest.approx(size, rel=1e-4)


def test_kaplan_identities():
    # arXiv 2001.08361: alpha_C_min is about 0.054 from the three exponents, and N and B S = D share the compute
    exponents = kaplan.compute_efficient_exponents(alpha_N=0.076, alpha_S=0.76, alpha_B=0.21)
    assert exponents["L"] == pytest.approx(0.054, abs=0.0025)
    assert exponents["L"] == pytest.approx(0.076 * 0.76 * 0.21 / (0.076 * 0.76 + 0.076 * 0.21 + 0.76 * 0.21))
    assert exponents["N"] + exponents["D"] == pytest.approx(1.0)
    assert exponents["N"] == pytest.approx(0.73, abs=0.05)  # the fitted exponent
    steps, batch, critical = 1e5, 5e5, 2e6
    assert kaplan.minimal_steps(steps, batch, critical) == pytest.approx(2e4)
    assert kaplan.minimal_compute(10.0, batch, critical) == pytest.approx(8.0)
    # (S / S_min - 1) (C / C_min - 1) = 1, whatever the batch (McCandlish et al. 2018)
    for ratio in (0.01, 1.0, 30.0):
        in_steps = 1 / kaplan.minimal_steps(1.0, ratio, 1.0) - 1
        assert in_steps * (1 / kaplan.minimal_compute(1.0, ratio, 1.0) - 1) == pytest.approx(1.0)
    # a loss of 1 has the batch B_star; a loss smaller by the factor 2^alpha_B has twice this batch
    published = PUBLISHED["critical batch"]["Kaplan et al. 2020"]
    assert kaplan.CRITICAL_BATCH(published, {"L": np.array([1.0, 2**-0.21])}) == pytest.approx([2e8, 4e8])
    assert kaplan.tokens_against_overfitting(1e9) == pytest.approx(5e3 * 10**6.66)
    assert kaplan.early_stopping_step(2.1e3, 0.76, 3.5, 2.5) == pytest.approx(2.1e3)


def test_kaplan_joint_law_ends_in_the_single_ones():
    p = WITHOUT_ENTROPY
    infinite = 1e40
    by_size = kaplan.SIZE({"N_c": p["N_c"], "alpha_N": p["alpha_N"]}, {"N": 1e8})
    by_tokens = kaplan.TOKENS({"D_c": p["D_c"], "alpha_D": p["alpha_D"]}, {"D": 1e9})
    assert kaplan.JOINT(p, {"N": 1e8, "D": infinite}) == pytest.approx(by_size)
    assert kaplan.JOINT(p, {"N": infinite, "D": 1e9}) == pytest.approx(by_tokens)


def test_overtraining_is_chinchilla_with_equal_exponents():
    p = PUBLISHED["overtraining"]["RedPajama"]
    sizes, tokens = np.array([1e7, 1e8, 1e9]), np.array([1e11, 1e10, 2e10])
    eta = p["eta"]
    same = {"E": p["E"], "A": p["a"] * 6**-eta, "B": p["b"] * 6**-eta, "alpha": 2 * eta, "beta": 2 * eta}
    losses = LAWS["overtraining"](p, compute_and_multiplier(sizes, tokens))
    assert losses == pytest.approx(LAWS["chinchilla"](same, {"N": sizes, "D": tokens}), rel=1e-12)


def test_repetition_in_its_limits():
    p = MUENNIGHOFF
    # one epoch follows the base law if the size is far below the optimum for the tokens
    small, tokens = 1e8, 1e11
    assert small < repetition.optimal_params(p, tokens)
    base = LAWS["chinchilla"]({name: p[name] for name in LAWS["chinchilla"].names}, {"N": small, "D": tokens})
    assert LAWS["repetition"](p, {"N": small, "D": tokens, "U_D": tokens}) == pytest.approx(base, rel=1e-14)
    # tokens repeated for ever count as 1 + R* times the unique tokens, and two epochs as almost 2 times
    assert repetition.effective_tokens(1e20, 1e9, 15.0) == pytest.approx(16e9)
    assert repetition.effective_tokens(2e9, 1e9, 15.0) == pytest.approx(1e9 * (1 + 15 * (1 - np.exp(-1 / 15))))
    optimal_size = float(repetition.optimal_params(p, tokens))
    assert repetition.effective_params(p, 0.3 * optimal_size, tokens) == pytest.approx(0.3 * optimal_size)
    assert repetition.effective_params(p, 1e6 * optimal_size, tokens) == pytest.approx(
        optimal_size * (1 + p["R_N_star"])
    )
    # `optimal_params` is the compute-optimal size for D tokens
    best_size = chinchilla_allocation(p, 6 * optimal_size * tokens).N
    assert best_size == pytest.approx(optimal_size)


@pytest.mark.parametrize("label", PUBLISHED["sparsity"])
def test_optimal_sparsity_is_the_minimum_of_its_cost_model(label):
    p = PUBLISHED["sparsity"][label]
    size = 5e7
    kept = np.geomspace(1e-3, 1.0, 20001)
    for compute in (1e18, 1e20, 1e22, 1e25):
        losses = LAWS["sparsity"](p, {"S": 1 - kept, "N": size, "D": compute * kept / (6 * size)})
        assert optimal_sparsity(p, size, compute) == pytest.approx(1 - kept[np.argmin(losses)], abs=1e-3)
    assert optimal_sparsity(p, size, 1e10) == 0.0


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_dense_multiplier_gives_equal_loss(sparsity):
    p = PUBLISHED["sparsity"]["T5, C4"]
    worth = dense_multiplier(p, sparsity) * 1e8
    sparse, dense = ({"S": sparsity, "N": 1e8, "D": 1e10}, {"S": 0.0, "N": worth, "D": 1e10})
    assert LAWS["sparsity"](p, sparse) == pytest.approx(LAWS["sparsity"](p, dense), rel=1e-12)


def test_m4_satisfies_its_own_equation_and_follows_m2_far_from_chance():
    x = np.geomspace(1e-3, 1e9, 40)
    for alpha in (0.05, 1.0, 4.0):
        p = {"beta": 3.0, "c": -0.4, "err_inf": 0.1, "err_0": 0.9, "alpha": alpha}
        err = LAWS["m4"](p, {"x": x})
        inside = (err > 0.1 + 1e-6) & (err < 0.9 - 1e-6)
        assert inside.sum() > 10
        left = (err[inside] - 0.1) / (0.9 - err[inside]) ** alpha
        assert left == pytest.approx((3.0 * x**-0.4)[inside], rel=1e-8)
    steep = {"beta": 3.0, "c": -0.4, "err_inf": 0.1, "err_0": 1.1, "alpha": 1.0}
    m2 = LAWS["m2"]({"beta": 3.0, "c": -0.4, "err_inf": 0.1}, {"x": np.array([1e9])})
    assert LAWS["m4"](steep, {"x": np.array([1e9])}) == pytest.approx(m2, rel=1e-3)


def test_broken_power_law_changes_its_slope_at_the_break():
    one_break, no_break = broken_power_law(1), broken_power_law(0)
    p = {"a": 0.0, "b": 2.0, "c0": 0.2, "c1": 0.5, "d1": 1e4, "f1": 0.05}
    slope = lambda at: np.log(one_break(p, {"x": at * 1.001}) / one_break(p, {"x": at})) / np.log(1.001)
    assert slope(1e2) == pytest.approx(-0.2, abs=1e-6)
    assert slope(1e6) == pytest.approx(-0.7, abs=1e-6)
    assert one_break(p, {"x": 1e4}) == pytest.approx(2.0 * 1e4**-0.2 * 2 ** (-0.5 * 0.05))
    flat = p | {"c1": 0.0}
    assert one_break(flat, {"x": 5e5}) == pytest.approx(no_break({"a": 0.0, "b": 2.0, "c0": 0.2}, {"x": 5e5}))
    assert np.isfinite(one_break(p | {"f1": 0.01}, {"x": np.array([1e-30, 1e30])})).all()
    with pytest.raises(LosslineError, match="0 or more"):
        broken_power_law(-1)


def test_performance_scores_are_clipped():
    assert clip_mmlu([-5.0, 25.0, 60.0, 90.0]).tolist() == [25.0, 25.0, 60.0, 90.0]
    assert clip_mmlu(100.0) == pytest.approx(90 + 10 * np.tanh(1.0))
    assert 99.9 < clip_mmlu(1e3) <= 100.0


def test_small_helpers_in_their_limits():
    assert saturated_noise(np.exp(-8.0)) == pytest.approx(0.5)
    assert saturated_experts(1, 1.847, 314.478) == pytest.approx(1.847)
    assert saturated_experts(1e12, 1.847, 314.478) == pytest.approx(314.478)
    gammas = {"gamma_w": 2.6745, "gamma_a": 2.2102, "gamma_kv": 0.9578}
    full = {"N": 1e8, "P_w": 100.0, "P_a": 100.0, "P_kv": 100.0}
    assert effective_size(gammas, full) == pytest.approx(1e8)
    assert effective_size(gammas, full | {"P_w": 2.6745 * np.log(2)}) == pytest.approx(5e7)


def test_data_mixing_law_reads_published_parameters_with_a_t_for_every_domain():
    law = data_mixing_law(("web", "code", "books"))
    published = {"c": 1.5, "k": 0.7, "t": np.array([-1.0, 0.4, 0.9])}
    converted = {"c": 1.5, "k": 0.7 * np.exp(0.9), "t_web": -1.9, "t_code": -0.5}
    mixture = np.array([0.5, 0.2, 0.3])
    expected = published["c"] + published["k"] * np.exp(published["t"] @ mixture)
    assert law(converted, {"web": 0.5, "code": 0.2}) == pytest.approx(expected)
    for build, domains in ((data_mixing_law, ("web",)), (additive_mixture_law, ("web", "web"))):
        with pytest.raises(LosslineError, match="different domains"):
            build(domains)


def test_optimal_quantities_against_a_general_minimiser():
    a, b = np.array([2.7, 6.6, 2.5, 3.3]), np.array([1.2, 1.4, 1.8, 1.9])
    quantities = optimal_quantities(a, b, 4.0)
    assert quantities.sum() == pytest.approx(4.0)
    assert quantities.min() == pytest.approx(0.2)  # one domain is at its lower bound
    minimum = optimize.minimize(
        lambda x: np.sum((x + a) ** -b),
        np.ones(4),
        bounds=[(0.2, None)] * 4,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 4.0},
        options={"ftol": 1e-14},
    )
    assert quantities == pytest.approx(minimum.x, abs=1e-4)
    assert optimal_quantities(a, b, 0.8).tolist() == [0.2] * 4
    with pytest.raises(LosslineError, match=r"total of 0\.8"):
        optimal_quantities(a, b, 0.7)


def test_quantities_grow_in_a_geometric_sequence():
    rates = np.array([2.0, 3.0, 0.5])
    first = np.array([1.0, 2.0, 4.0])
    assert predict_quantities(first, first * rates) == pytest.approx(first * rates**2)
    assert predict_quantities(first, first * rates, steps=3) == pytest.approx(first * rates**4)
    assert interpolate_quantities(first, first * rates**2) == pytest.approx(first * rates)
    assert mixture_weights(first) == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_a_chain_goes_from_compute_to_accuracy():
    sizes, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(1e8, 1e10, 8), np.geomspace(2e9, 1e12, 8)))
    losses = LAWS["chinchilla"](BESIROGLU, {"N": sizes, "D": tokens})
    link = {"b": 0.25, "a": 0.6, "k": 4.0, "L_0": 2.3}
    accuracy = link["b"] + link["a"] / (1 + np.exp(link["k"] * (losses - link["L_0"])))
    loss_fit = fit_law(LAWS["chinchilla"], losses, N=sizes, D=tokens, level=None)
    accuracy_fit = fit_law(LAWS["accuracy from loss"], accuracy, L=losses, level=None)
    assert compose(loss_fit, accuracy_fit)({"N": sizes, "D": tokens}) == pytest.approx(accuracy, abs=1e-6)
    with pytest.raises(LosslineError, match="law of one"):
        compose(accuracy_fit, loss_fit)
