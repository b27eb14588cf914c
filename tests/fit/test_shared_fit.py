"""Parameters that are held, and parameters that groups share. Joint fits are checked against stacked fits of scipy."""

import numpy as np
import pandas as pd
import pytest
import scipy

from lossline_jax.errors import LosslineError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.group_intervals import groups_of_rows
from lossline_jax.fit.law import LEAST_SQUARES, LOG_HUBER, LOG_LEAST_SQUARES
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA
from lossline_jax.fit.shared_fit import fit_law_sharing
from lossline_jax.fit.solve import fit_law, fit_law_many
from lossline_jax.fit.solver.common_noise import common_error
from lossline_jax.fit.solver.grouped_noise import estimate_noise
from lossline_jax.fit.solver.joint import JointProblem
from lossline_jax.fit.solver.joint_profile import stack
from lossline_jax.fit.solver.problem import build_problem
from lossline_jax.fit.study.law_request import LawOptions
from lossline_jax.fit.study.table_laws import fit_laws
from lossline_jax.summary.laws import law_fits_text
from tests.fit.test_table_laws import INPUTS, PLANTED, table

OWN = ({"E": 1.8, "A": 400.0, "B": 2000.0}, {"E": 2.1, "A": 300.0, "B": 2500.0}, {"E": 1.2, "A": 500.0, "B": 1500.0})
NAMES = CHINCHILLA.names


def data_sets(noise=2e-3, num_points=25):
    generator = np.random.Generator(np.random.PCG64(0))
    sets = []
    for own in OWN:
        size, tokens = 10 ** generator.uniform(7, 9, num_points), 10 ** generator.uniform(8.5, 11, num_points)
        loss = CHINCHILLA(PLANTED | own, {"N": size, "D": tokens})
        sets.append(DataSet({"N": size, "D": tokens}, loss * np.exp(noise * generator.normal(size=num_points))))
    return sets


def stacked_fit(sets, objective, shared):
    """Minimise the sum over all data sets with scipy, in the logarithms of all parameters."""
    names = [*shared, *(f"{name} {k}" for k in range(len(sets)) for name in NAMES if name not in shared)]
    planted = [{**PLANTED, **own} for own in OWN]
    start = [planted[0][name] for name in shared]
    start += [planted[k][name] for k in range(len(sets)) for name in NAMES if name not in shared]

    def residuals(logs):
        values = dict(zip(names, np.exp(logs), strict=True))
        parts = []
        for k, points in enumerate(sets):
            p = {name: values[name] if name in shared else values[f"{name} {k}"] for name in NAMES}
            size, tokens = points.inputs["N"], points.inputs["D"]
            parts.append(np.log(points.y) - np.log(p["E"] + p["A"] / size ** p["alpha"] + p["B"] / tokens ** p["beta"]))
        return np.concatenate(parts)

    delta = objective.delta
    loss = {"loss": "huber", "f_scale": delta} if delta else {}
    found = scipy.optimize.least_squares(
        residuals, np.log(start), x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=3000, **loss
    )
    return dict(zip(names, np.exp(found.x), strict=True)), float(found.cost)


@pytest.mark.parametrize(
    ("objective", "shared"),
    [(LOG_HUBER, ("alpha",)), (LOG_LEAST_SQUARES, ("alpha", "beta")), (LOG_LEAST_SQUARES, ("A", "alpha"))],
)
def test_a_joint_fit_is_the_stacked_fit_of_scipy(objective, shared):
    sets = data_sets()
    fits = fit_law_sharing(CHINCHILLA, sets, shared, objective=objective, level=None)
    expected, cost = stacked_fit(sets, objective, shared)
    assert sum(fit.objective for fit in fits) <= cost * (1 + 1e-5)
    for k, fit in enumerate(fits):
        assert fit.status == "converged"
        assert fit.shared == shared
        for name in ("E", "alpha", "beta"):
            value = expected[name] if name in shared else expected[f"{name} {k}"]
            assert fit.parameters[name] == pytest.approx(value, rel=2e-3)
    assert len({fit.parameters[name] for fit in fits for name in shared}) == len(shared)


def test_one_data_set_shares_with_nobody():
    (points,) = data_sets()[:1]
    (joint,) = fit_law_sharing(CHINCHILLA, [points], ["alpha"])
    alone = fit_law(CHINCHILLA, points.y, **points.inputs)
    assert joint.parameters == pytest.approx(alone.parameters, rel=1e-3)
    assert joint.objective == pytest.approx(alone.objective, rel=1e-6)
    for name in ("E", "alpha", "beta"):  # two estimates of the size of the noise: one from a normal distribution
        assert np.ptp(joint.intervals[name]) == pytest.approx(np.ptp(alone.intervals[name]), rel=0.4)


def test_to_share_all_parameters_is_to_pool_the_data():
    size, tokens = data_sets()[0].inputs.values()
    generator = np.random.Generator(np.random.PCG64(1))
    loss = CHINCHILLA(PLANTED, {"N": size, "D": tokens}) * np.exp(2e-3 * generator.normal(size=size.size))
    parts = [slice(0, 9), slice(9, 16), slice(16, 25)]
    sets = [DataSet({"N": size[part], "D": tokens[part]}, loss[part]) for part in parts]
    fits = fit_law_sharing(CHINCHILLA, sets, NAMES, objective=LOG_LEAST_SQUARES)
    pooled = fit_law(CHINCHILLA, loss, N=size, D=tokens, objective=LOG_LEAST_SQUARES)
    assert sum(fit.objective for fit in fits) == pytest.approx(pooled.objective, rel=1e-6)
    for fit in fits:
        assert fit.parameters == pytest.approx(pooled.parameters, rel=1e-3)
        assert fit.intervals == fits[0].intervals


@pytest.mark.parametrize("fixed", [{}, {"E": 1.0}])
def test_data_sets_that_disagree_are_pooled_too(fixed):
    """A and alpha compensate each other, and the Huber loss is flat: the curvature is singular to rounding."""
    generator, sets = np.random.Generator(np.random.PCG64(9)), []
    for own, num_budgets in (({"E": 1.6, "A": 400.0, "B": 410.0}, 7), ({"E": 0.9, "A": 300.0, "B": 350.0}, 5)):
        compute = np.repeat(np.geomspace(1e18, 1e21, num_budgets), 7)
        size = 0.1 * compute**0.5 * 10 ** (np.tile(np.linspace(-1, 1, 7), num_budgets) / 2)
        inputs = {"N": size, "D": compute / 6 / size}
        loss = CHINCHILLA(own | {"alpha": 0.34, "beta": 0.28}, inputs)
        sets.append(DataSet(inputs, loss * np.exp(0.003 * generator.normal(size=size.size)), fixed))
    fits = fit_law_sharing(CHINCHILLA, sets, [name for name in NAMES if name not in fixed])
    inputs = {name: np.concatenate([points.inputs[name] for points in sets]) for name in ("N", "D")}
    pooled = fit_law(CHINCHILLA, np.concatenate([points.y for points in sets]), fixed=fixed, level=None, **inputs)
    assert sum(fit.objective for fit in fits) == pytest.approx(pooled.objective, rel=1e-8)
    for fit in fits:
        assert fit.parameters == pytest.approx(pooled.parameters, rel=1e-3)


def test_intervals_of_a_shared_slope_are_those_of_weighted_regression():
    generator = np.random.Generator(np.random.PCG64(2))
    x, sets = np.linspace(2.5, 6.0, 40), []
    for intercept, noise in ((1.1, 0.02), (1.4, 0.05)):
        y = 0.9 * (x - 1.5) ** 1.3 + intercept + noise * generator.normal(size=x.size)
        sets.append(DataSet({"x": x}, y, {"kappa": 1.3, "E_x": 1.5}))
    first, second = fit_law_sharing(SHIFTED_POWER, sets, ["K"], objective=LEAST_SQUARES)
    slope, one, zero = np.tile((x - 1.5) ** 1.3, 2), np.repeat([1.0, 0.0], 40), np.repeat([0.0, 1.0], 40)
    matrix = np.stack([slope, one, zero], axis=1)
    inverse = np.linalg.inv(matrix.T @ matrix)
    y = np.concatenate([points.y for points in sets])
    estimate = inverse @ matrix.T @ y
    assert [first.parameters["K"], first.parameters["E_y"], second.parameters["E_y"]] == pytest.approx(estimate)
    leverage = np.sum((matrix @ inverse) * matrix, axis=1)
    squares = (y - matrix @ estimate) ** 2
    variance = np.repeat([squares[k].sum() / (1 - leverage[k]).sum() for k in (slice(40), slice(40, 80))], 40)
    error = np.sqrt(np.diag(inverse @ (matrix.T * variance) @ matrix @ inverse))
    reach = scipy.stats.t.ppf(0.95, 77) * error
    assert first.intervals == second.intervals | {"E_y": first.intervals["E_y"]}
    assert first.intervals["K"] == pytest.approx((estimate[0] - reach[0], estimate[0] + reach[0]), rel=2e-3)
    assert second.intervals["E_y"] == pytest.approx((estimate[2] - reach[2], estimate[2] + reach[2]), rel=2e-3)


def test_a_group_with_few_rows_lends_its_exponents_from_the_others():
    frame = pd.concat([table(["a", "b"]), table(["few"]).iloc[[0, 6, 13, 24]]], ignore_index=True)
    alone = fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"])
    assert any("4 points for 5 free parameters" in text for text in alone.failures)
    options = LawOptions(shared=["alpha", "beta"])
    law_fits = fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"], options=options)
    assert law_fits.failures == ()
    fits = {item.label: item.fit for item in law_fits.fits}
    assert fits["data=few"].parameters["E"] == pytest.approx(1.8, abs=0.03)
    assert fits["data=few"].intervals["alpha"] == fits["data=a"].intervals["alpha"]
    kind = "90%, profile likelihood of 3 data sets together, of independent rows"
    assert fits["data=a"].conventions["intervals"] == kind
    text = " ".join(law_fits_text(law_fits).split())
    assert "one value in all groups: alpha, beta" in text


def test_points_for_the_groups_but_not_for_all_parameters_are_too_few():
    sets = [
        DataSet({name: v[:3] for name, v in points.inputs.items()}, points.y[:3], {"beta": 0.36})
        for points in data_sets()
    ]
    fits = fit_law_sharing(CHINCHILLA, sets, ["alpha"])
    assert {fit.status for fit in fits} == {"too few points"}
    assert fits[0].note == "all data sets together have 9 points for 10 free parameters"
    (short, *others) = fit_law_sharing(CHINCHILLA, [DataSet({"N": [1e8], "D": [1e9]}, [3.0]), *data_sets()], ["alpha"])
    assert short.note == "1 points for 4 free parameters of its own"
    assert others == fit_law_sharing(CHINCHILLA, data_sets(), ["alpha"])


def test_held_values_are_those_of_a_plain_fit():
    frame = table(["a"])
    law_fits = fit_laws(frame, "chinchilla", INPUTS, ["loss"], options=LawOptions(fixed={"E": 1.8}))
    inputs = {"N": frame["params"], "D": frame["tokens"]}
    assert (
        law_fits.fits[0].fit.parameters == fit_law("chinchilla", frame["loss"], fixed={"E": 1.8}, **inputs).parameters
    )
    assert "held: E = 1.8" in " ".join(law_fits_text(law_fits).split())
    with pytest.raises(LosslineError, match="E is held at 50, not below the smallest value, .*; give a smaller one"):
        fit_laws(frame, "chinchilla", INPUTS, ["loss"], options=LawOptions(fixed={"E": 50.0}))


def test_a_held_value_between_the_losses_is_refused():
    """The smallest loss would lie below the irreducible one, which no law of this form allows."""
    frame = table(["a"])
    between = float(frame["loss"].median())
    with pytest.raises(LosslineError, match="not below the smallest value"):
        fit_laws(frame, "chinchilla", INPUTS, ["loss"], options=LawOptions(fixed={"E": between}))


def test_one_name_may_be_given_as_text():
    frame = table(["a", "b"])
    options = LawOptions(shared="alpha", level=None)
    listed = LawOptions(shared=["alpha"], level=None)
    assert fit_laws(frame, "chinchilla", INPUTS, "loss", by="data", options=options) == fit_laws(
        frame, "chinchilla", INPUTS, ["loss"], by=["data"], options=listed
    )


def test_runs_with_several_rows_widen_the_intervals_of_a_joint_fit():
    frame = table(["a", "b"])
    frame["run"] = frame["data"] + (np.arange(len(frame)) // 5).astype(str)
    shift = np.random.Generator(np.random.PCG64(3)).normal(0, 0.01, 10)
    frame["loss"] *= np.exp(shift[np.arange(len(frame)) // 5])
    options = LawOptions(shared=["alpha"])
    by_row, by_run = (
        fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"], cluster=cluster, options=options).fits[0].fit
        for cluster in (None, "run")
    )
    assert by_run.parameters == by_row.parameters
    assert by_run.conventions["intervals"] == "90%, profile likelihood of 2 data sets together, by 10 runs"
    assert "rows of one run share" in by_run.note


def corpora(own=0.0, common=0.0, seed=0):
    """Return two data sets with equal budgets, whose rows share an error at a budget within a set, or in both."""
    generator, sets = np.random.Generator(np.random.PCG64(seed)), []
    level = np.repeat(np.arange(7), 7)
    compute = np.geomspace(1e18, 1e21, 7)[level]
    size = 0.1 * compute**0.5 * 10 ** (np.tile(np.linspace(-1, 1, 7), 7) / 2)
    inputs = {"N": size, "D": compute / 6 / size}
    shift = common * generator.normal(size=7)
    for irreducible in (1.6, 0.9):
        loss = CHINCHILLA({"E": irreducible, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}, inputs)
        error = shift + own * generator.normal(size=7)
        sets.append(DataSet(inputs, loss * np.exp(error[level] + 0.002 * generator.normal(size=49))))
    return sets


def found_common(sets):
    """Return the common error that the residuals of separate fits show."""
    problems = [
        build_problem(CHINCHILLA, points.inputs, np.asarray(points.y), LOG_HUBER, fixed={}, weights=None)
        for points in sets
    ]
    fits = fit_law_many(CHINCHILLA, sets, objective=LOG_HUBER, level=None, num_starts=8)
    joint = JointProblem(tuple(problems), ())
    u_GP = np.stack([problem.search(fit.parameters) for problem, fit in zip(problems, fits, strict=True)])
    stacked = stack(joint, u_GP)
    budget_n = np.tile(np.repeat(np.arange(7), 7), 2)
    group_n = budget_n + 7 * stacked.data_set_n
    noise = estimate_noise(stacked.residual_n, stacked.jacobian_nK, group_n, block_n=stacked.data_set_n)
    return common_error(noise, stacked.residual_n, stacked.jacobian_nK, budget_n)


def test_a_common_error_is_told_only_where_data_sets_have_one():
    """With errors of each data set alone, p is uniform: it is below .05 in about one of 20 tables."""
    alone = [found_common(corpora(own=0.004, seed=seed)).p_value for seed in range(20)]
    assert np.sum(np.array(alone) < 0.05) <= 3
    assert 0.3 < np.mean(alone) < 0.75
    common = [found_common(corpora(common=0.004, seed=seed)) for seed in range(10)]
    assert np.sum([each.p_value < 0.05 for each in common]) >= 9
    assert np.median([each.share for each in common]) == pytest.approx(0.8, abs=0.15)  # 16 of 16 + 4


def test_the_note_names_a_common_error_only_if_it_is_shown():
    groups = [groups_of_rows(points.inputs) for points in corpora()]
    common, own = (
        fit_law_sharing(CHINCHILLA, sets, ["alpha"], groups=groups)[0].note
        for sets in (corpora(common=0.004), corpora(own=0.004))
    )
    assert "of the error variance is common to all data sets at a budget (p " in common
    assert "is common to all data sets" not in own


def test_a_group_that_does_not_agree_with_a_shared_or_held_value_is_named():
    sets = corpora()
    frame = pd.concat([pd.DataFrame({**s.inputs, "loss": s.y, "data": str(k)}) for k, s in enumerate(sets)])
    frame = frame.reset_index(drop=True)

    def notes(**options):
        choices = LawOptions(level=None, **options)
        law_fits = fit_laws(frame, "chinchilla", {}, ["loss"], by=["data"], options=choices)
        return [item.fit.note for item in law_fits.fits]

    assert any("the groups do not agree in E" in note for note in notes(shared=["E"]))
    assert not any("agree" in note for note in notes(shared=["alpha", "beta"]))
    assert not any("agree" in note for note in notes(fixed={"alpha": 0.34}))
    assert "the rows do not agree with E = 1.5" in notes(fixed={"E": 1.5})[1]
    (first,) = notes(fixed={"E": 1.6})  # the second has losses below 1.6
    assert "agree" not in first


def test_a_group_with_nobody_to_share_with_is_refused():
    frame = table(["a", "b"])
    frame.loc[30, "loss"] = -1.0
    with pytest.raises(LosslineError, match=r"shared: only data=a of 2 groups can be fitted to loss.*loss is -1"):
        fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"], options=LawOptions(shared=["alpha"]))
    with pytest.raises(LosslineError, match="shared: the columns of by give one group only, data=a"):
        fit_laws(table(["a"]), "chinchilla", INPUTS, ["loss"], by=["data"], options=LawOptions(shared=["alpha"]))
    few = pd.concat([table(["a"]), table(["b"]).iloc[:2]], ignore_index=True)
    with pytest.raises(LosslineError, match="shared: only data=a of 2 groups can be fitted to loss.*2 points for 4"):
        fit_laws(few, "chinchilla", INPUTS, ["loss"], by=["data"], options=LawOptions(shared=["alpha"]))
    frame = pd.concat([frame, table(["c"])], ignore_index=True)
    options = LawOptions(shared=["alpha"], level=None)
    three = fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"], options=options)
    assert "one value in 2 of 3 groups: alpha" in " ".join(law_fits_text(three).split())


@pytest.mark.parametrize(
    ("by", "options", "message"),
    [
        (["data"], {"shared": ["alpah"]}, "shared: chinchilla has no parameter 'alpah'; did you mean 'alpha'"),
        (["data"], {"shared": ["alpha", "alpha"]}, "shared: alpha is given twice"),
        ((), {"shared": ["alpha"]}, "shared: a parameter is shared across the groups of by"),
        (["data"], {"shared": ["E"], "fixed": {"E": 1.6}}, "shared: E is held at 1.6 by fixed"),
        ((), {"fixed": {"F": 1.6}}, "fixed: chinchilla has no parameter 'F'"),
        ((), {"fixed": {"alpha": 9.0}}, "fixed: alpha is held at 9, outside its range from 0.01 to 3"),
        ((), {"fixed": {"A": 9.0}}, "fixed: A of chinchilla depends on the unit of its inputs"),
    ],
)
def test_mistakes_get_one_line(by, options, message):
    with pytest.raises(LosslineError, match=message) as caught:
        fit_laws(table(), "chinchilla", INPUTS, ["loss"], by=by, options=LawOptions(**options))
    assert "\n" not in str(caught.value)
