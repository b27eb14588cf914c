"""The skill law recovers planted scores, and is better than compute alone on families with few seen models."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.skills.fit import fit_skills, flops_feature, leave_family_out, skill_features
from tests.support.shared_data import shared_path

SIZE, TOKENS, FLOPS = "#Params (B)", "Pretraining Data Size (T)", "FLOPs (1E21)"
LEADERBOARDS = {
    1: ["MMLU", "ARC", "HellaSwag", "Winogrande", "TruthfulQA", "GSM8K"],
    2: ["IFEval", "BBH", "MATH Lvl 5", "GPQA", "MUSR", "MMLU-PRO"],
}


@pytest.fixture(scope="module")
def planted():
    """Return four families of five models each, with two skills and four benchmarks."""
    generator = np.random.Generator(np.random.PCG64(3))
    sizes, tokens = np.tile(np.geomspace(0.3, 70, 5), 4), generator.uniform(0.3, 5, 20)
    families = np.repeat(["a", "b", "c", "d"], 5).tolist()
    features = skill_features(tokens, sizes)
    theta = features @ generator.uniform(0.05, 0.3, (3, 2)) + np.repeat(generator.normal(0, 0.7, (4, 2)), 5, axis=0)
    logits = theta @ generator.uniform(0.3, 1.2, (2, 4)) - 0.5
    lower = np.array([0.25, 0.0, 0.5, 0.2])
    return features, lower + (1 - lower) / (1 + np.exp(-logits)), families, lower


def test_planted_scores_are_recovered_with_holes(planted):
    features, scores, families, lower = planted
    holes = scores.copy()
    holes[[2, 7, 11], [0, 1, 3]] = np.nan
    fit = fit_skills(features, holes, families, lower_J=lower, num_skills=2, ridge=1e-8)
    assert fit.converged
    assert fit.predict(features, families) == pytest.approx(scores, abs=2e-3)


def test_planted_scores_of_unseen_models_are_predicted(planted):
    features, scores, families, lower = planted
    held_out = leave_family_out(features, scores, families, num_seen=2, lower_J=lower, num_skills=2, ridge=1e-8)
    assert set(held_out.by_family) == {"a", "b", "c", "d"}
    assert np.isnan(held_out.predicted_nJ[[0, 1, 5, 6]]).all()  # the first two of each family were seen
    assert held_out.mean_absolute_error < 2e-3
    one_skill = leave_family_out(features, scores, families, num_seen=2, lower_J=lower, num_skills=1)
    assert one_skill.mean_absolute_error > 5 * held_out.mean_absolute_error


def test_scores_stay_between_the_lower_bound_and_one(planted):
    features, scores, families, lower = planted
    fit = fit_skills(features, scores, families, lower_J=lower, num_skills=2)
    far = fit.predict(100 * features, families)
    assert np.all((far >= lower) & (far <= 1))


def test_same_call_same_bits(planted):
    features, scores, families, lower = planted
    first, second = (
        fit_skills(features, scores, families, lower_J=lower, num_skills=2).predict(features, families)
        for _ in range(2)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("leaderboard", "skills_error", "flops_error"), [(1, 0.052, 0.069), (2, 0.047, 0.051)])
def test_leave_family_out_beats_compute_alone_on_the_authors_table(leaderboard, skills_error, flops_error):
    benchmarks = LEADERBOARDS[leaderboard]
    table = pd.read_csv(shared_path("reference/sloth/data_v2.csv"))
    table = table.dropna(subset=[*benchmarks, SIZE, TOKENS, FLOPS]).sort_values(FLOPS)  # larger from smaller models
    bounds = pd.read_csv(shared_path("reference/sloth/lower_bounds.csv"))
    common = {"families": table["Family2"].tolist(), "lower_J": bounds.loc[0, benchmarks].to_numpy(float)}
    scores = table[benchmarks].to_numpy()
    skills = leave_family_out(
        skill_features(table[TOKENS], table[SIZE]), scores, **common, num_skills=2, num_starts=1
    ).mean_absolute_error
    flops = leave_family_out(
        flops_feature(table[FLOPS]), scores, **common, num_skills=1, family_intercepts=False, num_starts=1
    ).mean_absolute_error
    assert skills < skills_error
    assert flops > flops_error
    print(f"leaderboard {leaderboard}: mean absolute error {skills:.4f} by skills, {flops:.4f} by FLOPs alone")


def test_mistakes_get_one_line(planted):
    features, scores, families, lower = planted
    fit = fit_skills(features, scores, families, lower_J=lower, num_skills=1)
    for call, message in (
        (lambda: fit.predict(features[:1], ["z"]), "were not|unknown"),
        (lambda: fit_skills(features[:3], scores, families, lower_J=lower, num_skills=1), "do not fit together"),
        (lambda: leave_family_out(features, scores, families, num_seen=5, lower_J=lower, num_skills=1), "no family"),
    ):
        with pytest.raises(LosslineError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
