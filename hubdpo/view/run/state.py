"""A run as it is now: its files, its manifest, how far it is, and whether a process works in its folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from hubdpo.artefacts.folders.journal import Entry, read_journal
from hubdpo.artefacts.folders.run_folder import is_worked_in, train_again
from hubdpo.artefacts.folders.sweep_folder import is_sweep
from hubdpo.artefacts.manifests.manifest import METRICS_FILE, RUN_FILE, SWEEP_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.view.page import Asked, PageError
from hubdpo.view.run.log import SPEED, Log, LogFile
from hubdpo.view.thing import Thing

LIVE_S, IDLE_S = 2, 10
"""Seconds between two looks at a run that trains, and at one that has ended early and may be resumed."""
Status = Literal["starting", "running", "scoring", "complete", "failed", "stopped", "unknown"]


@dataclass
class Run:
    """A run at the moment at which a page was asked for. A folder is read anew, since a run writes to it."""

    thing: Thing

    @cached_property
    def snapshot(self) -> Snapshot:
        return FolderSnapshot(self.folder, all_files=True) if self.folder is not None else self.thing.snapshot

    @property
    def title(self) -> str:
        return self.thing.title

    @property
    def folder(self) -> Path | None:
        return folder_of(self.thing)

    @cached_property
    def manifest(self) -> RunManifest | None:
        return self.snapshot.run

    @cached_property
    def log(self) -> Log:
        return self.thing.keep("log", LogFile).now(self.snapshot)

    @cached_property
    def journal(self) -> Sequence[Entry]:
        return read_journal(self.folder) if self.folder is not None else ()

    @property
    def step(self) -> int:
        done = self.manifest.steps if self.manifest is not None and self.manifest.status == "complete" else 0
        return max(done or 0, self.log.step)

    @property
    def planned(self) -> int | None:
        """All steps of the run; None where its version did not write them down."""
        return self.manifest.planned_steps if self.manifest is not None else None

    @property
    def steps(self) -> str:
        return f"{self.step:,}" + (f" of {self.planned:,}" if self.planned else "")

    @cached_property
    def status(self) -> Status:
        if self.manifest is not None and self.manifest.status == "complete":
            return "complete"
        is_live = self.folder is not None and is_worked_in(self.folder)
        if self.manifest is None:
            return "starting" if is_live else "unknown"
        if is_live:
            return "scoring" if self.planned and self.step >= self.planned else "running"
        return "failed" if self.journal and self.journal[-1].kind == "failed" else "stopped"

    @property
    def is_live(self) -> bool:
        return self.status in ("starting", "running", "scoring")

    @property
    def again(self) -> str | None:
        """The command that goes on with a run that has ended before its last step."""
        if self.folder is None or self.manifest is None or self.status not in ("failed", "stopped"):
            return None
        return train_again(self.folder, self.manifest)

    @property
    def seconds_left(self) -> float | None:
        changes = self.manifest.changes if self.manifest is not None else []
        pace = self.log.seconds_a_step(since=changes[-1].step if changes else 0)  # perhaps of another machine
        if self.status != "running" or pace is None or self.planned is None:
            return None
        return pace * max(self.planned - self.step, 0)

    @property
    def tokens_per_second(self) -> float | None:
        """While it trains, of the last logged step; afterwards the mean, as the run recorded it."""
        if self.status == "complete" and self.manifest is not None and self.manifest.tokens_per_second:
            return self.manifest.tokens_per_second
        speeds = self.log.series(SPEED).values
        return float(speeds[-1]) if len(speeds) else None


def folder_of(thing: Thing) -> Path | None:
    return thing.snapshot.folder if isinstance(thing.snapshot, FolderSnapshot) else None


def runs_of(thing: Thing) -> list[Run]:
    """Return the runs that are shown: the given ones, and of a sweep those that have begun, the best one first.

    Raise PageError where none has begun.
    """
    runs = [run for each in (thing, *thing.others) for run in _runs_in(each)]
    if not runs:
        raise PageError(404, "no run of this sweep has begun", "come back in a moment")
    return runs


def _runs_in(thing: Thing) -> list[Run]:
    if (folder := _sweep_of(thing)) is None:
        return [Run(thing)]
    manifest = SweepManifest.read(folder / SWEEP_FILE)
    begun = [run.name for run in manifest.in_order if _has_begun(folder / run.name)]
    return [Run(thing.keep(f"run {name}", functools.partial(_swept, folder / name, thing.data))) for name in begun]


def _sweep_of(thing: Thing) -> Path | None:
    """Return the folder of a sweep, which is never in a repo."""
    folder = folder_of(thing)
    return folder if folder is not None and is_sweep(folder) else None


def look_again(thing: Thing, runs: Sequence[Run]) -> int | None:
    """Return after how many seconds an open page looks again, None where nothing will change."""
    sweeps = filter(None, map(_sweep_of, (thing, *thing.others)))
    if any(run.is_live for run in runs) or any(map(is_worked_in, sweeps)):
        return LIVE_S
    return IDLE_S if any(run.status in ("stopped", "failed") and run.folder is not None for run in runs) else None


def _has_begun(folder: Path) -> bool:
    return (folder / RUN_FILE).is_file() or (folder / METRICS_FILE).is_file()


def _swept(folder: Path, data: Thing | None) -> Thing:
    return Thing(FolderSnapshot(folder, all_files=True), folder.name, data=data)


def chosen_run(asked: Asked, thing: Thing) -> tuple[Run, list[Run]]:
    """Return the run that `run` names by its number from 1, by default the first one, and all runs."""
    runs = runs_of(thing)
    number = asked.number("run", 1)
    if not 1 <= number <= len(runs):
        raise PageError(404, f"there are {len(runs):,} runs, numbered from 1", "choose one of them")
    return runs[number - 1], runs


def manifest_of(run: Run) -> RunManifest:
    """Return the manifest of a run. Raise PageError for a folder that has none, or one that cannot be read."""
    if run.manifest is not None:
        return run.manifest
    try:
        run.snapshot.manifest(RUN_FILE, RunManifest)
    except ArtefactError as problem:
        raise PageError(500, problem.message, problem.hint or "") from None
    if run.is_live:
        raise PageError(404, "the run is starting, and has written nothing yet", "come back in a moment")
    raise PageError(404, f"`{run.title}` has no {RUN_FILE}, so nothing is known of its options", "")
