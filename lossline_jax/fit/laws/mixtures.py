"""Laws of mixtures of training domains: AutoScale's domain curve, the data-mixing law, the additive mixture law."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import LOG_HUBER, Law, Parameter, Values, power
from lossline_jax.fit.laws.parameters import amount, exponent, irreducible, signed_number
from lossline_jax.fit.laws.size_and_tokens import SIZE_AND_TOKENS

DOMAIN_CURVE = Law(
    name="domain curve",
    formula="y = (x + a)^-b + c",
    inputs={"x": "quantity of one domain, the others held; 1 is the base"},
    output="y",
    parameters=(
        amount("a", "unit of x", linear=False, lower=1e-6, upper=1e4, start=(0.1, 30.0)),
        exponent("b", 0.2, 50.0, (0.3, 10.0)),
        Parameter("c", "1", -10.0, 10.0, start=(0.0, 1.0), linear=True),
    ),
    function=lambda p, v: power(v["x"] + p["a"], -p["b"]) + p["c"],
    source="Kang et al. 2024, AutoScale (arXiv 2407.20177), authors' notebooks",
    note="y is the validation perplexity divided by the perplexity of the base. The authors fit three quantities "
    "(0.2, 1, 3) exactly. Such points often have a second exact solution with b below 0.1, a curve that falls for "
    "ever; the lower bound of b excludes it.",
)


def _unique(domains: Sequence[str], least: int) -> tuple[str, ...]:
    names = tuple(domains)
    if len(names) < least or len(set(names)) < len(names):
        raise LosslineError(f"a mixture law needs {least} or more different domains, not {list(names)}")
    return names


def data_mixing_law(domains: Sequence[str]) -> Law:
    """Declare L = c + k exp(sum_j t_j r_j). The inputs are the proportions r_j of the domains, by domain name.

    Proportions add up to 1, so adding s to every t_j and dividing k by e^s changes nothing. Therefore the last domain
    has no parameter (its t is 0). A published (k, t_1..t_m) becomes k exp(t_m) and t_j - t_m here.

    Args:
        domains: two or more names of domains.

    Raises:
        LosslineError: there are fewer than two domains, or a name occurs twice.
    """
    *free, last = _unique(domains, 2)
    return Law(
        name="data mixing",
        formula="L = c + k exp(sum_j t_j r_j)",
        inputs={name: f"proportion of {name}" for name in free},
        output="L",
        parameters=(
            irreducible("c", "L"),
            amount("k", "unit of L"),
            *(signed_number(f"t_{name}", 50.0, (-5.0, 5.0)) for name in free),
        ),
        function=lambda p, v: p["c"] + p["k"] * jnp.exp(sum(p[f"t_{name}"] * v[name] for name in free)),
        source="Ye et al. 2024, Data Mixing Laws (arXiv 2403.16952)",
        note=f"Each validation set has one law, at one model size and budget. t is relative to the t of {last}.",
        objective=LOG_HUBER,
    )


def additive_mixture_law(domains: Sequence[str]) -> Law:
    """Declare L = E + 1 / (sum_i C_i h_i^gamma_i) + A/N^alpha + B/D^beta, where h_i is the proportion of domain i.

    Args:
        domains: one or more names of domains.

    Raises:
        LosslineError: there is no domain, or a name occurs twice.
    """
    names = _unique(domains, 1)

    def function(p: Values, v: Values) -> jax.Array:
        # A domain with proportion 0 adds nothing. The power gets 1 in place of 0, so that its slopes stay finite.
        powers = {n: power(jnp.where(v[n] > 0, v[n], 1.0), p[f"gamma_{n}"]) for n in names}
        mixture = sum(p[f"C_{n}"] * jnp.where(v[n] > 0, powers[n], 0.0) for n in names)
        by_size = p["A"] * power(v["N"], -p["alpha"])
        return p["E"] + 1 / mixture + by_size + p["B"] * power(v["D"], -p["beta"])

    return Law(
        name="additive mixture",
        formula="L = E + 1/(sum_i C_i h_i^gamma_i) + A/N^alpha + B/D^beta",
        inputs={name: f"proportion of {name}" for name in names} | SIZE_AND_TOKENS,
        output="L",
        parameters=(
            irreducible("E", "L"),
            *(amount(f"C_{name}", "1 / unit of L", linear=False, start=(0.1, 30.0)) for name in names),
            *(exponent(f"gamma_{name}", 0.01, 5.0, (0.1, 2.0)) for name in names),
            amount("A", "unit of L x N^alpha", lambda p, s: s["N"] ** p["alpha"]),
            amount("B", "unit of L x D^beta", lambda p, s: s["D"] ** p["beta"]),
            exponent("alpha"),
            exponent("beta"),
        ),
        function=function,
        source="arXiv 2507.09404, quoted by a secondary source",
        note="E and the C_i cannot be separated if all mixtures are alike.",
        objective=LOG_HUBER,
        normalise=("N", "D"),
        falls=("N", "D"),
    )
