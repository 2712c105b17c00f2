"""What stands in an output folder, told without torch: whether a run may start there, its checkpoints, its places."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError
from hubdpo.manifest import LOCAL_FILE, RUN_FILE, RunManifest, canonical_json, write_atomic

MARKER = "hubdpo-complete.json"
"""In a checkpoint, once it was written whole."""


def check_before_start(config: TrainConfig) -> RunManifest | None:
    """Return the run of this folder that is gone on with, or None when the folder is free.

    It is free, too, with a run that has not saved anything yet. Raise ConfigError when a run is there and is not to be
    gone on with, when there is none to go on with, or when the folder holds other files.
    """
    folder = config.output_dir
    _check_place(folder)
    if not folder.exists() or not any(folder.iterdir()):
        if config.goes_on and not config.dry_run:
            way = "extend" if config.extend else "resume"
            raise ConfigError(f"there is no run in `{folder}` to {way}", hint=f"leave `--{way}` out to start one")
        return None
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are no run", hint="give another `--output-dir`")
    earlier, checkpoint = RunManifest.read(folder / RUN_FILE), newest_checkpoint(folder)
    if earlier.status == "running" and checkpoint is None:
        return None
    if not config.goes_on:
        if checkpoint is None or earlier.status == "complete":
            state, way = "a finished run", "add `--extend` and a higher `--max-steps`"
        else:
            state, way = f"an unfinished run, saved at step {checkpoint[1]:,}", "add `--resume`"
        raise ConfigError(f"`{folder}` holds {state}", hint=f"{way}, or give another `--output-dir`")
    return earlier


def _check_place(folder: Path) -> None:
    """Raise ConfigError when no folder can be made here, which would only show once the model is loaded."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise ConfigError(f"`{place}` is a file, not a folder", hint="give another `--output-dir`")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"nothing can be written in `{place}`", hint="give another `--output-dir`")


def complete_checkpoints(run: Path) -> list[tuple[Path, int]]:
    """Return the checkpoints that were written whole, each with its step, oldest first."""
    found = [
        (folder, int(folder.name.removeprefix("checkpoint-")))
        for folder in run.glob("checkpoint-*")
        if (folder / MARKER).exists()
    ]
    return sorted(found, key=lambda each: each[1])


def newest_checkpoint(run: Path) -> tuple[Path, int] | None:
    """Return the newest checkpoint that was written whole, and its step; None when there is none."""
    return next(reversed(complete_checkpoints(run)), None)


def drop_partial_checkpoints(folder: Path) -> None:
    """Delete checkpoints of this run that a kill cut short: transformers would count them among those to keep."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / MARKER).exists():
            shutil.rmtree(checkpoint)


def remember_places(config: TrainConfig) -> None:
    """Note where base and dataset are on this machine; the file stays here."""
    places = {
        name: str(Path(value).resolve()) if Path(value).exists() else value
        for name, value in (("model_name_or_path", config.model_name_or_path), ("dataset", config.dataset))
    }
    write_atomic(config.output_dir / LOCAL_FILE, canonical_json(places))


def remembered_place(folder: Path, name: str) -> str | None:
    """Return where `dataset` or `model_name_or_path` was when the run was made, or None when it is not known."""
    try:
        return json.loads((folder / LOCAL_FILE).read_text(encoding="utf-8")).get(name)
    except FileNotFoundError:
        return None
