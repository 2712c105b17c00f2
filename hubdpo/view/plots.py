"""Draw plots as SVG, in the colours of the pages, light or dark."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hubdpo.loopback.http.wire import Answer
from hubdpo.view.render import TYPES, image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Colours(NamedTuple):
    ground: str
    ink: str
    soft: str
    line: str
    prompt: str
    chosen: str
    rejected: str
    series: tuple[str, ...]
    """Colours of runs or splits that are drawn over each other, which people who see few colours can tell apart."""


THEMES = {
    "light": Colours(
        "#ffffff", "#1d2126", "#5b6168", "#dcd8d1", "#5b6168", "#17693a", "#9a2f22",
        ("#1a5a96", "#b35c00", "#17693a", "#8e3a80", "#5b6168", "#9a2f22", "#007a87", "#7a5200"),
    ),
    "dark": Colours(
        "#1c2024", "#e7e5e1", "#a5abb2", "#363c43", "#a5abb2", "#7fd79b", "#f3a394",
        ("#8cc1f2", "#f2b26b", "#7fd79b", "#e3a1d6", "#a5abb2", "#f3a394", "#6fd3dd", "#f1c970"),
    ),
}  # fmt: skip
_drawing = threading.Lock()
"""matplotlib is not made for threads."""


def draw_svg(draw: Callable[[Figure, Colours], None], *, theme: str, size: tuple[float, float] = (6.4, 3.2)) -> Answer:
    """Return what `draw` puts on a figure of `size` inches; the same input gives the same bytes.

    Text stays text, in the font of the reader's system.
    """
    with _drawing:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hubdpo", "font.size": 10}):
            colours = THEMES.get(theme, THEMES["light"])
            figure = Figure(figsize=size, layout="constrained", facecolor=colours.ground)
            draw(figure, colours)
            for axes in figure.axes:
                _dress(axes, colours)
            content = io.BytesIO()
            figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None}, facecolor=colours.ground)
    svg = content.getvalue().replace(b"'DejaVu Sans', ", b"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', ")
    return image(svg, TYPES["svg"])


def _dress(axes: Axes, colours: Colours) -> None:
    axes.set_facecolor(colours.ground)
    axes.tick_params(colors=colours.soft)
    axes.xaxis.label.set_color(colours.ink)
    axes.yaxis.label.set_color(colours.ink)
    axes.title.set_color(colours.ink)
    axes.grid(color=colours.line, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_color(colours.line)
        spine.set_visible(name in ("left", "bottom"))
    if legend := axes.get_legend():
        for text in legend.get_texts():
            text.set_color(colours.ink)
