"""Print the runs of a sweep: before it the grid, after it what was measured and which run is the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.sweep_folder import why_best
from hubdpo.artefacts.manifests.manifest import SWEEP_FILE, SWEEP_PLOT
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun
from hubdpo.config.sweep import Point, shown
from hubdpo.training.sweep.earlier import started

COLUMNS = ("run", "", "held-out accuracy", "95 % interval", "margin", "KL", "loss")


def show_grid(points: Sequence[Point], manifest: SweepManifest) -> None:
    """Print the runs that are planned, and those in the folder that the command no longer names."""
    options = [*points[0].values]
    known = {run.name: run for run in manifest.runs}
    rows = [
        [point.name, *(shown(point.values[option]) for option in options), _state(point, known[point.name])]
        for point in points
    ]
    console.table(["run", *options, ""], rows)
    for run in manifest.runs:
        if not run.in_grid:
            console.info(f"not named {run.name} is no longer asked for; it stays, and is compared with the others")


def _state(point: Point, run: SweptRun) -> str:
    if run.status == "complete":
        return "finished"
    return "resumes" if started(point.config) else "starts"


def show_runs(folder: Path, manifest: SweepManifest) -> None:
    """Print the table of the runs, best first, why the best is the best, and each failure with its reason."""
    rows = [_row(run, is_best=run is manifest.best) for run in manifest.in_order]
    console.table(COLUMNS, rows)
    if manifest.best is not None:
        console.info(f"best      {manifest.best.name}: {why_best(manifest)}")
    elif any(run.status == "complete" for run in manifest.runs):
        console.warn("the dataset has no test split, so no run can be called the best")
    for run in manifest.failed:
        console.warn(f"`{run.name}` failed: {run.reason}")
    console.info(f"written   {folder / SWEEP_FILE} and {folder / SWEEP_PLOT}")


def _row(run: SweptRun, *, is_best: bool) -> list[str]:
    accuracy = run.accuracy
    return [
        run.name,
        "best" if is_best else "" if run.status == "complete" else run.status,
        f"{accuracy.value:.1%}" if accuracy else "-",
        f"{accuracy.low:.1%} to {accuracy.high:.1%}" if accuracy else "-",
        *(f"{value:.4f}" if value is not None else "-" for value in (run.margin, run.kl, run.loss)),
    ]
