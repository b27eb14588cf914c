"""Fit Sloth's skill law: scores of many benchmarks from size, tokens and family, through a few latent skills.

    Y_ij = c_j + (1 - c_j) sigmoid(Lambda_j . theta_i + b_j),   theta_i = B^T x_i + alpha_family(i) in R^d

Polo et al. 2024 (arXiv 2412.06540), the variant with the logistic link and fixed lower bounds c_j. Shapes: n models,
J benchmarks, F families, k features, d skills.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from lossline_jax.errors import LosslineError
from lossline_jax.fit.skills.descent import SkillProblem

# theta can be rotated and stretched freely, and far out on a sigmoid nothing changes. A ridge selects one of the equal
# solutions. From 1e-5 to 1e-2 it changes the held-out error of the authors' tables by less than 2%.
RIDGE = 1e-3
MAX_ITERATIONS = 300  # steps of one descent, by convention


def skill_features(tokens: Any, params: Any) -> np.ndarray:
    """Return the features (n, 3): ln T, ln S and ln S ln T.

    Args:
        tokens: (n,) training tokens T, in trillions.
        params: (n,) parameters S, in billions.
    """
    log_t, log_s = np.log(np.asarray(tokens, float)), np.log(np.asarray(params, float))
    return np.stack([log_t, log_s, log_t * log_s], axis=-1)


def flops_feature(flops: Any) -> np.ndarray:
    """Return the feature (n, 1) of a baseline that knows training compute alone: ln F.

    Args:
        flops: (n,) training FLOPs F.
    """
    return np.log(np.asarray(flops, float))[:, None]


@dataclass(frozen=True, eq=False)
class SkillFit:
    """A fitted skill law. Rotations of the skills are not identified: use `predict`, or rotate the skills first."""

    centre_k: np.ndarray  # standardised features are (x - centre) / spread
    spread_k: np.ndarray
    slopes_kd: np.ndarray  # B
    loadings_Jd: np.ndarray  # Lambda
    biases_J: np.ndarray  # b
    lower_J: np.ndarray  # c, given
    intercepts: dict[str, np.ndarray]  # alpha, (d,) by family; empty: one intercept is shared by all
    objective: float  # sum of smooth L1 over observed scores, with the ridge
    converged: bool
    share_of_starts: float  # starts whose end is within 1% of the best objective

    def skills(self, features_nk: Any, families: Sequence[str]) -> np.ndarray:
        """Return the skills theta (n, d).

        Args:
            features_nk: features, as given to `fit_skills`.
            families: (n,) names of the families.

        Raises:
            LosslineError: the fit had no model of a family.
        """
        theta_nd = ((np.asarray(features_nk, float) - self.centre_k) / self.spread_k) @ self.slopes_kd
        if not self.intercepts:
            return theta_nd
        if unknown := sorted(set(families) - set(self.intercepts)):
            raise LosslineError(f"no model of the families {unknown} was in the fit: their intercepts are unknown")
        return theta_nd + np.stack([self.intercepts[name] for name in families])

    def predict(self, features_nk: Any, families: Sequence[str]) -> np.ndarray:
        """Return the predicted scores (n, J).

        Args:
            features_nk: features, as given to `fit_skills`.
            families: (n,) names of the families.
        """
        logits_nJ = self.skills(features_nk, families) @ self.loadings_Jd.T + self.biases_J
        return self.lower_J + (1 - self.lower_J) * special.expit(logits_nJ)


def fit_skills(
    features_nk: Any,
    scores_nJ: Any,
    families: Sequence[str],
    *,
    lower_J: Any,
    num_skills: int,
    family_intercepts: bool = True,
    ridge: float = RIDGE,
    num_starts: int = 2,
) -> SkillFit:
    """Fit the law by the sum of smooth L1 from a few seeded starts, by Levenberg-Marquardt in float64.

    The authors use Adam for up to 1e5 epochs.

    Args:
        features_nk: features, such as `skill_features`.
        scores_nJ: scores from 0 to 1. NaN: the model was not scored.
        families: (n,) names of the families.
        lower_J: score of guessing on each benchmark.
        num_skills: number of latent skills.
        family_intercepts: True: each family has its own intercept. False: all share one, as in the baseline.
        ridge: factor on half the sum of squares of all parameters.
        num_starts: starts of the search.

    Raises:
        LosslineError: shapes do not fit together, or a feature is not finite.
    """
    names = sorted(set(families)) if family_intercepts else []
    features_nk, scores_nJ, lower_J = (np.asarray(values, float) for values in (features_nk, scores_nJ, lower_J))
    _require_shapes(features_nk, scores_nJ, len(families), lower_J.size)
    centre_k, spread_k = features_nk.mean(axis=0), features_nk.std(axis=0)
    spread_k = np.where(spread_k > 0, spread_k, 1.0)
    problem = SkillProblem(
        x_nk=(features_nk - centre_k) / spread_k,
        y_nJ=scores_nJ,
        lower_J=lower_J,
        family_n=np.array([names.index(name) for name in families]) if names else np.zeros(len(families), int),
        num_families=len(names),
        num_skills=num_skills,
        ridge=ridge,
    )
    generator = np.random.Generator(np.random.PCG64(0))
    ends = [problem.descend(problem.start(generator), MAX_ITERATIONS) for _ in range(num_starts)]
    best = min(ends, key=lambda end: end.objective)
    slopes_kd, loadings_Jd, biases_J, alpha_Fd = problem.split(best.u)
    return SkillFit(
        centre_k=centre_k,
        spread_k=spread_k,
        slopes_kd=slopes_kd,
        loadings_Jd=loadings_Jd,
        biases_J=biases_J,
        lower_J=lower_J,
        intercepts=dict(zip(names, alpha_Fd, strict=True)),
        objective=best.objective,
        converged=best.converged,
        share_of_starts=float(np.mean([end.objective <= 1.01 * best.objective for end in ends])),
    )


def _require_shapes(features_nk: np.ndarray, scores_nJ: np.ndarray, num_models: int, num_benchmarks: int) -> None:
    shapes_fit = features_nk.shape[:1] == (num_models,) and scores_nJ.shape == (num_models, num_benchmarks)
    if not (shapes_fit and np.isfinite(features_nk).all()):
        raise LosslineError(
            f"skills: features {features_nk.shape}, scores {scores_nJ.shape}, {num_models} families and "
            f"{num_benchmarks} lower bounds do not fit together, or a feature is not finite; give one row for each "
            "model and one column for each benchmark"
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of models from families that were mostly unseen."""

    predicted_nJ: np.ndarray  # NaN for models that were not held out
    by_family: dict[str, float]  # mean absolute error over the family's held-out models and all benchmarks
    by_benchmark_J: np.ndarray  # mean absolute error over held-out models

    @property
    def mean_absolute_error(self) -> float:
        """The mean over families, each with the same weight."""
        return float(np.mean(list(self.by_family.values())))


def leave_family_out(
    features_nk: Any, scores_nJ: Any, families: Sequence[str], *, num_seen: int = 1, **options: Any
) -> HeldOut:
    """Predict each family from all other families and from its own first `num_seen` models, in the order of the rows.

    Families of no more than `num_seen` models are never held out. To predict larger models from smaller ones, sort the
    rows by size or compute first.

    Args:
        features_nk: as for `fit_skills`.
        scores_nJ: as for `fit_skills`.
        families: as for `fit_skills`.
        num_seen: models of the predicted family that the fit sees.
        options: the other arguments of `fit_skills`.
    """
    features_nk, scores_nJ, names_n = np.asarray(features_nk, float), np.asarray(scores_nJ, float), np.array(families)
    predicted_nJ = np.full(scores_nJ.shape, np.nan)
    by_family: dict[str, float] = {}
    for name in sorted(set(names_n.tolist())):
        unseen = np.flatnonzero(names_n == name)[num_seen:]
        if unseen.size == 0:
            continue
        fit_rows = np.setdiff1d(np.arange(names_n.size), unseen)
        fit = fit_skills(features_nk[fit_rows], scores_nJ[fit_rows], names_n[fit_rows].tolist(), **options)
        predicted_nJ[unseen] = fit.predict(features_nk[unseen], names_n[unseen].tolist())
        by_family[name] = float(np.nanmean(np.abs(predicted_nJ[unseen] - scores_nJ[unseen])))
    if not by_family:
        raise LosslineError(f"no family has more than {num_seen} models: none can be held out")
    by_benchmark_J = np.nanmean(np.abs(predicted_nJ - scores_nJ), axis=0)
    return HeldOut(predicted_nJ=predicted_nJ, by_family=by_family, by_benchmark_J=by_benchmark_J)
