"""Tell the folder of a sweep, and choose a run of it."""

from __future__ import annotations

import shlex
from pathlib import Path

from hubdpo.artefacts.manifests.manifest import RUN_FILE, SWEEP_FILE
from hubdpo.artefacts.manifests.sweep import SweepManifest
from hubdpo.console import counted
from hubdpo.errors import ArtefactError


def is_sweep(folder: Path) -> bool:
    return (folder / SWEEP_FILE).is_file() and not (folder / RUN_FILE).exists()


def refuse_sweep(folder: Path) -> None:
    """Raise ArtefactError for the folder of a sweep, where one of its runs is meant."""
    if not is_sweep(folder):
        return
    manifest = SweepManifest.read(folder / SWEEP_FILE)
    raise ArtefactError(
        f"`{folder}` is a sweep of {counted(len(manifest.runs), 'run')}, and one of them is meant",
        hint=_run_to_name(folder, manifest),
    )


def _run_to_name(folder: Path, manifest: SweepManifest) -> str:
    """Return the folder of the best run, or of one that is finished; without one, the command that finishes some."""
    run = manifest.best or next((run for run in manifest.runs if run.status == "complete"), None)
    return shlex.quote(str(folder / run.name)) if run is not None else manifest.again


def best_run(folder: Path) -> tuple[Path, str]:
    """Return the folder of the best run of a sweep, and why it is the best. Raise ArtefactError if none can be said."""
    manifest = SweepManifest.read(folder / SWEEP_FILE)
    if manifest.best is None:
        finished = any(run.status == "complete" for run in manifest.runs)
        why = "was scored on held-out pairs: its dataset has no test split" if finished else "is finished"
        raise ArtefactError(
            f"no run of the sweep `{folder}` {why}, so none is the best",
            hint=_run_to_name(folder, manifest),
        )
    return folder / manifest.best.name, why_best(manifest)


def why_best(manifest: SweepManifest) -> str:
    """Return by which rule the best run is the best, and what the held-out pairs cannot tell."""
    best, others, like = manifest.best, len(manifest.ranked) - 1, len(manifest.like_the_best)
    if best is None or best.accuracy is None:
        return "no run was scored on held-out pairs"
    a = best.accuracy
    rule = f"held-out reward accuracy {a.value:.1%} [{a.low:.1%}, {a.high:.1%}], the highest of {others + 1} runs"
    if any(run.accuracy is not None and run.accuracy.value == a.value for run in manifest.ranked[1:]):
        rule = f"{rule}, and of equal ones the largest margin"
    if not like:
        return rule
    return (
        f"{rule}; {counted(best.pairs or 0, 'pair')} cannot tell it from {counted(like, 'other run')}, whose "
        f"95 % interval{'s overlap' if like > 1 else ' overlaps'} its own"
    )
