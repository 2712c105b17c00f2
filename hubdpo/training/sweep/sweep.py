"""The sweep stage: train one run for each combination of option values, on one preparation, reference and base."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.run_folder import alone_in
from hubdpo.artefacts.folders.sweep_folder import why_best
from hubdpo.artefacts.manifests.chosen import Selection
from hubdpo.artefacts.manifests.manifest import RUN_FILE, SWEEP_FILE, SWEEP_PLOT
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest, SweptRun
from hubdpo.config import SweepConfig
from hubdpo.config.sweep import Point, command, shown
from hubdpo.config.takes import takes
from hubdpo.errors import (
    ArtefactError,
    ConfigError,
    MachineError,
    ResumeMismatch,
    Stopped,
    TrainingError,
    UnsupportedBase,
)
from hubdpo.training.common import Common
from hubdpo.training.launch.processes import world_size
from hubdpo.training.start import check_folder, run_in
from hubdpo.training.sweep.earlier import check_points, find_earlier_sweep, started
from hubdpo.version import __version__

OF_ONE_RUN = (TrainingError, ConfigError, ArtefactError)
"""Errors that the other runs may not meet."""
OF_ALL_RUNS = (ResumeMismatch, UnsupportedBase)
"""Some of these that they will meet too, or that a changed command makes."""
COLUMNS = ("run", "", "held-out accuracy", "95 % interval", "margin", "KL", "loss")


@takes(SweepConfig, "model_name_or_path", "dataset", "output_dir")
def sweep(config: SweepConfig) -> SweepManifest:
    """Train one run for each combination of option values, and return what was measured of each.

    The runs share the tokenised pairs, the reference log-probs and one base in memory, and each ends as `train` with
    `reference="cached"` would end it. It has its folder below `output_dir`, whose `sweep.json` ranks the runs by
    held-out reward accuracy. A run that fails is noted with its reason, and the others go on. `dry_run` checks the
    options of all runs, stops after the preflight of the first one, and writes nothing.

    Raise what `train` raises where it concerns all runs; the hint of Stopped and MachineError goes on with the sweep.
    """
    if config.num_processes > 1 or world_size() > 1:
        raise ConfigError(
            "a sweep runs in one process: a run that fails in one of several would leave the others waiting for it",
            hint="leave `--num-processes` out, or train the runs apart with `hubdpo train --num-processes N`",
        )
    folder, again = config.output_dir, command(config)
    with contextlib.ExitStack() as held:
        if folder.is_dir() and not config.dry_run:
            held.enter_context(alone_in(folder))
        earlier = find_earlier_sweep(config)
        points = check_points(config)
        manifest = _planned(config, points, earlier, again)
        _show_grid(points, manifest)
        common = Common()
        if "test" not in common.data(points[0].config)[0]:
            console.warn("the dataset has no test split, so no run will be called the best")
        if config.dry_run:
            run_in(points[0].config, common, check_folder)
            return manifest
        if not folder.is_dir():
            held.enter_context(alone_in(folder))
        try:
            return _train_all(folder, points, manifest, common)
        except KeyboardInterrupt:
            raise Stopped(again) from None
        except MachineError as problem:
            problem.hint = again
            raise


def _planned(config: SweepConfig, points: list[Point], earlier: SweepManifest | None, again: str) -> SweepManifest:
    """Return the manifest before the first run: the runs of the command, and those that it no longer names."""
    known = {run.name: run for run in earlier.runs} if earlier is not None else {}
    runs = []
    for name, values, _ in points:
        run = known.pop(name, None) or SweptRun(name=name, values=values)
        runs.append(run.model_copy(update={"in_grid": True}))
    for name, run in known.items():
        if (config.output_dir / name / RUN_FILE).is_file():
            runs.append(run.model_copy(update={"in_grid": False}))
        else:
            console.warn(f"`{name}` is no longer asked for, and its folder is gone; it is forgotten")
    return SweepManifest(hubdpo_version=__version__, again=again, runs=runs)


def _train_all(folder: Path, points: list[Point], manifest: SweepManifest, common: Common) -> SweepManifest:
    manifest.write(folder / SWEEP_FILE)
    for number, point in enumerate(points, start=1):
        console.info("", f"run       {number} of {len(points)}, {point.name}")
        outcome = _train_one(point, manifest.runs[number - 1], common)
        runs = [outcome if run.name == point.name else run for run in manifest.runs]
        manifest = manifest.model_copy(update={"runs": runs})
        manifest.write(folder / SWEEP_FILE)
    _tell_the_runs(folder, manifest)
    from hubdpo.cards.model.sweep_plot import write_sweep_plot

    write_sweep_plot(folder, manifest)
    _show_runs(folder, manifest, points[0].config.max_eval_pairs)
    return manifest


def _train_one(point: Point, before: SweptRun, common: Common) -> SweptRun:
    """Train a run, or finish it, and measure it. Return it as failed, with the reason, for an error of its own."""
    reason = None
    try:
        run = run_in(point.config, common, check_folder)
    except OF_ALL_RUNS:
        raise
    except OF_ONE_RUN as problem:
        # without the error, whose traceback holds the model that ran out of memory
        reason = problem.message + (f" (hint: {problem.hint})" if problem.hint else "")
    common.put_back()
    if reason is not None:
        console.warn(f"`{point.name}` failed: {reason}")
        return before.model_copy(update={"status": "failed", "reason": reason})
    from hubdpo.training.sweep.measure import measured

    return measured(point, run, before, common)


def _tell_the_runs(folder: Path, manifest: SweepManifest) -> None:
    """Write into the `run.json` of each ranked run which place it has, for its card."""
    ranked, like = manifest.ranked, len(manifest.like_the_best)
    for rank, run in enumerate(ranked, start=1):
        path = folder / run.name / RUN_FILE
        told = RunManifest.read(path)
        selection = Selection(rank=rank, of=len(ranked), not_told_apart=like)
        if told.selection != selection:
            told.model_copy(update={"selection": selection}).write(path)


def _show_grid(points: list[Point], manifest: SweepManifest) -> None:
    """Print the runs that are planned, and those in the folder that the command no longer names."""
    options = [*points[0].values]
    known = {run.name: run for run in manifest.runs}
    rows = []
    for point in points:
        state = "resumes" if started(point.config) else "starts"
        state = "finished" if known[point.name].status == "complete" else state
        rows.append([point.name, *(shown(point.values[option]) for option in options), state])
    console.table(["run", *options, ""], rows)
    for run in manifest.runs:
        if not run.in_grid:
            console.info(f"not named {run.name} is no longer asked for; it stays, and is compared with the others")


def _show_runs(folder: Path, manifest: SweepManifest, most: int) -> None:
    """Print the table of the runs, best first, why the best is the best, and each failure with its reason."""
    console.table(COLUMNS, [_row(run, is_best=run is manifest.best) for run in manifest.in_order])
    pairs = max((run.pairs or 0 for run in manifest.runs), default=0)
    if most < pairs:
        console.info(f"the loss is that of the first {most:,} held-out pairs, the other figures are of all {pairs:,}")
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
