"""Draw the training curves of a run, from metrics.jsonl, as PNG files."""

from __future__ import annotations

import io
import json
from pathlib import Path

from matplotlib.figure import Figure

from hubdpo.artefacts.manifests.manifest import METRICS_FILE, write_atomic

PLOTS = {
    "loss": ("loss",),
    "accuracies": ("rewards/accuracies",),
    "margins": ("rewards/margins",),
    "logps": ("logps/chosen", "logps/rejected"),
}


def write_plots(run: Path) -> list[Path]:
    """Draw the logged metrics, training and held-out in one plot each. Return the files in `plots/`."""
    log = [json.loads(line) for line in (run / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    written = []
    (run / "plots").mkdir(exist_ok=True)
    for name, keys in PLOTS.items():
        series = {
            label: points
            for key in keys
            for label, full in ((key, key), (f"held-out {key}", f"eval_{key}"))
            if (points := [(line["step"], line[full]) for line in log if full in line])
        }
        if series:
            written.append(_draw(run / "plots" / f"{name}.png", name, series))
    return written


def _draw(path: Path, title: str, series: dict[str, list[tuple[int, float]]]) -> Path:
    # without a version in it, the same run gives the same bytes
    png = io.BytesIO()
    curves(title, series).savefig(png, dpi=100, metadata={"Software": None})
    write_atomic(path, png.getvalue())
    return path


def curves(title: str, series: dict[str, list[tuple[int, float]]]) -> Figure:
    """Draw curves of (step, value) points; a held-out curve has the colour of its training curve, and markers."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    colours: dict[str, str] = {}
    for label, points in series.items():
        held_out = label.startswith("held-out ")
        colour = colours.setdefault(label.removeprefix("held-out "), f"C{len(colours)}")
        style = {"marker": "o", "markersize": 4} if held_out else {"alpha": 0.6}
        axes.plot(*zip(*points, strict=True), label=label, color=colour, **style)
    axes.set(xlabel="step", ylabel=title)
    axes.grid(alpha=0.3)
    # above the axes, where it does not cover a curve
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)
    return figure
