"""Fits of published tables give the published numbers (study.md sections 1, 4, 5; laws.md section 2)."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.fit.curves.compute_law import fit_compute_law, kaplan_allocation
from lossline_jax.fit.curves.line import fit_line, translate
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.study.fit_study import fit_study
from lossline_jax.fit.tables.pairing import pair_runs
from tests.support.shared_data import shared_path

X, Y = "fineweb_edu_val_loss", "hellaswag_test_loss"


@pytest.fixture(scope="module")
def sweep():
    return pd.read_csv(shared_path("reference/loss_to_loss/brandfonbrener_sweep.csv"))


@pytest.fixture(scope="module")
def published():
    fits = pd.read_csv(shared_path("reference/loss_to_loss/brandfonbrener_published_fits.csv"))
    return fits[fits["kaplan"] & (fits["loss_name"] == "val_loss")].set_index("data")


@pytest.fixture(scope="module")
def figure_1():
    return pd.read_csv(shared_path("reference/loss_to_loss/llms_on_the_line_fig1_points.csv"))


@pytest.mark.parametrize(
    "name",
    ["fineweb-100b", "fineweb-edu-100b", "proof-pile-2", "slimpajama-chunk1", "smollm-corpus", "starcoder"],
)
def test_kaplan_form_fits_of_the_sweep(sweep, published, name):
    rows, golden = sweep[sweep["data"] == name], published.loc[name]
    fit = fit_compute_law(rows["val_loss"], N=rows["params"], D=rows["tokens"])
    assert fit.status == "converged"
    assert fit.parameters["E"] == pytest.approx(golden["E"], rel=1e-3)
    assert fit.parameters["alpha"] == pytest.approx(golden["alpha"], rel=1e-2)
    # the published objective is the mean of the same Huber loss
    assert fit.objective / fit.num_points <= golden["loss"] * 1.001
    assert fit.r_squared == pytest.approx(golden["r_squared"], abs=2e-4)
    assert fit.share_of_starts > 0.9


@pytest.mark.parametrize("law", [KAPLAN, CHINCHILLA], ids=lambda law: law.name)
def test_every_published_fit_of_the_sweep_is_reached(sweep, law):
    """Each form has 138 published fits of (set, loss). The published objective is the mean of the same Huber loss."""
    published = pd.read_csv(shared_path("reference/loss_to_loss/brandfonbrener_published_fits.csv"))
    published = published[published["kaplan"] == (law is KAPLAN)]
    data = []
    for _, golden in published.iterrows():
        rows = sweep[sweep["data"] == golden["data"]]
        data.append(DataSet({"N": rows["params"], "D": rows["tokens"]}, rows[golden["loss_name"]]))
    assert len(data) == 138
    few, many = (fit_law_many(law, data, num_starts=num) for num in (12, 48))
    objectives = np.array([fit.objective / fit.num_points for fit in few])
    best = np.minimum(published["loss"].to_numpy(), [fit.objective / fit.num_points for fit in many])
    assert np.all(objectives <= best * 1.001)
    assert {fit.status for fit in few} <= {"converged", "bound hit"}
    assert all(np.isfinite(list(fit.parameters.values())).all() for fit in few)


TRANSLATION_R2 = {  # published R² of the translated law on the whole target sweep
    "fineweb-100b": 0.990,
    "fineweb-edu-100b": 0.990,
    "proof-pile-2": 0.988,
    "slimpajama-chunk1": 0.991,
    "smollm-corpus": 0.991,
    "starcoder": 0.986,
}


@pytest.mark.parametrize("target", TRANSLATION_R2)
def test_laws_translated_by_a_few_target_runs(sweep, published, target):
    rows = sweep[sweep["data"] == target]
    ratio = rows["tokens"] / rows["params"]
    few = rows[(ratio > 16) & (ratio < 23) & (rows["n_layers"] != 20)]
    assert 6 <= len(few) <= 8
    r_squared = []
    for source in set(TRANSLATION_R2) - {target}:
        known = sweep[sweep["data"] == source]
        law = fit_compute_law(known["val_loss"], N=known["params"], D=known["tokens"])
        pairs = pair_runs(known, few, ["params", "iso_flop", "n_layers"])
        line = fit_line(pairs.first["val_loss"], pairs.second["val_loss"], e_x=law, level=None)
        predicted = translate(law, line).predict(N=rows["params"], D=rows["tokens"])
        spread = np.sum((rows["val_loss"] - rows["val_loss"].mean()) ** 2)
        r_squared.append(1 - np.sum((rows["val_loss"] - predicted) ** 2) / spread)
    assert np.mean(r_squared) == pytest.approx(TRANSLATION_R2[target], abs=0.002)


def test_translation_keeps_the_compute_optimal_size(sweep):
    sides = [sweep[sweep["data"] == name] for name in ("fineweb-100b", "starcoder")]
    law, target_law = (fit_compute_law(rows["val_loss"], N=rows["params"], D=rows["tokens"]) for rows in sides)
    pairs = pair_runs(*sides, ["params", "iso_flop", "n_layers"])
    line = fit_line(
        pairs.first["val_loss"], pairs.second["val_loss"], e_x=law, e_y=target_law, residual="log-log", level=None
    )
    translated = translate(law, line)
    size, tokens = np.array([1e8, 1e9]), np.array([1e10, 1e11])
    through_the_line = line.predict(law.predict(N=size, D=tokens))
    assert translated.predict(N=size, D=tokens) == pytest.approx(through_the_line, rel=1e-12)
    budgets = np.array([1e19, 1e21])
    assert (
        pytest.approx(kaplan_allocation(law.parameters, budgets).N, rel=1e-12)
        == kaplan_allocation(translated.parameters, budgets).N
    )


@pytest.mark.parametrize(
    ("first", "second", "kappa", "scale", "r_squared"),
    [
        ("fineweb-100b", "fineweb-edu-100b", 0.99937, 0.98577, 0.99977),
        ("fineweb-100b", "proof-pile-2", 1.06535, 0.59610, 0.99883),
        ("fineweb-100b", "slimpajama-chunk1", 0.96584, 1.03953, 0.99973),
        ("fineweb-100b", "smollm-corpus", 1.00501, 1.05482, 0.99986),
        ("fineweb-100b", "starcoder", 1.09041, 0.62303, 0.99711),
        ("fineweb-edu-100b", "fineweb-100b", 1.00047, 1.01443, 0.99977),
        ("fineweb-edu-100b", "starcoder", 1.10024, 0.63310, 0.99788),
    ],
)
def test_train_to_train_with_given_irreducible_losses(sweep, published, first, second, kappa, scale, r_squared):
    sides = [sweep[sweep["data"] == name] for name in (first, second)]
    pairs = sides[0].merge(sides[1], on=["params", "iso_flop", "n_layers"])
    fit = fit_line(
        pairs["val_loss_x"],
        pairs["val_loss_y"],
        e_x=published.loc[first, "E"],
        e_y=published.loc[second, "E"],
        residual="log-log",
    )
    assert fit.status == "converged"
    assert fit.parameters["kappa"] == pytest.approx(kappa, abs=1e-4)
    assert fit.parameters["K"] == pytest.approx(scale, abs=1e-4)
    assert fit.r_squared == pytest.approx(r_squared, abs=1e-4)


@pytest.mark.parametrize(
    ("series", "r_squared"), [("base", 0.9989), ("tokenizer", 0.9992), ("pretraining_data", 0.9989)]
)
def test_free_fits_of_figure_1(figure_1, series, r_squared):
    rows = figure_1[figure_1["series"] == series]
    fit = fit_line(rows[X], rows[Y])
    assert fit.r_squared == pytest.approx(r_squared, abs=1e-4)
    # every E_x in 1.0-2.3 fits equally well, so the result must not state one of them as known
    assert fit.status == "not identified"
    assert "E_x" in fit.not_identified
    assert fit.intervals["E_x"][0] <= 1.0
    assert fit.intervals["E_x"][1] >= 2.3


@pytest.mark.parametrize(("e_x", "kappa"), [(1.0, 2.07), (2.3, 1.52)])
def test_flat_e_x_of_figure_1(figure_1, e_x, kappa):
    rows = figure_1[figure_1["series"] == "base"]
    fit = fit_line(rows[X], rows[Y], e_x=e_x)
    assert 0.0093 <= fit.rmse <= 0.0096
    assert fit.parameters["kappa"] == pytest.approx(kappa, abs=0.01)


def test_gaps_of_figure_1(figure_1):
    """Data and tokenizer move the line in nats/token (study.md, section 4). Other factors stay below three noises."""
    (series,) = fit_study(figure_1, X, Y, {"series": "base"}, factors=["series"]).comparisons
    golden = {
        "pretraining_data": -0.399,
        "tokenizer": 0.040,
        "context_length": -0.020,
        "architecture": -0.015,
        "optimizer": -0.006,
        "size": -0.003,
    }
    assert {level.level: level.gap for level in series.levels} == pytest.approx(golden, abs=5e-3)
    assert series.noise == pytest.approx(0.009, abs=1.1e-3)
    verdicts = {level.level: level.verdict for level in series.levels}
    stay = dict.fromkeys(("size", "optimizer", "architecture", "context_length"), "does not move")
    assert verdicts == {"pretraining_data": "moves", "tokenizer": "moves"} | stay
    assert "one run a level" in series.note  # the noise within a run does not show the noise of another seed
    assert series.p is None


def test_chinchilla_on_the_240_points():
    table = pd.read_csv(shared_path("reference/chinchilla/epoch_svg_extracted_data.csv"))
    table = table.sort_values("loss")[:-5]
    num_params = table["Model Size"].to_numpy()
    fit = fit_compute_law(table["loss"], N=num_params, D=table["Training FLOP"] / (6 * num_params), form="chinchilla")
    assert fit.num_points == 240
    assert fit.status == "converged"
    assert fit.objective == pytest.approx(0.001018274018, rel=1e-7)
    assert fit.parameters["E"] == pytest.approx(1.8172, abs=1e-4)
    assert fit.parameters["alpha"] == pytest.approx(0.3473, abs=1e-4)
    assert fit.parameters["beta"] == pytest.approx(0.3672, abs=1e-4)
    # profile intervals have a width like that of the published bootstrap (95%), and hold its estimate
    for name, published in (
        ("E", 1.8172),
        ("A", 482.01),
        ("B", 2085.43),
        ("alpha", 0.3478),
        ("beta", 0.3658),
    ):
        low, high = fit.intervals[name]
        assert low < published < high
    assert np.ptp(fit.intervals["E"]) == pytest.approx(0.10, rel=0.6)
    assert np.ptp(fit.intervals["A"]) == pytest.approx(458, rel=0.6)
