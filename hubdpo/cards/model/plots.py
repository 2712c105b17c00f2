"""Draw the training curves of a run, from metrics.jsonl, as one PNG file."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hubdpo.artefacts.manifests.manifest import CURVES_FILE, METRICS_FILE, write_atomic

PANELS = {
    "loss": ("loss",),
    "accuracies": ("rewards/accuracies",),
    "margins": ("rewards/margins",),
    "logps": ("logps/chosen", "logps/rejected"),
}
LEVELS = {"loss": (math.log(2), "ln 2"), "accuracies": (0.5, "0.5"), "margins": (0.0, "0")}
"""A value of each panel to compare its curves with, and its name: where a model does not tell the answers apart."""
NEAR = 0.1
"""How far from ln 2 a loss may begin to be one that is ln 2 where the answers are not told apart."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Colours that can be told apart with every kind of colour vision (Okabe and Ito 2008)."""
SHOWN_DPI = 100
"""Dots per inch at which a card shows the picture, which has twice as many for sharp screens."""
Series = dict[str, list[tuple[int, float]]]


def write_plots(run: Path, *, chosen: int | None = None) -> Path | None:
    """Draw the logged metrics, training and held-out together, with a line at the step whose adapter was chosen.

    Return the file, or None if nothing was logged.
    """
    if not (run / METRICS_FILE).is_file():  # an adopted adapter may have come without a log
        return None
    log = [json.loads(line) for line in (run / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    panels: dict[str, Series] = {}
    ends = "_rewards/accuracies"  # of no other metric
    sets = {key[len("eval_") : -len(ends)]: None for line in log for key in line if re.fullmatch(f"eval_.+{ends}", key)}
    for name, keys in PANELS.items():
        series = {
            label: points
            for key in keys
            for label, full in (
                (key, key),
                (f"held-out {key}", f"eval_{key}"),
                *((f"{name} {key}", f"eval_{name}_{key}") for name in sets),
            )
            if (points := [(line["step"], line[full]) for line in log if full in line])
        }
        if series:
            panels[name] = series
        # earlier versions of hubdpo drew each panel in a file of its own
        (run / "plots" / f"{name}.png").unlink(missing_ok=True)
    if not panels:
        return None
    path = run / CURVES_FILE
    path.parent.mkdir(exist_ok=True)
    # without a version in it, the same run gives the same bytes
    png = io.BytesIO()
    draw(panels, chosen=chosen).savefig(png, dpi=2 * SHOWN_DPI, metadata={"Software": None})
    write_atomic(path, png.getvalue())
    return path


def draw(panels: dict[str, Series], *, chosen: int | None = None) -> Figure:
    """Draw curves of (step, value) points, one panel for each title, two panels in a row."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (title, series) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, title, series)
        if chosen is not None:
            axes.axvline(chosen, color="grey", linestyle=":", label=f"step {chosen} was taken")
            _name_curves(axes)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def _draw_panel(axes: Axes, title: str, series: Series) -> None:
    """Draw the curves of a panel; a held-out curve has the colour of its training curve, and markers."""
    colours: dict[str, str] = {}
    for label, points in series.items():
        held_out = " " in label
        colour = colours.setdefault(label.removeprefix("held-out "), COLOURS[len(colours) % len(COLOURS)])
        style = {"marker": "o", "markersize": 4} if held_out else {"alpha": 0.6}
        axes.plot(*zip(*points, strict=True), label=label, color=colour, **style)
    level, name = LEVELS.get(title, (None, ""))
    first = next(iter(series.values()))[0][1]
    if level is not None and (title != "loss" or abs(first - level) < NEAR):
        axes.axhline(level, color="grey", linestyle="--", linewidth=1, label=name, zorder=1)
    axes.set(xlabel="step", ylabel=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    _name_curves(axes)


def _name_curves(axes: Axes) -> None:
    # above the axes, where it does not cover a curve
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)
