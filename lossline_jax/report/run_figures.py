"""Figures with a line a run: own validation against all other losses, and training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from lossline_jax.report.drawing import curve, freeze, hover, label_axes, note_outside, scatter, split_by_support
from lossline_jax.report.plots import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.points import Unit, pair
from lossline_jax.report.runs import Run
from lossline_jax.report.style import Style
from lossline_jax.units import human_count

SMALL = (3.4, 2.75)  # inches of a panel, three in a row
MEDIUM = (5.2, 3.5)  # two in a row
WINDOW_SHARE = 0.02  # of a run's logged rows, in the running mean of its training loss


@dataclass(frozen=True, eq=False)
class Track:
    """The checkpoints of one run in one panel: columns run_id, step, tokens_seen, x, y."""

    run: Run
    points: pd.DataFrame

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def style(self) -> Style:
        return self.run.style

    @property
    def is_base(self) -> bool:
        return self.run.is_base


def own_plot(long: pd.DataFrame, runs: Mapping[str, Run], unit: Unit, key: Sequence[KeyEntry]) -> Plot | None:
    """Loss on each set against the validation loss of the text that the run was trained on."""
    owned = dict.fromkeys(run.own_set for run in runs.values() if run.own_set is not None)
    panels = []
    for target in long["eval_set"].unique():
        points = {own: pair(long, own, target, unit) for own in owned if own != target}
        tracks = [
            Track(run, part)
            for run in runs.values()
            if run.own_set in points and len(part := points[run.own_set][lambda p, run=run: p["run_id"] == run.run_id])
        ]
        if tracks:
            panels.append(
                Panel(str(target), f"{target} against own validation loss", _own_drawer(target, tracks, unit))
            )
    if not panels:
        return None
    caption = (
        "Horizontal: the loss on held-out text of the corpus that the run was trained on. Vertical: its loss "
        f"on each other set. Points of a run are joined in the order of training. n = {len(runs)} runs; none "
        "has points in the panel of its own corpus."
    )
    return Plot(
        name=f"own_validation_{unit.key}",
        title="Own validation loss against every other loss",
        caption=caption,
        panels=tuple(panels),
        key=tuple(key),
        columns=3,
        width=SMALL[0],
        height=SMALL[1],
    )


def _own_drawer(target: str, tracks: Sequence[Track], unit: Unit):
    framed, outside = split_by_support(tracks)

    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, track in enumerate(framed):
            drawn |= _join(axes, f"path-{k}", track)
            said = hover(track.points, unit, track.run.own_set, target)
            drawn |= scatter(axes, f"run-{k}", track.points, track.style, said, size=3.6)
        label_axes(axes, f"own validation ({unit.label})", unit.label)
        freeze(axes)
        note_outside(axes, outside)
        return drawn

    return draw


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
            said = [
                f"{row.run_id}\nstep {row.step:,} · {human_count(row.x)} tokens\n{x} {row.y:.4f} {unit.label}"
                for row in track.points.itertuples()
            ]
            drawn |= scatter(axes, f"run-{k}", track.points, track.style, said, size=3.8)
        _token_axis(axes, max(track.points["x"].max() for track in tracks))
        label_axes(axes, "training tokens", unit.label)
        return drawn

    return draw


def _join(axes: Axes, gid: str, track: Track) -> Drawn:
    return curve(axes, gid, track.points["x"], track.points["y"], track.style, [track.run.run_id])


def _token_axis(axes: Axes, largest: float) -> None:
    axes.set_xlim(0, 1.03 * largest)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value) if value else "0"))
