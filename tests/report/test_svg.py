"""Drawings in the page are smaller than those of matplotlib and show the same picture."""

from xml.etree import ElementTree

import numpy as np
import pytest

from lossline_jax.report.figures.plot import Marks
from lossline_jax.report.figures.style import RC
from lossline_jax.report.figures.svg import inline_svg, new_figure, render

NUM_POINTS = 200


@pytest.fixture(scope="module")
def figure():
    import matplotlib

    with matplotlib.rc_context(RC):
        figure = new_figure(4, 3)
        axes = figure.add_subplot()
        x = np.linspace(0, 1, NUM_POINTS)
        axes.plot(x, x**2, "o", color="#d55e00", gid="points")
        axes.plot(x, x, color="#0072b2", gid="curve")
        axes.set_title("two  words")
    return figure


@pytest.fixture(scope="module")
def raw(figure):
    return ElementTree.fromstring(render(figure, "svg"))


@pytest.fixture(scope="module")
def drawn():
    titles = tuple(f"run\nstep {k}" for k in range(NUM_POINTS))
    return {"points": Marks(("run",) * NUM_POINTS, titles), "curve": Marks(("run", "other"))}


@pytest.fixture(scope="module")
def text(figure, drawn):
    return inline_svg(figure, "a", drawn, "a square")


def with_id(root, name):
    return next(element for element in root.iter() if element.get("id") == name)


def uses(root, name):
    return [element for element in with_id(root, name).iter() if element.tag.endswith("use")]


def test_points_lie_where_they_lay_in_half_the_bytes(figure, raw, text):
    old, new = uses(raw, "points"), uses(ElementTree.fromstring(text), "a-points")
    assert len(old) == len(new) == NUM_POINTS
    for axis in "xy":
        np.testing.assert_allclose([float(u.get(axis)) for u in new], [float(u.get(axis)) for u in old], atol=0.0051)
    bare = inline_svg(figure, "a", {}, "a square")
    assert len(bare) < 0.5 * len(render(figure, "svg"))


def test_points_tell_their_run_and_can_be_styled_alone(text):
    root = ElementTree.fromstring(text)
    points = uses(root, "a-points")
    assert {point.get("data-run") for point in points} == {"run"}
    assert [point.find("title").text for point in points][7] == "run\nstep 7"
    assert not any(point.get("style") for point in points)
    styles = [element.get("style", "") for element in with_id(root, "a-points").iter()]
    assert all("var(--c-data)" in style for style in styles if style)
    assert with_id(root, "a-curve").get("data-runs") == '["run", "other"]'


def test_text_keeps_its_spaces_and_references_resolve(text):
    root = ElementTree.fromstring(text)
    assert "two  words" in [element.text for element in root.iter("text")]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("a-") for name in ids)
    assert {point.get("href")[1:] for point in root.iter("use")} <= set(ids)


def test_a_wrong_number_of_titles_is_refused(figure):
    with pytest.raises(ValueError, match="200 points drawn for 1 titles"):
        inline_svg(figure, "a", {"points": Marks(("run",), ("one",))}, "a square")
