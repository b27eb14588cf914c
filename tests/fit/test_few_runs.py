"""Few runs on a new data set predict a large run, on planted losses and on the published sweep."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.predict.few_runs import (
    FLOPS_TO_LOSS,
    IDENTITY,
    SCALING_LAW,
    TEST_TO_TEST,
    TRAIN_TO_TEST,
    PairedRuns,
    predict_from_few_runs,
)
from lossline_jax.fit.tables.pairing import pair_runs
from tests.support.shared_data import shared_path

HELLASWAG = "eval/downstream_ce_loss/hellaswag_test_ce_loss"


def plant_runs(size, tokens):
    train = 1.9 + 400 * size**-0.34 + 2000 * tokens**-0.36
    known = 0.8 * (train - 1.0) ** 1.1 + 1.0
    new = 0.7 * (known - 0.8) ** 1.2 + 1.3
    return PairedRuns(size, tokens, 6 * size * tokens, train, known, new)


def test_lines_find_the_planted_loss_where_few_runs_alone_cannot():
    size = np.geomspace(2e7, 5e8, 7)
    few, target = plant_runs(size, 20 * size), plant_runs(np.array([8e9]), np.array([1.6e11]))
    predictions = {prediction.method: prediction for prediction in predict_from_few_runs(few, target)}
    assert predictions[TEST_TO_TEST].loss[0] == pytest.approx(target.loss[0], rel=2e-3)
    assert predictions[TRAIN_TO_TEST].loss[0] == pytest.approx(target.loss[0], rel=2e-3)
    assert abs(predictions[IDENTITY].loss[0] / target.loss[0] - 1) > 0.05


def test_a_method_that_cannot_be_fitted_says_so_and_no_other_steps_in():
    size = np.geomspace(2e7, 5e8, 3)
    target = plant_runs(np.array([1e9]), np.array([2e10]))
    predictions = {
        prediction.method: prediction for prediction in predict_from_few_runs(plant_runs(size, 20 * size), target)
    }
    assert predictions[SCALING_LAW].loss == (None,)
    assert "3 points for 5 free parameters" in predictions[SCALING_LAW].note
    assert predictions[FLOPS_TO_LOSS].loss[0] is not None


def test_no_runs_is_one_line():
    no_runs = plant_runs(np.array([]), np.array([]))
    with pytest.raises(LosslineError, match="some runs"):
        predict_from_few_runs(no_runs, no_runs)


def test_methods_have_the_published_order_on_the_sweep():
    """The published errors at 1e21 FLOPs are 1.2% (test to test), 1.6% (train to test), 1.7, 2.1 and 9.2% (identity).

    The test predicts the largest budget of the sweep instead.
    """
    sweep = pd.read_csv(shared_path("reference/loss_to_loss/brandfonbrener_sweep.csv"))
    errors = {}
    for known in sweep["data"].unique():
        for new in set(sweep["data"]) - {known}:
            pairs = pair_runs(
                sweep[sweep["data"] == known], sweep[sweep["data"] == new], ["params", "iso_flop", "n_layers"]
            )
            ratio = pairs.first["tokens"] / pairs.first["params"]
            largest = pairs.first["iso_flop"] > 4.8e19
            few = (ratio > 16) & (ratio < 23) & (pairs.first["n_layers"] != 20) & ~largest
            runs, target = select_runs(pairs, few), select_runs(pairs, largest & (ratio > 5) & (ratio < 60))
            for prediction in predict_from_few_runs(runs, target):
                predicted = np.array([np.nan if loss is None else loss for loss in prediction.loss])
                errors.setdefault(prediction.method, []).append(np.mean(np.abs(predicted / target.loss - 1)))
    mean = {method: np.nanmean(values) for method, values in errors.items()}
    assert mean[TEST_TO_TEST] < 0.006
    assert mean[TRAIN_TO_TEST] < 0.008
    assert mean[TEST_TO_TEST] < mean[SCALING_LAW] < mean[IDENTITY]
    assert mean[IDENTITY] > 0.1


def select_runs(pairs, rows):
    columns = ("params", "tokens", "iso_flop", "val_loss", HELLASWAG)
    known = [pairs.first[rows][name].to_numpy(float) for name in columns]
    return PairedRuns(*known, pairs.second[rows][HELLASWAG].to_numpy(float))
