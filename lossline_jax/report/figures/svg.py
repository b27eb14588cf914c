"""Write figures to files, and as SVG into the page. In the page CSS sets the colours and every point has a title."""

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
COORDINATES = ("d", "x", "y", "transform")  # attributes that hold coordinates


def shorten_svg(root: ElementTree.Element) -> None:
    """Shorten an SVG of matplotlib in place.

    Coordinates are rounded to hundredths of a point, a style common to a group is written once, and white space between
    elements is removed.
    """
    for element in root.iter():
        for name in COORDINATES:
            if (value := element.get(name)) is not None:
                element.set(name, _round_coordinates(value, is_path=name == "d"))
        if element.tag != "text":
            element.text = (element.text or "").strip() or None
        element.tail = None
        _move_common_style(element)


def _round_coordinates(coordinates: str, is_path: bool) -> str:
    rounded = LONG_DECIMAL.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), coordinates)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded).strip() if is_path else rounded


def _move_common_style(group: ElementTree.Element) -> None:
    """Move the style that all points of a group share to the group. Their common shape inherits it from the group."""
    points = group.findall("use")
    if len(points) < 2 or len(points) != len(group):
        return
    style = points[0].get("style")
    if style is not None and all(point.get("style") == style for point in points):
        group.set("style", style)
        for point in points:
            del point.attrib["style"]


FORMATS = ("png", "pdf", "svg")
# matplotlib's date and version are left out, so that equal input gives equal bytes.
METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
HASH_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
LONGEST_NAME = 100  # characters of one line of text in a drawing
LARGEST = 1.3  # largest scale in the page, relative to print, so that all drawings have letters of similar size
POINTS_PER_INCH = 72
SMALLEST_LETTER = 11  # pixels of the smallest letters on a phone, where a wider drawing scrolls sideways
FONT_SIZE = re.compile(r"font-size: ([\d.]+)px")
REFERENCE = re.compile(r"(?:(?<=url\()|^)#([\w.-]+)(?=\)|$)")  # `#id` alone, or in url()


class ArtistMarks(Protocol):
    """The runs and hover titles of an artist, as `plot.Marks` has them."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The run of each point, or the runs of a curve."""
        ...

    @property
    def titles(self) -> tuple[str, ...]:
        """The hover title of each point; empty for a curve."""
        ...

    @property
    def by_run(self) -> bool:
        """Points of one run share the mark of their run."""
        ...


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of `width` x `height` inches that is not registered in pyplot's global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def render(figure: Figure, file_format: str, texts: Sequence[Text] | None = None) -> bytes:
    """Return the bytes of `figure`.

    Args:
        figure: the figure to render.
        file_format: "png", "pdf" or "svg".
        texts: all texts of the figure, as `_texts_of` finds them. None: they are looked for.
    """
    buffer = io.BytesIO()
    texts = _texts_of(figure) if texts is None else texts
    with matplotlib.rc_context(RC), _fitting_texts(texts, file_format == "svg"), warnings.catch_warnings():
        # SVG text uses the reader's font. PNG and PDF texts are escaped by `_fitting_texts`.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=file_format, metadata=METADATA[file_format])
    return buffer.getvalue()


def _texts_of(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text)]


@contextlib.contextmanager
def _fitting_texts(shown: Sequence[Text], has_fonts: bool) -> Iterator[None]:
    """Shorten long names while the context is open, and escape characters that the font does not have.

    Missing characters would all be drawn as the same box. They are written as Python escapes instead.

    Args:
        shown: the texts that are replaced. They are restored on exit.
        has_fonts: the reader's program chooses the font, so nothing is escaped.
    """
    texts = {text: text.get_text() for text in shown}
    try:
        for text, original in texts.items():
            lines = [shortened(line, LONGEST_NAME) for line in original.split("\n")]
            text.set_text("\n".join(lines if has_fonts else map(_escape_missing_glyphs, lines)))
        yield
    finally:
        for text, original in texts.items():
            text.set_text(original)


def _escape_missing_glyphs(line: str) -> str:
    if line.isascii():
        return line
    font = get_font(findfont(RC["font.family"][0]))
    return "".join(c if font.get_char_index(ord(c)) else c.encode("unicode_escape").decode("ascii") for c in line)


def write_figure(figure: Figure, folder: epath.Path, name: str) -> None:
    """Write `name`.png, .pdf and .svg into `folder`."""
    texts = _texts_of(figure)
    for file_format in FORMATS:
        write_atomic(folder / f"{name}.{file_format}", render(figure, file_format, texts))


def inline_svg(figure: Figure, prefix: str, drawn: Mapping[str, ArtistMarks], label: str) -> str:
    """Return `figure` as an `<svg>` element for the page.

    Args:
        figure: the figure to write. Artists that show runs have a gid.
        prefix: text before every id. It must be unique in the page, because all drawings share one document.
        drawn: the marks of the artist of each gid, points in the order in which they are drawn.
        label: description of the drawing for screen readers.
    """
    root = ElementTree.fromstring(render(figure, "svg"))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for name in ("metadata", "defs/style"):  # page.css has the style, under `.plot`
        for parent in root.findall(f"{name}/.."):
            for child in parent.findall(name.rpartition("/")[2])[:1]:
                parent.remove(child)
    elements = {element.get("id"): element for element in root.iter()}
    for gid, marks in drawn.items():
        _add_runs(elements[gid], marks)
    names = _new_ids(root, prefix, drawn)
    for element in root.iter():
        _localise(element, names)
    shorten_svg(root)
    for name in ("width", "height"):  # the page sets the size; the viewBox keeps the shape
        root.attrib.pop(name, None)
    width = POINTS_PER_INCH * float(figure.get_size_inches()[0])
    style = f"max-width: {LARGEST * width:.0f}pt; --readable: {_readable_width(root, width):.0f}px"
    root.attrib |= {"role": "img", "aria-label": label, "class": "plot", "style": style}
    return ElementTree.tostring(root, encoding="unicode")


def _readable_width(root: ElementTree.Element, width: float) -> float:
    """Return the width in pixels at which the smallest letters of a drawing have `SMALLEST_LETTER` pixels.

    Args:
        root: the drawing, with the font sizes in its styles.
        width: its width in its own units.
    """
    styles = (element.get("style", "") for element in root.iter("text"))
    sizes = [float(size) for style in styles for size in FONT_SIZE.findall(style)]
    return width * SMALLEST_LETTER / min(sizes) if sizes else width


def _add_runs(group: ElementTree.Element, marks: ArtistMarks) -> None:
    """Write run ids and hover titles into the SVG group of an artist.

    A point gets `data-run` and a title. A curve gets `data-runs`, a JSON list. Points by run are put into groups with
    `data-run`, and their titles leave the run out.
    """
    if not marks.titles:
        group.set("data-runs", json.dumps([*dict.fromkeys(map(str, marks.run_ids))]))
        return
    points = list(group.iter("use"))
    if not len(points) == len(marks.titles) == len(marks.run_ids):
        raise ValueError(f"{group.get('id')}: {len(points)} points drawn for {len(marks.titles)} titles")
    for point, run_id, title in zip(points, marks.run_ids, marks.titles, strict=True):
        point.set("data-run", str(run_id))
        ElementTree.SubElement(point, "title").text = title.removeprefix(f"{run_id}\n") if marks.by_run else title
    if marks.by_run:
        for parent in [element for element in group.iter() if element.find("use") is not None]:
            _group_by_run(parent)
    for shape in group.findall("defs/path"):
        shape.attrib.pop("style", None)  # it would override the styles of the points, which may differ


def _group_by_run(parent: ElementTree.Element) -> None:
    """Put neighbouring points of one run into a group that has `data-run` instead of them.

    A style that all points share moves to `parent`.
    """
    children = list(parent)
    styles = {point.get("style") for point in parent.findall("use")}
    if len(styles) == 1 and (style := styles.pop()) is not None:
        parent.set("style", style)
        for point in parent.findall("use"):
            del point.attrib["style"]
    for child in children:
        parent.remove(child)
    run_group = None
    for child in children:
        run_id = child.attrib.pop("data-run", None)
        if run_id is None:
            parent.append(child)
            run_group = None
            continue
        if run_group is None or run_group.get("data-run") != run_id:
            run_group = ElementTree.SubElement(parent, "g", {"data-run": run_id})
        run_group.append(child)


def _new_ids(root: ElementTree.Element, prefix: str, gids: Iterable[str]) -> dict[str, str]:
    """Return the new id of each old id that is referred to or belongs to an artist with runs. Other ids are dropped."""
    values = (value for element in root.iter() for value in element.attrib.values())
    referred = [name for value in values for name in REFERENCE.findall(value)]
    kept = {name: f"{prefix}-{k:x}" for k, name in enumerate(dict.fromkeys(referred))}
    return kept | {gid: f"{prefix}-{gid}" for gid in gids}  # the gid stays readable, for tests and for debugging


def _localise(element: ElementTree.Element, names: Mapping[str, str]) -> None:
    """Rename ids and references, replace colours by CSS variables, and remove fonts."""
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
