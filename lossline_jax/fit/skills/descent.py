"""Minimise the objective of the skill law. `fit.py` describes the law and names the shapes.

`fit.solve` cannot fit this law: its laws have a handful of named parameters and one output. The skill law has a slope,
a loading or an intercept for every feature, benchmark and family. Each family meets only its own models, so the normal
equations are eliminated family by family. Both descents are damped least squares (Levenberg-Marquardt).
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

SMOOTH_L1 = 0.01  # the authors' beta: residuals of a score up to this count by their square, larger ones by their size
TOLERANCE = 1e-6  # relative fall of the objective in one step below which a fit has converged. A convention
NOTHING = 1e-4  # residuals of a score: if all are this small, the fit is as good as exact. A convention
MAX_DAMPING = 1e8  # factor on the diagonal beyond which no step can lower the objective. A convention


@dataclass(frozen=True, eq=False)
class SkillProblem:
    """The skill law with its data. `u` is the flat vector of all parameters."""

    x_nk: np.ndarray  # standardised features
    y_nJ: np.ndarray  # scores from 0 to 1; NaN: the model was not scored
    lower_J: np.ndarray  # score of guessing
    family_n: np.ndarray  # index of the model's family
    num_families: int  # 0: no intercepts
    num_skills: int
    ridge: float  # factor on half the sum of squares of all parameters

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the slopes, loadings, biases and intercepts."""
        d, J = self.num_skills, self.lower_J.size
        return (self.x_nk.shape[1], d), (J, d), (J,), (self.num_families, d)

    def split(self, u: np.ndarray) -> list[np.ndarray]:
        """Divide flat parameters into slopes, loadings, biases and intercepts.

        Args:
            u: flat parameters.
        """
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(u, ends), self.shapes, strict=True)]

    def start(self, generator: np.random.Generator) -> np.ndarray:
        """Draw starting parameters. Slopes and loadings are positive, as the authors start: more helps every skill.

        Args:
            generator: source of the random numbers.
        """
        parts = [generator.normal(0, 1, shape) for shape in self.shapes]
        parts[0], parts[1] = np.abs(parts[0]), np.abs(parts[1])
        return np.concatenate([part.ravel() for part in parts])

    def value(self, u: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Evaluate the objective.

        Args:
            u: flat parameters.

        Returns:
            The objective, (n, J) residuals with 0 where nothing was scored, and (n, J) values of the sigmoid.
        """
        _, loadings_Jd, biases_J, _ = self.split(u)
        share_nJ = special.expit(self.theta(u) @ loadings_Jd.T + biases_J)
        residual_nJ = self.lower_J + (1 - self.lower_J) * share_nJ - self.y_nJ
        residual_nJ = np.where(np.isnan(residual_nJ), 0.0, residual_nJ)
        size_nJ = np.abs(residual_nJ)
        loss_nJ = np.where(size_nJ < SMOOTH_L1, 0.5 * size_nJ**2 / SMOOTH_L1, size_nJ - 0.5 * SMOOTH_L1)
        return float(loss_nJ.sum() + 0.5 * self.ridge * u @ u), residual_nJ, share_nJ

    def theta(self, u: np.ndarray) -> np.ndarray:
        """Return the skills (n, d).

        Args:
            u: flat parameters.
        """
        slopes_kd, *_, alpha_Fd = self.split(u)
        theta_nd = self.x_nk @ slopes_kd
        return theta_nd + alpha_Fd[self.family_n] if self.num_families else theta_nd

    def jacobians(self, u: np.ndarray, share_nJ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the Jacobians of the residuals.

        Args:
            u: flat parameters.
            share_nJ: values of the sigmoid.

        Returns:
            (n, J, S) derivatives in the S parameters that all families share, and (n, J, d) in the intercept of the
            model's own family.
        """
        _, loadings_Jd, _, _ = self.split(u)
        n, J = share_nJ.shape
        rise_nJ = np.where(np.isnan(self.y_nJ), 0.0, (1 - self.lower_J) * share_nJ * (1 - share_nJ))
        own_nJJ = rise_nJ[:, :, None] * np.eye(J)  # a benchmark moves with its own loading and bias alone
        own_nJd = rise_nJ[:, :, None] * loadings_Jd
        by_slopes = self.x_nk[:, None, :, None] * own_nJd[:, :, None, :]
        by_loadings = own_nJJ[:, :, :, None] * self.theta(u)[:, None, None, :]
        return np.concatenate([part.reshape(n, J, -1) for part in (by_slopes, by_loadings, own_nJJ)], axis=2), own_nJd

    def equations(self, u: np.ndarray, residual_nJ: np.ndarray, share_nJ: np.ndarray) -> "Equations":
        """Return the normal equations of one reweighted Gauss-Newton step.

        Args:
            u: flat parameters.
            residual_nJ: residuals at `u`.
            share_nJ: values of the sigmoid at `u`.
        """
        shared_nJS, own_nJd = self.jacobians(u, share_nJ)
        weight_nJ = 1 / np.maximum(np.abs(residual_nJ), SMOOTH_L1)
        member_Fn = (np.arange(self.num_families)[:, None] == self.family_n).astype(float)
        num_shared, d = shared_nJS.shape[2], self.num_skills
        weighted_nJd = weight_nJ[:, :, None] * own_nJd
        flat = shared_nJS.reshape(-1, num_shared)
        both_ndd = np.einsum("nJd,nJe->nde", weighted_nJd, own_nJd)
        cross_ndS = np.einsum("nJd,nJS->ndS", weighted_nJd, shared_nJS)
        pull_nJ = weight_nJ * residual_nJ
        return Equations(
            shared_SS=flat.T @ (weight_nJ.reshape(-1, 1) * flat) + self.ridge * np.eye(num_shared),
            cross_FdS=np.tensordot(member_Fn, cross_ndS, 1),
            family_Fdd=np.tensordot(member_Fn, both_ndd, 1) + self.ridge * np.eye(d),
            shared_S=flat.T @ pull_nJ.ravel() + self.ridge * u[:num_shared],
            family_Fd=member_Fn @ np.einsum("nJ,nJd->nd", pull_nJ, own_nJd) + self.ridge * self.split(u)[3],
        )

    def descend(self, u: np.ndarray, max_iterations: int) -> "End":
        """Minimise by Levenberg-Marquardt with the weights of iterated reweighted least squares.

        It reaches the objective of scipy's L-BFGS-B and of its trust-region least squares in a tenth of their time.

        Args:
            u: flat parameters to start from.
            max_iterations: steps at most.
        """
        floor = 0.5 * NOTHING**2 / SMOOTH_L1 * self.y_nJ.size  # an exact fit falls for ever in relative terms
        damping = 1e-2
        objective, residual_nJ, share_nJ = self.value(u)
        for _ in range(max_iterations):
            equations = self.equations(u, residual_nJ, share_nJ)
            while True:
                moved = u - equations.solve(damping)
                lower, *rest = self.value(moved)
                if lower < objective:
                    break
                if damping > MAX_DAMPING:  # no step lowers the objective
                    return End(u, objective, converged=True)
                damping *= 4
            fall, u, objective = objective - lower, moved, lower
            residual_nJ, share_nJ = rest
            damping = max(damping / 5, 1e-9)
            if fall < TOLERANCE * max(objective, floor):
                return End(u, objective, converged=True)
        return End(u, objective, converged=False)


@dataclass(frozen=True, eq=False)
class Equations:
    """Normal equations. A family's intercept meets only its own models, so families are eliminated one by one.

    S counts shared parameters, F families and d skills.
    """

    shared_SS: np.ndarray
    cross_FdS: np.ndarray
    family_Fdd: np.ndarray
    shared_S: np.ndarray
    family_Fd: np.ndarray

    def solve(self, damping: float) -> np.ndarray:
        """Return the step of shared parameters and intercepts, flat.

        Args:
            damping: relative increase of the diagonal.
        """
        family_Fdd = self.family_Fdd * (1 + damping * np.eye(self.family_Fdd.shape[-1]))
        shared_SS = self.shared_SS * (1 + damping * np.eye(self.shared_S.size))
        known = np.concatenate([self.cross_FdS, self.family_Fd[:, :, None]], axis=2)
        solved_FdS1 = np.linalg.solve(family_Fdd, known)
        folded_FdS, folded_Fd = solved_FdS1[..., :-1], solved_FdS1[..., -1]
        left = shared_SS - np.einsum("FdS,FdT->ST", self.cross_FdS, folded_FdS)
        right = self.shared_S - np.einsum("FdS,Fd->S", self.cross_FdS, folded_Fd)
        step_S = np.linalg.solve(left, right)
        return np.concatenate([step_S, (folded_Fd - folded_FdS @ step_S).ravel()])


@dataclass(frozen=True, eq=False)
class End:
    """The end of a descent."""

    u: np.ndarray  # flat parameters
    objective: float
    converged: bool
