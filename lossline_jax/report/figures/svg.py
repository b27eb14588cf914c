"""Figures to files, and to SVG inside the page: themed by CSS, with a title on every point."""

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol
from xml.etree import ElementTree

import matplotlib
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

from lossline_jax.formatting import shortened
from lossline_jax.report.figures.style import RC, light_colours
from lossline_jax.storage.files import write_atomic

LONG_DECIMAL = re.compile(r"-?\d+\.\d{3,}")
COORDINATES = ("d", "x", "y", "transform")


def shorten_svg(root: ElementTree.Element) -> None:
    """Shorten an SVG of matplotlib's in place: hundredths of a point, style said once a group, no white space."""
    for element in root.iter():
        for name in COORDINATES:
            if name in element.attrib:
                element.set(name, _short(element.get(name), is_path=name == "d"))
        if element.tag != "text":
            element.text = (element.text or "").strip() or None
        element.tail = None
        _say_once(element)


def _short(coordinates: str, is_path: bool) -> str:
    rounded = LONG_DECIMAL.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), coordinates)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded).strip() if is_path else rounded


def _say_once(group: ElementTree.Element) -> None:
    """Move the style that all points of a group have to the group; their common shape takes it from there."""
    points = group.findall("use")
    styles = {point.get("style") for point in points}
    if len(points) > 1 and len(points) == len(group) and len(styles) == 1:
        group.set("style", styles.pop())
        for point in points:
            del point.attrib["style"]


FORMATS = ("png", "pdf", "svg")
# What matplotlib would write about the day and its version is left out: equal input, equal bytes.
METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
HASH_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
LONGEST_NAME = 100  # characters in a drawing
LARGEST = 1.3  # times its size in print that a drawing grows to: letters of all drawings stay alike
REFERENCE = re.compile(r"(?:(?<=url\()|^)#([\w.-]+)(?=\)|$)")  # `#id` alone, or in url()


class ArtistMarks(Protocol):
    """What an artist shows (`plot.Marks`)."""

    run_ids: tuple[str, ...]
    titles: tuple[str, ...]


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` inches that no global state knows of."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def render(figure: Figure, file_format: str) -> bytes:
    """The bytes of `figure` as "png", "pdf" or "svg"."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC), _fitting_texts(figure, file_format == "svg"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's font has it, or a box
        figure.savefig(buffer, format=file_format, metadata=METADATA[file_format])
    return buffer.getvalue()


@contextlib.contextmanager
def _fitting_texts(figure: Figure, has_fonts: bool) -> Iterator[None]:
    """Long names shortened, and characters that the font lacks as Python writes them: boxes would all look alike."""
    texts = {text: text.get_text() for text in figure.findobj(Text)}
    try:
        for text, whole in texts.items():
            lines = [shortened(line, LONGEST_NAME) for line in whole.split("\n")]
            text.set_text("\n".join(lines if has_fonts else map(_with_glyphs, lines)))
        yield
    finally:
        for text, whole in texts.items():
            text.set_text(whole)


def _with_glyphs(line: str) -> str:
    if line.isascii():
        return line
    font = get_font(findfont(RC["font.family"][0]))
    return "".join(c if font.get_char_index(ord(c)) else c.encode("unicode_escape").decode("ascii") for c in line)


def write_figure(figure: Figure, folder: epath.Path, name: str) -> None:
    """Write `name`.png, .pdf and .svg into `folder`."""
    for file_format in FORMATS:
        write_atomic(folder / f"{name}.{file_format}", render(figure, file_format))


def inline_svg(figure: Figure, prefix: str, drawn: Mapping[str, ArtistMarks], label: str) -> str:
    """`figure` as an `<svg>` element for the page.

    Args:
        figure: artists that show runs have a gid.
        prefix: unique in the page; put before every id, since all drawings share one document.
        drawn: what the artist of each gid shows; points in the order drawn.
        label: what the drawing shows, for those who do not see it.
    """
    root = ElementTree.fromstring(render(figure, "svg"))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for name in ("metadata", "defs/style"):  # the style: that of `.plot` in page.css
        for parent in root.findall(f"{name}/.."):
            parent.remove(parent.find(name.rpartition("/")[2]))
    elements = {element.get("id"): element for element in root.iter()}
    for gid, marks in drawn.items():
        _tell_runs(elements[gid], marks)
    names = _new_ids(root, prefix, drawn)
    for element in root.iter():
        _localise(element, names)
    shorten_svg(root)
    for name in ("width", "height"):  # the page decides; the viewBox keeps the shape
        root.attrib.pop(name, None)
    style = f"max-width: {LARGEST * 72 * figure.get_size_inches()[0]:.0f}pt"
    root.attrib |= {"role": "img", "aria-label": label, "class": "plot", "style": style}
    return ElementTree.tostring(root, encoding="unicode")


def _tell_runs(group: ElementTree.Element, marks: ArtistMarks) -> None:
    """Write run ids (`data-run` of a point, `data-runs` of a curve, as JSON) and hover titles into what was drawn."""
    if not marks.titles:
        group.set("data-runs", json.dumps([*dict.fromkeys(map(str, marks.run_ids))]))
        return
    points = list(group.iter("use"))
    if not len(points) == len(marks.titles) == len(marks.run_ids):
        raise ValueError(f"{group.get('id')}: {len(points)} points drawn for {len(marks.titles)} titles")
    for point, run_id, title in zip(points, marks.run_ids, marks.titles, strict=True):
        point.set("data-run", str(run_id))
        ElementTree.SubElement(point, "title").text = title
    for shape in group.findall("defs/path"):
        shape.attrib.pop("style", None)  # it hides that of its points, and each may want its own


def _new_ids(root: ElementTree.Element, prefix: str, gids: Iterable[str]) -> dict[str, str]:
    """New ids by old ones: for what shows runs and for what is referred to; other ids are dropped."""
    values = (value for element in root.iter() for value in element.attrib.values())
    referred = [name for value in values for name in REFERENCE.findall(value)]
    kept = {name: f"{prefix}-{k:x}" for k, name in enumerate(dict.fromkeys(referred))}
    return kept | {gid: f"{prefix}-{gid}" for gid in gids}  # readable, for tests and for whoever looks into the page


def _localise(element: ElementTree.Element, names: Mapping[str, str]) -> None:
    """Give ids and references their new names; replace colours by variables; drop fonts."""
    colours = light_colours()
    for name, value in list(element.attrib.items()):
        if name == "id":
            del element.attrib["id"]
            if value in names:
                element.set("id", names[value])
            continue
        if name == "style":
            value = HASH_COLOUR.sub(lambda match: colours.get(match[0], match[0]), value)
            value = re.sub(r"font-family: [^;]*;? ?", "", value)
            value = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", value)
        if name in ("style", "clip-path", "href"):
            value = REFERENCE.sub(lambda match: f"#{names[match[1]]}", value)
        element.set(name, value)
