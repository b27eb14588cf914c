"""The style of all figures: each factor has one colour and one marker.

The colours can be told apart by colour-blind readers and in print. Figures are drawn in the light colours. The page
replaces each light colour by a CSS variable (`svg.py`), so the same drawing serves the light and the dark theme.
`css_variables` writes the variables of both themes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# A line style of matplotlib: "solid", or (offset, lengths of dashes and gaps in line widths).
Dashes = Literal["solid"] | tuple[float, tuple[float, ...]]

INK, MUTED, GRID, PAPER = "#1c2024", "#646c76", "#e3e6ea", "#ffffff"
FURNITURE = {  # name: light, dark
    "ink": (INK, "#e8eaed"),
    "muted": (MUTED, "#9aa3ad"),
    "grid": (GRID, "#31363d"),
    "paper": (PAPER, "#15181c"),
}
# Name: light, dark. The palette follows Okabe & Ito (2008). The light colours are deeper than theirs, for white paper.
# The dark-theme colours are brighter than theirs, for black.
FACTOR_COLOURS = {
    "base": (INK, "#e8eaed"),
    "data": ("#d55e00", "#ff8a3c"),
    "tokenizer": ("#0072b2", "#4cabe6"),
    "architecture": ("#00926a", "#2fc79b"),
    "size": ("#b8508f", "#e58cc0"),
    "context_length": ("#2f9ad8", "#86cbf5"),
    "optimiser": ("#c98a00", "#f0b93a"),
    "seed": ("#7d858f", "#a7afb8"),
    "other": ("#6a5acd", "#a79bf2"),
}
# Colours of levels that have an order, such as budgets or sizes: viridis, the smallest level first.
SEQUENCE_COLOURS = {
    "sequence-0": ("#440154", "#32648e"),
    "sequence-1": ("#482979", "#287c8e"),
    "sequence-2": ("#3e4c8a", "#20938c"),
    "sequence-3": ("#306a8e", "#25ab82"),
    "sequence-4": ("#24868e", "#48c16e"),
    "sequence-5": ("#1fa187", "#7fd34e"),
    "sequence-6": ("#3dbc74", "#c0df25"),
    "sequence-7": ("#7ad151", "#fde725"),
}


def _mixed(colour: str, other: str, share: float) -> str:
    """Return `#rrggbb` with a share of another colour."""
    parts = [(int(colour[k : k + 2], 16), int(other[k : k + 2], 16)) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(own + share * (mixed - own)):02x}" for own, mixed in parts)


# The second and the third level of a factor: shades of its colour, away from the paper and towards it.
SHADES = {
    f"{name}-{number}": (_mixed(light, away[0], share), _mixed(dark, away[1], share))
    for name, (light, dark) in FACTOR_COLOURS.items()
    for number, away, share in ((2, ("#000000", "#ffffff"), 0.45), (3, ("#ffffff", "#000000"), 0.4))
}
COLOURS = FACTOR_COLOURS | SHADES | SEQUENCE_COLOURS  # every colour of a level by name: light, dark
FACTOR_MARKERS = {
    "base": "o",
    "data": "s",
    "tokenizer": "^",
    "architecture": "D",
    "size": "v",
    "context_length": "P",
    "optimiser": "X",
    "seed": "h",
    "other": "p",
}
FACTOR_ORDER = tuple(FACTOR_COLOURS)
FACTOR_NAMES = {"context_length": "context", "other": "several factors"}
# Levels of one factor share its marker. Shades of its colour, dashes and marker filling tell them apart.
LEVEL_DASHES: tuple[Dashes, ...] = ("solid", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))

# Sizes and widths are in points.
RC: "dict[RcKeyType, Any]" = {
    "font.family": ["DejaVu Sans"],  # part of matplotlib, so the figure is the same on every machine
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.7,
    "xtick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "butt",
    "pdf.fonttype": 42,  # TrueType
    "text.parse_math": False,  # a name with dollar signs is not a formula
    "svg.fonttype": "none",  # text stays text: a reader can select it, and the page sets its font
    "svg.hashsalt": "lossline",
    "savefig.dpi": 170,
}


class MarkStyle(Protocol):
    """The colour, marker and dashes of a line, as `Style` and `palette.LevelStyle` give them."""

    @property
    def colour_name(self) -> str:
        """The colour's name in `COLOURS`."""
        ...

    @property
    def colour(self) -> str:
        """The light colour, as `#rrggbb`."""
        ...

    @property
    def marker(self) -> str:
        """The marker in matplotlib's notation."""
        ...

    @property
    def dashes(self) -> Dashes:
        """The line style."""
        ...

    @property
    def filling(self) -> str:
        """The colour inside the marker. It is the paper's colour for a hollow marker."""
        ...


@dataclass(frozen=True)
class Style:
    """A style for one level of a factor: hue and marker show the factor; shade, dashes and filling the level."""

    factor: str
    level_index: int = 0  # number of the level among the levels of its factor

    @property
    def hue(self) -> str:
        """The factor, or `other` for a factor without a colour."""
        return self.factor if self.factor in FACTOR_COLOURS else "other"

    @property
    def colour_name(self) -> str:
        """The shade of the factor's hue. It repeats after three levels."""
        shade = self.level_index % 3
        return f"{self.hue}-{shade + 1}" if shade else self.hue

    @property
    def colour(self) -> str:
        """The light colour, as `#rrggbb`."""
        return COLOURS[self.colour_name][0]

    @property
    def marker(self) -> str:
        """The marker in matplotlib's notation."""
        return FACTOR_MARKERS[self.hue]

    @property
    def dashes(self) -> Dashes:
        """The line style. It repeats after four levels."""
        return LEVEL_DASHES[self.level_index % len(LEVEL_DASHES)]

    @property
    def filling(self) -> str:
        """The colour inside the marker: every second level has a hollow marker."""
        return self.colour if self.level_index % 2 == 0 else PAPER


def factor_name(factor: str) -> str:
    """Return the name of a factor for readers, such as `context` for `context_length`."""
    return FACTOR_NAMES.get(factor, factor.replace("_", " "))


def factor_rank(factor: str) -> int:
    """Return the position of a factor in keys and tables. A factor without a colour comes last."""
    return FACTOR_ORDER.index(factor) if factor in FACTOR_ORDER else len(FACTOR_ORDER)


def light_colours() -> dict[str, str]:
    """Return the CSS variable of each light colour. `base` and `ink` share a colour, and so the variable `--ink`."""
    table = {light: f"var(--c-{name})" for name, (light, _) in COLOURS.items()}
    return table | {light: f"var(--{name})" for name, (light, _) in FURNITURE.items()}


def css_variables(dark: bool) -> str:
    """Return the colours as CSS declarations, for the dark theme or for the light one."""
    k = 1 if dark else 0
    names = [(f"--{name}", pair[k]) for name, pair in FURNITURE.items()]
    names += [(f"--c-{name}", pair[k]) for name, pair in COLOURS.items()]
    return " ".join(f"{name}: {colour};" for name, colour in names)
