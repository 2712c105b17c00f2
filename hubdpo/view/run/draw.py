"""Draw a panel of curves: as large as a phone shows it, so that its text is about as large as that of the page."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from hubdpo.loopback.http.wire import Answer
from hubdpo.view.plots import Colours, draw_svg
from hubdpo.view.run.panels import Curve, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 4.4, 2.8
LARGEST = 1e100
"""Largest value that is drawn: matplotlib's axes cannot span the numbers near the end of the range of floats."""
FEW = 60
"""Points of a held-out curve up to which its markers are large."""


@functools.lru_cache(maxsize=128)
def picture(panel: Panel, theme: str) -> Answer:
    """Return the SVG of a panel; an equal panel is not drawn twice."""
    return draw_svg(lambda figure, colours: _draw(figure, colours, panel), theme=theme, size=SIZE)


def _draw(figure: Figure, colours: Colours, panel: Panel) -> None:
    axes = figure.subplots()
    for curve in panel.curves:
        _draw_curve(axes, curve, colours)
    if panel.mark is not None:
        level, label = panel.mark
        axes.axhline(level, color=colours.soft, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            label, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 2.5), textcoords="offset points",
            ha="right", fontsize=9, color=colours.soft, zorder=4,
            bbox={"facecolor": colours.ground, "linewidth": 0, "alpha": 0.75, "pad": 0.8},
        )  # fmt: skip
    if panel.chosen is not None:
        axes.axvline(
            panel.chosen, color=colours.ink, linewidth=0.9, linestyle=":", label=f"step {panel.chosen:,} taken"
        )
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1, nbins=5)
    axes.locator_params(axis="y", nbins=6)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useOffset=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(x=0.02, y=0.08)
    _name_curves(axes)


def _draw_curve(axes: Axes, curve: Curve, colours: Colours) -> None:
    curve = replace(curve, values=_drawable(curve.values), mean=_drawable(curve.mean))
    colour = colours.series[curve.colour % len(colours.series)]
    style = (0, (5, 2)) if curve.dashed else "-"
    if curve.held_out:
        axes.plot(
            curve.steps, curve.values, label=curve.label or None, color=colour, linestyle=style, linewidth=1.1,
            zorder=3, marker="o", markersize=4 if len(curve.steps) < FEW else 2, markerfacecolor=colours.ground,
        )  # fmt: skip
        return
    if curve.mean:
        axes.plot(curve.steps, curve.values, color=colour, linestyle=style, linewidth=0.7, alpha=0.35)
    axes.plot(
        curve.steps, curve.mean or curve.values, color=colour, linestyle=style, linewidth=1.6 if curve.mean else 1.4,
        label=curve.label or None, marker="." if len(curve.steps) == 1 else None,  # a line of one point cannot be seen
    )  # fmt: skip


def _drawable(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value if abs(value) <= LARGEST else math.nan for value in values)


def _name_curves(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    legend = axes.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3 if len(labels) == 3 else 2, frameon=False,
        borderaxespad=0.1, handlelength=1.6, columnspacing=1.2, fontsize=9.5,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name from the log is no formula
