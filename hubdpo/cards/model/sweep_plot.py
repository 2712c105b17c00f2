"""Draw the runs of a sweep beside each other, as one PNG file."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hubdpo.artefacts.manifests.manifest import SWEEP_PLOT, write_atomic
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun

LONGEST_LABEL = 48
ACCURACY = "held-out accuracy"


def write_sweep_plot(folder: Path, manifest: SweepManifest) -> Path | None:
    """Draw accuracy with its interval, margin, KL and loss of each finished run. Return the file, None without runs."""
    runs = [run for run in manifest.runs if run.status == "complete"]
    if not runs:
        return None
    png = io.BytesIO()
    draw_runs(runs, best=manifest.best).savefig(png, dpi=100, metadata={"Software": None})
    write_atomic(folder / SWEEP_PLOT, png.getvalue())
    return folder / SWEEP_PLOT


def draw_runs(runs: list[SweptRun], *, best: SweptRun | None) -> Figure:
    """Draw four panels with one row a run, in the order of the grid from the top."""
    figure = Figure(figsize=(13, 1.6 + 0.32 * len(runs)), layout="constrained")
    values_of = {
        ACCURACY: [run.accuracy.value if run.accuracy else None for run in runs],
        "reward margin": [run.margin for run in runs],
        "KL, nats a token": [run.kl for run in runs],
        "loss": [run.loss for run in runs],
    }
    panels = figure.subplots(1, 4, sharey=True)
    for axes, (title, values) in zip(panels, values_of.items(), strict=True):
        for row, (run, value) in enumerate(zip(runs, values, strict=True)):
            if value is None:
                continue
            colour = "C1" if best is not None and run.name == best.name else "C0"
            axes.plot(value, row, "o", color=colour)
            if title == ACCURACY and run.accuracy is not None:
                axes.plot([run.accuracy.low, run.accuracy.high], [row, row], color=colour, linewidth=1.5, alpha=0.7)
        axes.set(title=title)
        axes.grid(alpha=0.3)
    _name_rows(panels[0], runs, best)
    return figure


def _name_rows(axes: Axes, runs: list[SweptRun], best: SweptRun | None) -> None:
    names = [f"{'best: ' if best and run.name == best.name else ''}{run.name}" for run in runs]
    short = [name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…" for name in names]
    axes.set_yticks(range(len(runs)), short, parse_math=False)
    axes.set_ylim(len(runs) - 0.5, -0.5)
