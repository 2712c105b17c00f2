"""The output folder before and after a run: whether a run may start there, and how a stopped one is resumed.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubdpo.artefacts.manifests.manifest import LOCAL_FILE, METRICS_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.commands import resume_command
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, Stopped
from hubdpo.machine.endings import LAUNCHED
from hubdpo.machine.refusals import existing
from hubdpo.training.run.checkpoints import MARKER, newest_checkpoint

SCRATCH = ".adapter-"
START_AGAIN = "the same command starts a new run"


class Saved(NamedTuple):
    """What a stopped run has saved, as words that end a message, and the command or words for its hint."""

    state: str
    hint: str


def check_output_folder(config: TrainConfig) -> RunManifest | None:
    """Return the manifest of the run to resume, None when a new run may start.

    A run that has saved no checkpoint is started again. Raise ConfigError when a run is there and `--resume` is not
    given, when there is no run to resume, or when the folder holds other files.
    """
    folder = config.output_dir
    _check_writable(folder)
    if not folder.exists() or all(_is_scratch(path) for path in folder.iterdir()):
        if config.resumes and not config.dry_run:
            option = "extend" if config.extend else "resume"
            raise ConfigError(f"there is no run in `{folder}` to {option}", hint=f"leave `--{option}` out to start one")
        return None
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are not a run", hint="give another `--output-dir`")
    earlier, checkpoint = RunManifest.read(folder / RUN_FILE), newest_checkpoint(folder)
    if earlier.status == "running" and not any(folder.glob(f"checkpoint-*/{MARKER}")):
        return None
    if config.resumes:
        return earlier
    if earlier.status == "running" and checkpoint is None:
        state, option = "an unfinished run whose checkpoints are damaged", "add `--resume` to see how"
    elif checkpoint is None or earlier.status == "complete":
        state, option = "a finished run", "add `--extend` and a higher `--max-steps`"
    else:
        state, option = f"an unfinished run, saved at step {checkpoint.step:,}", "add `--resume`"
    raise ConfigError(f"`{folder}` holds {state}", hint=f"{option}, or give another `--output-dir`")


def _check_writable(folder: Path) -> None:
    """Raise ConfigError when the folder cannot be made or written to, before the model is loaded."""
    place = existing(folder)
    if not place.is_dir():
        raise ConfigError(f"`{place}` is a file, not a folder", hint="give another `--output-dir`")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"this user cannot write in `{place}`", hint="give another `--output-dir`")


def delete_partial_files(folder: Path) -> None:
    """Delete the checkpoints and scratch files that a kill or a full disk cut short; transformers would count them."""
    for path in folder.iterdir():
        if path.name.startswith("checkpoint-") and not (path / MARKER).exists():
            shutil.rmtree(path)
        elif _is_scratch(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_scratch(path: Path) -> bool:
    """Tell whether hubdpo wrote this file or folder under a temporary name, to rename it when it was complete."""
    return path.name.startswith((f".{RUN_FILE}.", f".{METRICS_FILE}.", f".{LOCAL_FILE}.", SCRATCH))


def saved_state(config: TrainConfig) -> Saved:
    """Return the newest checkpoint of a stopped run and the command that resumes it, in words."""
    checkpoint = newest_checkpoint(config.output_dir)
    if checkpoint is None:
        return Saved(f"nothing was saved yet (the first checkpoint is at step {config.save_steps})", START_AGAIN)
    return Saved(f"`{checkpoint.folder}` is kept", resume_command(config) + (" --extend" if config.extend else ""))


@contextlib.contextmanager
def stopped_at_ctrl_c(config: TrainConfig) -> Iterator[None]:
    """Raise Stopped, whose hint resumes the run, when Ctrl-C ends the body. In a launched process its launcher does."""
    try:
        yield
    except KeyboardInterrupt:
        if LAUNCHED in os.environ:
            raise
        state, hint = saved_state(config)
        raise Stopped(f"{state}: {hint}" if hint == START_AGAIN else hint) from None
