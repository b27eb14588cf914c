"""Check the arguments of a fit before anything is computed. The message of an error is one line with the argument."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.fit.law import OBJECTIVES, Law, Objective, in_range
from lossline_jax.fit.laws import find_law

EXAMPLE = 'the law comes first, then its output: fit_law("chinchilla", loss, N=params, D=tokens)'


def law_of(law: Any) -> Law:
    """Return a law as it is, or the declared law of that name.

    Args:
        law: a law or the name of a law in `laws.LAWS`.

    Raises:
        LosslineError: the value is neither a law nor the name of a law.
    """
    if isinstance(law, str):
        return find_law(law)
    if not isinstance(law, Law):
        raise LosslineError(f"a {type(law).__name__} is not a law; {EXAMPLE}")
    return law


def objective_of(objective: Any, law: Law) -> Objective:
    """Return an objective as it is, or the objective of that name.

    Args:
        objective: an objective or the name of one in `OBJECTIVES`. None: the objective of the law.
        law: the law that is fitted.

    Raises:
        ArgumentError: the value is neither an objective nor the name of an objective.
    """
    if isinstance(objective, Objective):
        return objective
    if objective is None:
        return law.objective
    if objective in OBJECTIVES:
        return OBJECTIVES[objective]
    known = ", ".join(repr(name) for name in OBJECTIVES)
    raise ArgumentError("{objective}: {value!r} is not an Objective or one of {known}", value=objective, known=known)


def require_level(level: Any) -> None:
    """Raise ArgumentError unless a level is a share between 0 and 1."""
    if not (_is_real(level) and 0 < level < 1):
        raise ArgumentError("{level}: {value} is not a share between 0 and 1, such as 0.9", value=_as_given(level))


def require_positive(name: str, value: Any) -> None:
    """Raise ArgumentError unless a value is a finite number above 0."""
    if not (_is_real(value) and np.isfinite(value) and value > 0):
        raise ArgumentError(f"{{{name}}}" + ": {value} is not a positive number", value=_as_given(value))


def _is_real(value: Any) -> bool:
    """Tell whether a value is a real number. Type checkers know no comparisons of `Real`, so nothing is narrowed."""
    return isinstance(value, Real)


def _as_given(value: Any) -> str:
    """Return a number without needless digits, and any other value as Python writes it."""
    return f"{value:g}" if isinstance(value, Real) else repr(value)


def require_count(name: str, value: Any) -> None:
    """Raise ArgumentError unless a count is a whole number from 1."""
    if not isinstance(value, Integral) or int(value) < 1:
        raise ArgumentError(f"{{{name}}}" + ": {value!r} is not a whole number from 1", value=value)


def require_losses(name: str, values: Any) -> None:
    """Raise ArgumentError if one of the losses of an argument is zero or negative. Missing ones may be among them."""
    try:
        numbers = np.ravel(np.asarray(values, float))
    except (TypeError, ValueError):
        return  # the fit names what is not a number
    if (bad := numbers <= 0).any():
        k = int(np.argmax(bad))
        template = f"{{{name}}}" + ": value {number} of {size} is {value:g}; losses are positive numbers"
        raise ArgumentError(template, number=k + 1, size=numbers.size, value=numbers[k])


def require_seed(seed: Any) -> None:
    """Raise ArgumentError unless a seed is a whole number from 0."""
    if not isinstance(seed, Integral) or int(seed) < 0:
        raise ArgumentError("{seed}: {value!r} is not a whole number from 0", value=seed)


def require_inputs(law: Law, inputs: Mapping[str, Any], options: Sequence[str]) -> None:
    """Raise LosslineError if a keyword is neither an input of the law nor one of the options of the call."""
    if unknown := [name for name in inputs if name not in law.inputs]:
        known = ", ".join(f"{name} ({meaning})" for name, meaning in law.inputs.items())
        hint = suggestion(unknown[0], [*options, *law.inputs])
        raise LosslineError(f"{law.name}: has no input {unknown[0]!r}{hint}; its inputs are {known}")


def run_labels(clusters: Any, num_points: int) -> np.ndarray | None:
    """Return the run of each point as an array. None: the caller did not give the runs.

    Args:
        clusters: (n,) the label of the run of each point. None: the runs are not known.
        num_points: the number of points n.

    Raises:
        ArgumentError: the number of labels is not the number of points, or a label is missing.
    """
    if clusters is None:
        return None
    labels = np.asarray(clusters)
    if labels.ndim != 1 or labels.size != num_points:
        raise ArgumentError(
            "{clusters}: give an array with the run of each of the {points} points, not one of shape {shape}",
            points=num_points,
            shape=labels.shape,
        )
    if missing := int(pd.isna(np.asarray(clusters, object)).sum()):  # in an array of text, None would be "nan"
        raise ArgumentError(
            "{clusters}: {missing} of {points} points have no run; name their runs or leave these points out",
            missing=missing,
            points=num_points,
        )
    return labels


def clean_arrays(
    law: Law, inputs: Mapping[str, Any], y: Any, fixed: Mapping[str, float] | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return float64 inputs and output by name without the rows that cannot be used, and the mask of the kept rows.

    Rows are dropped where a value is missing, where a normalised input is not positive, or where the law has no value.

    Args:
        law: the law that is fitted.
        inputs: (n,) arrays by the names of the law's inputs.
        y: (n,) the law's output.
        fixed: parameters held at given values. None: no parameter is held.

    Returns:
        The kept rows of each array by name, and a mask (n,) that is True for the kept rows.

    Raises:
        LosslineError: an input is missing, not a number, of another length, or in another order than the output.
    """
    if missing := [name for name in law.inputs if name not in inputs]:
        raise LosslineError(f"{law.name}: the fit needs {missing}")
    fixed = _fixed(law, fixed or {})
    _require_one_order(law, {name: inputs[name] for name in law.inputs} | {law.output: y})
    data = {name: _numbers(law, name, inputs[name]) for name in law.inputs} | {law.output: _numbers(law, law.output, y)}
    lengths = {name: value.shape for name, value in data.items()}
    if len(set(lengths.values())) != 1 or len(lengths[law.output]) != 1:
        raise LosslineError(f"{law.name}: arrays of different or wrong shapes: {lengths}; give a value for each point")
    keep = np.all([np.isfinite(value) for value in data.values()], axis=0)
    for name in law.normalise:
        keep &= data[name] > 0
    if law.defined is not None and fixed:
        lowest = {name: fixed.get(name, -np.inf) for name in law.names}
        keep &= np.asarray(law.defined(lowest, data))
    return {name: value[keep] for name, value in data.items()}, keep


def inside_domain(law: Law, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the mask of the points at which every input is finite and inside the range that the law allows.

    Args:
        law: the law that is evaluated.
        values: arrays by input name that broadcast with each other.

    Returns:
        A mask in the broadcast shape of the inputs.
    """
    masks = [np.isfinite(value) for value in values.values()]
    masks += [values[name] > 0 for name in law.normalise]
    masks += [in_range(span, values[name]) for name, span in law.ranges.items()]
    shape = np.broadcast_shapes(*(mask.shape for mask in masks))
    return np.all([np.broadcast_to(mask, shape) for mask in masks], axis=0)


def _fixed(law: Law, fixed: Any) -> Mapping[str, float]:
    if not isinstance(fixed, Mapping):
        raise ArgumentError("{fixed}: give parameters by name, such as {{'E': 1.7}}, not {value!r}", value=fixed)
    for name, value in fixed.items():
        if not (_is_real(value) and np.isfinite(value)):
            raise LosslineError(f"{law.name}: {name} is held at {value!r}; give a finite number")
    return fixed


def _numbers(law: Law, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise LosslineError(f"{law.name}: {name}: these are not all numbers ({error})") from error


def _require_one_order(law: Law, data: Mapping[str, Any]) -> None:
    """Raise LosslineError if two pandas columns have the same labels in another order: rows are paired by position."""
    columns = {name: value for name, value in data.items() if isinstance(value, pd.Series)}
    for name, column in columns.items():
        first_name, first = next(iter(columns.items()))
        if len(column) != len(first) or column.index.equals(first.index):
            continue
        if sorted(map(repr, column.index)) == sorted(map(repr, first.index)):
            raise LosslineError(
                f"{law.name}: {name} has the index of {first_name} in another order; sort both alike, or give "
                ".to_numpy() of both to pair them by position"
            )
