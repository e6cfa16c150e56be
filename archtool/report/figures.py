"""Plots as inline SVG: the page's own colours and font, the same bytes for the same data.

matplotlib draws with placeholder colours that are replaced by the page's CSS variables, so that one
drawing serves light, dark and print. Text stays text.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from archtool.report.markup import Html, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#010101", "#020202", "#030303"
PARENT, CHILD, PAPER = "#040404", "#050505", "#060606"
_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PARENT: "var(--parent)",
    CHILD: "var(--child)",
    PAPER: "var(--paper)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def drawable(*values: float) -> bool:
    """Whether numbers can be placed on an axis; the others are named in the caption and stay in the table."""
    return all(abs(value) < 1e30 for value in values)


def figure(name: str, caption: str, size_in: tuple[float, float], draw: Callable[["Figure"], None]) -> Html:
    """Draw a figure of ``size_in`` inches as ``<figure>``.

    Args:
        name: unique in the page; prefixes the ids of the drawing.
        caption: what the figure shows; also read out in its place.
        size_in: width and height in inches.
        draw: fills the empty figure.
    """
    svg = _svg(name, size_in, draw)
    drawing = tag("div", svg, class_="scroll", role="img", aria_label=caption)
    return tag("figure", drawing, tag("figcaption", caption))


def _svg(name: str, size_in: tuple[float, float], draw: Callable[["Figure"], None]) -> Html:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # the text is drawn by the browser, which has other fonts than the one measured with here
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        canvas = Figure(figsize=size_in)
        FigureCanvasSVG(canvas)
        draw(canvas)
        buffer = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(buffer, format="svg", metadata=nothing)
    return Html(_clean(buffer.getvalue().decode(), name))


def _clean(svg: str, name: str) -> str:
    """Make matplotlib's document a fragment of an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"; font-family: [^;\"]*", "", svg)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
