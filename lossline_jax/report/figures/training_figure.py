"""The figure of training and validation loss, with a curve for each run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.figures.axes import curve, label_axes, scatter
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.figures.thinning import most_of_run, to_draw

MEDIUM = (5.2, 3.5)  # width and height of a panel in inches; two panels in a row
WINDOW_SHARE = 0.02  # of a run's logged rows: the window of the running mean of its training loss
MIN_WINDOW = 5  # logged rows


@dataclass(frozen=True, eq=False)
class Track:
    """The checkpoints of one run in one panel: columns run_id, step, tokens_seen, x, y."""

    run: Run
    points: pd.DataFrame


def training_plot(
    long: pd.DataFrame,
    steps: Mapping[str, Sequence[Mapping]],
    runs: Mapping[str, Run],
    *,
    x: str,
    unit: Unit,
    key: Sequence[KeyEntry],
) -> Plot | None:
    """Plot the smoothed training loss, and the validation loss on `x`, against training tokens.

    Args:
        long: the losses table as `as_long` gives it.
        steps: rows of steps.jsonl by run id.
        runs: the runs by id. Runs without rows in `steps` are left out.
        x: the validation set.
        unit: the unit of the validation loss.
        key: the entries of the key.

    Returns:
        The plot. None: no run has rows in `steps`.
    """
    curves = {run_id: smooth(steps[run_id]) for run_id in runs if steps.get(run_id)}
    if not curves:
        return None
    scored = long.loc[long["eval_set"] == x]
    scored = scored.assign(x=scored["tokens_seen"], y=scored[unit.column]).sort_values("step")
    # Only runs trained here: an imported model may have seen millions of times the tokens, or an unknown number.
    tracks = [Track(runs[run_id], scored.loc[scored["run_id"] == run_id]) for run_id in curves]
    caption = (
        f"Left: loss on the run’s own training text, a running mean over {WINDOW_SHARE:.0%} of the run; runs "
        "with other data or another tokenizer compare in shape only. Right: loss on held-out "
        f"{x} at each checkpoint, in {unit.label}, the same text for every run. n = {len(curves)} runs."
    )
    return Plot(
        name="training",
        title="Training",
        caption=caption,
        panels=(
            Panel("Training loss, nats/token", "training loss against tokens", _training_drawer(curves, runs)),
            Panel(
                f"Validation loss on {x}, {unit.label}",
                f"{x} validation loss against tokens",
                _validation_drawer(tracks, x, unit, most_of_run(long)),
            ),
        ),
        key=tuple(key),
        columns=2,
        width=MEDIUM[0],
        height=MEDIUM[1],
    )


def smooth(rows: Sequence[Mapping]) -> pd.DataFrame:
    """Return the running mean of the logged losses: columns `tokens_seen`, `loss`.

    The window is centred and has `WINDOW_SHARE` of the rows, at least `MIN_WINDOW`. At both ends it is cut, not padded.

    Args:
        rows: rows of steps.jsonl. The last row of a repeated step counts.
    """
    table = pd.DataFrame(rows).drop_duplicates("step", keep="last").sort_values("step")
    window = max(MIN_WINDOW, round(WINDOW_SHARE * len(table)))
    loss = table["loss_nats_per_token"].rolling(window, center=True, min_periods=1).mean()
    return pd.DataFrame({"tokens_seen": table["tokens_seen"], "loss": loss})


def _training_drawer(curves: Mapping[str, pd.DataFrame], runs: Mapping[str, Run]) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, (run_id, smoothed) in enumerate(curves.items()):
            tokens, losses = smoothed["tokens_seen"].to_numpy(), smoothed["loss"].to_numpy()
            drawn |= curve(axes, f"path-{k}", tokens, losses, style=runs[run_id].style, run_ids=[run_id])
        _token_axis(axes, [smoothed["tokens_seen"].to_numpy(float) for smoothed in curves.values()])
        label_axes(axes, "training tokens", "nats/token")
        return drawn

    return draw


def _validation_drawer(tracks: Sequence[Track], x: str, unit: Unit, most: int | None) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, track in enumerate(tracks):
            points, run = track.points, track.run
            x_values, y_values = points["x"].to_numpy(), points["y"].to_numpy()
            drawn |= curve(axes, f"path-{k}", x_values, y_values, style=run.style, run_ids=[run.run_id])
            shown = to_draw(points, most)
            titles = _hover_titles(shown, x, unit)
            by_run = len(shown) < len(points)
            drawn |= scatter(axes, f"run-{k}", shown, run.style, titles=titles, size=3.8, by_run=by_run)
        _token_axis(axes, [track.points["x"].to_numpy(float) for track in tracks])
        label_axes(axes, "training tokens", unit.label)
        return drawn

    return draw


def _hover_titles(points: pd.DataFrame, x: str, unit: Unit) -> list[str]:
    columns = (points[name] for name in ("run_id", "step", "x", "y"))
    return [
        f"{run_id}\nstep {step:,} · {human_count(tokens)} tokens\n{x} {loss:.4f} {unit.label}"
        for run_id, step, tokens, loss in zip(*columns, strict=True)
    ]


def _token_axis(axes: Axes, tokens_of_curves: Sequence[np.ndarray]) -> None:
    axes.set_xlim(0, 1.03 * np.concatenate(tokens_of_curves).max(initial=1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value) if value else "0"))
