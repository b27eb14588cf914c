"""Write figures for a paper, for the verbs on a study and on a table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etils import epath

from lossline_jax import logs
from lossline_jax.cli.options import PaperOptions
from lossline_jax.storage.files import make_folder, write_atomic
from lossline_jax.storage.outputs import output_folder

if TYPE_CHECKING:
    from lossline_jax.report.figures.draw import Axes
    from lossline_jax.report.figures.figures import Figures


@dataclass(frozen=True)
class Paper:
    """The checked size of figures, and the folder that they go to."""

    width: float | None  # inches
    folder: epath.Path

    @classmethod
    def of(cls, options: PaperOptions) -> "Paper":
        """Check the flags, before anything is fitted.

        Args:
            options: the flags.

        Raises:
            LosslineError: a size or the folder is wrong.
        """
        from lossline_jax.report.figures.paper import check_letters, inches

        if options.font is not None:
            check_letters(options.font)
        width = None if options.width is None else inches(options.width)
        return cls(width, output_folder(options.out, "the figures"))


def write_figures(figures: "Figures", options: PaperOptions, paper: Paper) -> None:
    """Write the chosen figures as PNG, PDF and SVG, and print their paths.

    Args:
        figures: the figures of a page.
        options: the names of the figures and of the panel.
        paper: the size and the folder.

    Raises:
        LosslineError: a name is wrong. Nothing has been written then.
    """
    from lossline_jax.report.figures.paper import paper_figure
    from lossline_jax.report.figures.svg import write_figure

    width = paper.width
    drawn = {
        plot.name: paper_figure(plot, width=width, font=options.font, panel=options.panel)
        for plot in figures.named(options.only)
    }
    folder = make_folder(paper.folder, "--out")
    for name, figure in drawn.items():
        write_figure(figure, folder, name)
        logs.result(f"figure: {folder / name}.png .pdf .svg")


def save_axes(axes: "Axes", path: epath.Path) -> None:
    """Write the figure of some axes into a file, in the format of its ending.

    Args:
        axes: axes that `draw` made.
        path: the file.
    """
    from lossline_jax.report.figures.draw import render_axes

    write_atomic(path, render_axes(axes, path.suffix.lower().removeprefix(".")))
    logs.result(f"figure: {path}")
