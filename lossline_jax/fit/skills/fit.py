"""Sloth's skill law: many benchmarks from size, tokens and family through a few latent skills.

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

# theta may be turned and stretched freely, and far out on a sigmoid nothing changes: a ridge picks one of the equal
# solutions. From 1e-5 to 1e-2 it moves the held-out error of the authors' tables by less than 2%.
RIDGE = 1e-3


def skill_features(tokens: Any, params: Any) -> np.ndarray:
    """(n, 3): ln T, ln S, ln S ln T for tokens T in trillions and parameters S in billions."""
    log_t, log_s = np.log(np.asarray(tokens, float)), np.log(np.asarray(params, float))
    return np.stack([log_t, log_s, log_t * log_s], axis=-1)


def flops_feature(flops: Any) -> np.ndarray:
    """(n, 1): ln F, for the baseline that knows training compute alone."""
    return np.log(np.asarray(flops, float))[:, None]


@dataclass(frozen=True, eq=False)
class SkillFit:
    """Fitted parameters. Rotations of the skills are not identified: use `predict`, or rotate first."""

    centre_k: np.ndarray  # features are (x - centre) / spread
    spread_k: np.ndarray
    slopes_kd: np.ndarray  # B
    loadings_Jd: np.ndarray  # Lambda
    biases_J: np.ndarray  # b
    lower_J: np.ndarray  # c, given
    intercepts: dict[str, np.ndarray]  # alpha, (d,) by family; empty: shared by all
    objective: float  # sum of smooth L1 over observed scores, ridge included
    converged: bool
    share_of_starts: float  # that ended within 1% of the best objective

    def skills(self, features_nk: Any, families: Sequence[str]) -> np.ndarray:
        """theta, (n, d).

        Raises:
            LosslineError: a family that was not in the fit.
        """
        theta_nd = ((np.asarray(features_nk, float) - self.centre_k) / self.spread_k) @ self.slopes_kd
        if not self.intercepts:
            return theta_nd
        if unknown := sorted(set(families) - set(self.intercepts)):
            raise LosslineError(f"no model of the families {unknown} was in the fit: their intercepts are unknown")
        return theta_nd + np.stack([self.intercepts[name] for name in families])

    def predict(self, features_nk: Any, families: Sequence[str]) -> np.ndarray:
        """Scores, (n, J)."""
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
    seed: int = 0,
    max_iterations: int = 300,
) -> SkillFit:
    """Fit the law by the sum of smooth L1 from a few seeded starts, by Levenberg-Marquardt in float64.

    The authors use Adam for up to 1e5 epochs.

    Args:
        features_nk: `skill_features` or others.
        scores_nJ: from 0 to 1; NaN where a model was not scored.
        families: (n,) names.
        lower_J: score of guessing on each benchmark.
        family_intercepts: False: one shared by all, as the baseline has it.
        ridge: times half the sum of squares of all parameters.

    Raises:
        LosslineError: shapes that do not fit together, or features that are not finite.
    """
    names = sorted(set(families)) if family_intercepts else []
    features_nk, scores_nJ, lower_J = (np.asarray(each, float) for each in (features_nk, scores_nJ, lower_J))
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
    generator = np.random.Generator(np.random.PCG64(seed))
    ends = [problem.descend(problem.start(generator), max_iterations) for _ in range(num_starts)]
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
            f"{num_benchmarks} lower bounds do not fit together, or a feature is not finite"
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of models whose families were mostly unseen."""

    predicted_nJ: np.ndarray  # NaN for models that were not held out
    by_family: dict[str, float]  # mean absolute error over the family's held-out models and all benchmarks
    by_benchmark_J: np.ndarray  # over held-out models

    @property
    def mean_absolute_error(self) -> float:
        """Over families, each with the same weight."""
        return float(np.mean(list(self.by_family.values())))


def leave_family_out(
    features_nk: Any, scores_nJ: Any, families: Sequence[str], *, num_seen: int = 1, **options: Any
) -> HeldOut:
    """Predict each family from all others and its first `num_seen` models, in the order of the rows.

    Families of no more than `num_seen` models are never held out. Sort the rows by size or compute to ask for larger
    models from smaller ones.

    Args:
        options: of `fit_skills`.
    """
    features_nk, scores_nJ, families = np.asarray(features_nk, float), np.asarray(scores_nJ, float), np.array(families)
    predicted_nJ = np.full(scores_nJ.shape, np.nan)
    by_family = {}
    for name in sorted(set(families.tolist())):
        unseen = np.flatnonzero(families == name)[num_seen:]
        if unseen.size == 0:
            continue
        seen = np.setdiff1d(np.arange(families.size), unseen)
        fit = fit_skills(features_nk[seen], scores_nJ[seen], families[seen].tolist(), **options)
        predicted_nJ[unseen] = fit.predict(features_nk[unseen], families[unseen].tolist())
        by_family[name] = float(np.nanmean(np.abs(predicted_nJ[unseen] - scores_nJ[unseen])))
    if not by_family:
        raise LosslineError(f"no family has more than {num_seen} models: none can be held out")
    by_benchmark_J = np.nanmean(np.abs(predicted_nJ - scores_nJ), axis=0)
    return HeldOut(predicted_nJ=predicted_nJ, by_family=by_family, by_benchmark_J=by_benchmark_J)
