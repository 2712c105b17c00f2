"""What stands in an output folder, told without torch: whether a run may start there, what it has saved, its places."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hubdpo.artefacts.manifests.manifest import LOCAL_FILE, METRICS_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.commands import resume_command
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError
from hubdpo.training.run.checkpoints import MARKER, newest_checkpoint

SCRATCH = ".adapter-"
ANEW = "the same command starts anew"


def check_before_start(config: TrainConfig) -> RunManifest | None:
    """Return the run of this folder that is gone on with, or None when the folder is free.

    It is free, too, with a run that has not saved anything yet. Raise ConfigError when a run is there and is not to be
    gone on with, when there is none to go on with, or when the folder holds other files.
    """
    folder = config.output_dir
    _check_place(folder)
    if not folder.exists() or not any(not _is_scratch(path) for path in folder.iterdir()):
        if config.goes_on and not config.dry_run:
            way = "extend" if config.extend else "resume"
            raise ConfigError(f"there is no run in `{folder}` to {way}", hint=f"leave `--{way}` out to start one")
        return None
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are no run", hint="give another `--output-dir`")
    earlier, checkpoint = RunManifest.read(folder / RUN_FILE), newest_checkpoint(folder)
    if earlier.status == "running" and not any(folder.glob(f"checkpoint-*/{MARKER}")):
        return None
    if not config.goes_on:
        if earlier.status == "running" and checkpoint is None:
            state, way = "an unfinished run whose checkpoints are damaged", "add `--resume` to see how"
        elif checkpoint is None or earlier.status == "complete":
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


def drop_partial(folder: Path) -> None:
    """Delete what a kill or a full disk cut short: checkpoints, which transformers would count, and scratch files."""
    for path in folder.iterdir():
        if path.name.startswith("checkpoint-") and not (path / MARKER).exists():
            shutil.rmtree(path)
        elif _is_scratch(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_scratch(path: Path) -> bool:
    """Tell whether this is the start of a file of ours, which was to be renamed once it was whole."""
    return path.name.startswith((f".{RUN_FILE}.", f".{METRICS_FILE}.", f".{LOCAL_FILE}.", SCRATCH))


def what_is_kept(config: TrainConfig) -> tuple[str, str]:
    """Return what a run that stopped has saved, in words, and how to go on."""
    saved = newest_checkpoint(config.output_dir)
    if saved is None:
        return f"nothing was saved yet (the first checkpoint is of step {config.save_steps})", ANEW
    return f"`{saved[0]}` is kept", resume_command(config) + (" --extend" if config.extend else "")


def how_to_go_on(config: TrainConfig) -> str:
    """Return the command that goes on with a run that was stopped, or that there is nothing to go on from."""
    left, way = what_is_kept(config)
    return f"{left}: {way}" if way == ANEW else way
