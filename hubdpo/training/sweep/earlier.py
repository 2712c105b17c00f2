"""The runs of a sweep before the first one starts: what is there already, and whether their options pass all checks."""

from __future__ import annotations

import contextlib
from typing import Any

from hubdpo import console
from hubdpo.artefacts.folders.sweep_folder import is_sweep
from hubdpo.artefacts.manifests.manifest import RUN_FILE, SWEEP_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest
from hubdpo.config import SweepConfig, TrainConfig
from hubdpo.config.sweep import Point
from hubdpo.errors import ConfigError
from hubdpo.training.run.output_folder import check_output_folder
from hubdpo.training.start import at_commits_of, check_inputs

PINNED = ("model_name_or_path", "model_revision", "dataset", "adapter", "eval_dataset", "report_to")
"""Options that the checks of the first run pin to commits, or find out, for all of them."""
SEVERAL_IN_A_PROCESS = ("tensorboard", "trackio")
"""Trackers that begin a run of their own with each trainer."""


def find_earlier_sweep(config: SweepConfig) -> SweepManifest | None:
    """Return the sweep to resume, None when a new one starts.

    Raise ConfigError when a sweep is there and `--resume` is not given, when there is none to resume, or when the
    folder holds other files.
    """
    folder, option = config.output_dir, "extend" if config.extend else "resume"
    if is_sweep(folder):
        if not config.resumes:
            raise ConfigError(f"`{folder}` holds a sweep", hint="add `--resume`, or give another `--output-dir`")
        return SweepManifest.read(folder / SWEEP_FILE)
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise ConfigError(f"`{folder}` holds files that are not a sweep", hint="give another `--output-dir`")
    if config.resumes and not config.dry_run:
        raise ConfigError(f"there is no sweep in `{folder}` to {option}", hint=f"leave `--{option}` out")
    return None


def check_points(config: SweepConfig) -> list[Point]:
    """Check the options of every run in seconds, without torch, and pin base, adapter and dataset to one commit each.

    Raise what `check_start` raises, naming the run if the first one passed.
    """
    points = [point._replace(config=_as_there(point.config)) for point in config.points]
    pinned = _at_earlier_commits(points)
    for index, (name, _, options) in enumerate(points):
        quiet = console.written_as(console.Format.quiet, errors_only=True) if index else contextlib.nullcontext()
        try:
            with quiet:  # they would say the same
                check_output_folder(options)
                checked = check_inputs(options.model_copy(update=pinned))
        except ConfigError as problem:
            if index == 0:
                raise
            raise type(problem)(f"{problem.message}; this is the run `{name}`", hint=problem.hint) from None
        pinned |= {option: getattr(checked, option) for option in PINNED}
        points[index] = points[index]._replace(config=checked)
    if others := [tracker for tracker in pinned["report_to"] if tracker not in SEVERAL_IN_A_PROCESS]:
        raise ConfigError(
            f"`{others[0]}` keeps one run a process, and a sweep has several",
            hint="--report-to tensorboard, or `hubdpo train` for each run",
        )
    return points


def started(config: TrainConfig) -> bool:
    return (config.output_dir / RUN_FILE).is_file()


def _as_there(config: TrainConfig) -> TrainConfig:
    """Resume, or extend, the runs of a resumed sweep that have begun; others start."""
    there = started(config)
    return config.model_copy(update={"resume": config.resumes and there, "extend": config.extend and there})


def _at_earlier_commits(points: list[Point]) -> dict[str, Any]:
    """Return the commits of base, adapter and dataset that the first run recorded which is there."""
    there = next((point.config for point in points if started(point.config)), None)
    if there is None:
        return {}
    kept = at_commits_of(RunManifest.read(there.output_dir / RUN_FILE), there)
    return {option: getattr(kept, option) for option in PINNED[:4]}
