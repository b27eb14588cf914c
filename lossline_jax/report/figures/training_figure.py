"""The figure with a line a run: training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.figures.axes import curve, label_axes, scatter
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.figures.style import Style

MEDIUM = (5.2, 3.5)  # two in a row
WINDOW_SHARE = 0.02  # of a run's logged rows, in the running mean of its training loss


@dataclass(frozen=True, eq=False)
class Track:
    """The checkpoints of one run in one panel: columns run_id, step, tokens_seen, x, y."""

    run: Run
    points: pd.DataFrame

    @property
    def style(self) -> Style:
        return self.run.style


def training_plot(
    long: pd.DataFrame,
    steps: Mapping[str, Sequence[Mapping]],
    runs: Mapping[str, Run],
    x: str,
    unit: Unit,
    key: Sequence[KeyEntry],
) -> Plot | None:
    """Smoothed training loss, and validation loss on `x`, against training tokens."""
    curves = {run_id: smooth(steps[run_id]) for run_id in runs if steps.get(run_id)}
    if not curves:
        return None
    scored = long[long["eval_set"] == x].rename(columns={unit.column: "y"})
    scored = scored.assign(x=scored["tokens_seen"]).sort_values("step")
    # Those trained here: an imported model may have seen millions of times the tokens, or an unknown number.
    tracks = [Track(runs[run_id], scored[scored["run_id"] == run_id]) for run_id in curves]
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
                _validation_drawer(tracks, x, unit),
            ),
        ),
        key=tuple(key),
        columns=2,
        width=MEDIUM[0],
        height=MEDIUM[1],
    )


def smooth(rows: Sequence[Mapping]) -> pd.DataFrame:
    """Running mean of the logged losses: columns `tokens_seen`, `loss`.

    The window is `WINDOW_SHARE` of the rows, at least 5, centred; at the ends it is cut, not padded.
    """
    table = pd.DataFrame(rows).drop_duplicates("step", keep="last").sort_values("step")
    window = max(5, round(WINDOW_SHARE * len(table)))
    loss = table["loss_nats_per_token"].rolling(window, center=True, min_periods=1).mean()
    return pd.DataFrame({"tokens_seen": table["tokens_seen"], "loss": loss})


def _training_drawer(curves: Mapping[str, pd.DataFrame], runs: Mapping[str, Run]):
    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, (run_id, path) in enumerate(curves.items()):
            drawn |= curve(axes, f"path-{k}", path["tokens_seen"], path["loss"], runs[run_id].style, [run_id])
        _token_axis(axes, max(path["tokens_seen"].max() for path in curves.values()))
        label_axes(axes, "training tokens", "nats/token")
        return drawn

    return draw


def _validation_drawer(tracks: Sequence[Track], x: str, unit: Unit):
    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, track in enumerate(tracks):
            drawn |= _join(axes, f"path-{k}", track)
            hover_texts = [
                f"{row.run_id}\nstep {row.step:,} · {human_count(row.x)} tokens\n{x} {row.y:.4f} {unit.label}"
                for row in track.points.itertuples()
            ]
            drawn |= scatter(axes, f"run-{k}", track.points, track.style, hover_texts, size=3.8)
        _token_axis(axes, max(track.points["x"].max() for track in tracks))
        label_axes(axes, "training tokens", unit.label)
        return drawn

    return draw


def _join(axes: Axes, gid: str, track: Track) -> Drawn:
    return curve(axes, gid, track.points["x"], track.points["y"], track.style, [track.run.run_id])


def _token_axis(axes: Axes, largest: float) -> None:
    axes.set_xlim(0, 1.03 * largest)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value) if value else "0"))
