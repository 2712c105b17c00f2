"""Draw the training curves of a run, from metrics.jsonl, as one PNG file."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hubdpo.artefacts.manifests.manifest import CURVES_FILE, METRICS_FILE, write_atomic

PANELS = {
    "loss": ("loss",),
    "accuracies": ("rewards/accuracies",),
    "margins": ("rewards/margins",),
    "logps": ("logps/chosen", "logps/rejected"),
}
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
    draw(panels, chosen=chosen).savefig(png, dpi=100, metadata={"Software": None})
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
        colour = colours.setdefault(label.removeprefix("held-out "), f"C{len(colours)}")
        style = {"marker": "o", "markersize": 4} if held_out else {"alpha": 0.6}
        axes.plot(*zip(*points, strict=True), label=label, color=colour, **style)
    axes.set(xlabel="step", ylabel=title)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    _name_curves(axes)


def _name_curves(axes: Axes) -> None:
    # above the axes, where it does not cover a curve
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)
