"""The output folder before and after a run: whether a run may start there, and which checkpoints are complete.

transformers writes a checkpoint in place, and skips missing files when it reads one: a run that resumes without its
optimizer state ends with another adapter, and nobody is told. So hubdpo adds a marker, written last, that lists every
file with its size and hash. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.folders.kinds import damage_of_results
from hubdpo.artefacts.folders.run_folder import resume_command
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.manifest import (
    LOCAL_FILE,
    METRICS_FILE,
    RUN_FILE,
    FileEntry,
    canonical_json,
    file_entry,
    sha256_file,
    write_atomic,
)
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.flags import quoted
from hubdpo.errors import ArtefactError, ConfigError, Stopped
from hubdpo.machine.endings import LAUNCHED
from hubdpo.machine.refusals import existing
from hubdpo.training.run.same import LENGTH, options_that_differ

SCRATCH = ".adapter-"
START_AGAIN = "the same command starts a new run"
MARKER = "hubdpo-complete.json"
"""File of a complete checkpoint: its step, and the size and hash of every other file."""
FILES_OF_0_2 = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
"""Files of every checkpoint. The markers of hubdpo 0.2.0 list no files."""


def check_output_folder(config: TrainConfig) -> RunManifest | None:
    """Return the manifest of the run to resume, None when a new run may start.

    A run that has saved no checkpoint is started again, and a finished one whose results are damaged is not finished.
    Raise ArtefactError when no checkpoint is left to write these from, ConfigError when a run is there and `--resume`
    is not given, when there is no run to resume, or when the folder holds other files.
    """
    folder = config.output_dir
    _check_writable(folder)
    if not folder.exists() or all(_is_scratch(path) for path in folder.iterdir()):
        if config.resumes and not config.dry_run:
            option = "extend" if config.extend else "resume"
            raise ConfigError(f"there is no run in `{folder}` to {option}", hint=f"leave `--{option}` out")
        return None
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are not a run", hint="give another `--output-dir`")
    earlier, checkpoint = RunManifest.read(folder / RUN_FILE), newest_checkpoint(folder)
    if earlier.adopted is not None:
        raise ConfigError(
            f"`{folder}` holds an adopted adapter, which another tool trained; `--adapter` trains it further",
            hint=f"--adapter {quoted(folder)}; give another `--output-dir`",
        )
    if earlier.status == "running" and not any(folder.glob(f"checkpoint-*/{MARKER}")):
        return None
    damage = damage_of_results(folder, earlier) if earlier.status == "complete" else None
    if damage is not None and checkpoint is None and config.resumes:
        raise ArtefactError(
            f"`{folder}` holds a finished run, but {damage}, and no checkpoint is left to write it from",
            hint="restore the file, or give another `--output-dir`",
        )
    if config.resumes:
        return earlier if damage is None else earlier.model_copy(update={"status": "running"})
    if damage is not None:
        option = "add `--resume`" if checkpoint else "restore the file"
        state = f"a finished run, but {damage}" + ("; it can be written again" if checkpoint else "")
    elif earlier.status == "running" and checkpoint is None:
        state, option = "an unfinished run whose checkpoints are damaged", "add `--resume`"
    else:
        is_finished = checkpoint is None or earlier.status == "complete"
        state = (
            "a finished run"
            if checkpoint is None or is_finished
            else f"an unfinished run, saved at step {checkpoint.step:,}"
        )
        option = _way_on(earlier, config, is_finished=is_finished)
        if not option:
            other = ", ".join(options_that_differ(earlier, config))
            raise ConfigError(
                f"`{folder}` holds {state}, of another configuration: {other}", hint="give another `--output-dir`"
            )
    raise ConfigError(f"`{folder}` holds {state}", hint=f"{option}, or give another `--output-dir`")


def _way_on(earlier: RunManifest, config: TrainConfig, *, is_finished: bool) -> str:
    """Return the options that go on with a run that is there, none where its own are others than these."""
    other = {*options_that_differ(earlier, config)}
    if other - LENGTH:
        return ""
    if config.max_steps > (earlier.planned_steps or earlier.steps or 0):
        return "add `--extend`"
    if is_finished:
        return f"add `--extend --max-steps {2 * (earlier.steps or 1)}`"
    return "" if other else "add `--resume`"


def _check_writable(folder: Path) -> None:
    """Raise ConfigError when the folder cannot be made or written to, before the model is loaded."""
    place = existing(folder)
    if not place.is_dir():
        raise ConfigError(f"`{place}` is a file, not a folder", hint="give another `--output-dir`")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"this user cannot write in `{place}`", hint="give another `--output-dir`")


def delete_partial_files(folder: Path) -> None:
    """Delete the checkpoints and scratch files that a kill or a full disk cut short; transformers would count them.

    That includes a checkpoint that was being deleted: by its time it now looks newer than those that are complete.
    """
    for path in folder.iterdir():
        if path.name.startswith("checkpoint-") and (not (path / MARKER).exists() or damage_of(path) is not None):
            shutil.rmtree(path)
        elif _is_scratch(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_scratch(path: Path) -> bool:
    """Tell whether hubdpo wrote this file or folder under a temporary name, to rename it when it was complete."""
    return path.name.startswith((f".{RUN_FILE}.", f".{METRICS_FILE}.", f".{LOCAL_FILE}.", SCRATCH))


def saved_state(config: TrainConfig) -> tuple[str, str]:
    """Return what a stopped run has saved, as words that end a message, and the hint that resumes it."""
    checkpoint = newest_checkpoint(config.output_dir)
    if checkpoint is None:
        return f"nothing was saved yet (the first checkpoint is at step {config.save_steps})", START_AGAIN
    return f"`{checkpoint.folder}` is kept", resume_command(config) + (" --extend" if config.extend else "")


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


class Checkpoint(NamedTuple):
    """A checkpoint folder, and the optimiser step that it was saved at."""

    folder: Path
    step: int


def mark_complete(folder: Path, step: int) -> None:
    """Write the marker of a checkpoint. Its files are flushed to the disk first, so that no marker outlives them."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = file_entry(path).model_dump()
    write_atomic(folder / MARKER, canonical_json({"step": step, "files": files}))


def complete_checkpoints(run: Path) -> list[Checkpoint]:
    """Return the checkpoints that have a marker and all files in the listed sizes, oldest first."""
    return [checkpoint for checkpoint in _marked(run) if damage_of(checkpoint.folder) is None]


def newest_checkpoint(run: Path, *, hashes: bool = False) -> Checkpoint | None:
    """Return the newest complete checkpoint, None when there is none. With `hashes`, read every file."""
    # newest first, and no further: an older one may just be deleted by the process that trains
    return next((each for each in reversed(_marked(run)) if damage_of(each.folder, hashes=hashes) is None), None)


def damage_of(folder: Path, *, hashes: bool = False) -> str | None:
    """Say what is wrong with a marked checkpoint, None when nothing is. With `hashes`, read every file."""
    try:
        listed = read_object(folder / MARKER).get("files", dict.fromkeys(FILES_OF_0_2))
        files = {name: entry and FileEntry.model_validate(entry) for name, entry in dict(listed).items()}
    except (ArtefactError, TypeError, ValueError):
        return f"`{MARKER}` cannot be read"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"`{name}` is missing"
        size = path.stat().st_size
        if not size and (entry is None or entry.size):
            return f"`{name}` is empty"
        if entry is not None and size != entry.size:
            return f"`{name}` has {size:,} of {entry.size:,} bytes"
        if hashes and entry is not None and sha256_file(path) != entry.sha256:
            return f"`{name}` was changed after it was written"
    return None


def set_damaged_aside(run: Path, *, dry_run: bool = False) -> None:
    """Remove the markers of damaged checkpoints that are newer than the newest complete one, with a warning for each.

    A dry run warns alone. Raise ArtefactError when every checkpoint is damaged.
    """
    damaged: list[tuple[Path, str]] = []
    for folder, _ in reversed(_marked(run)):
        if (damage := damage_of(folder, hashes=True)) is None:
            for other, reason in damaged:
                console.warn(f"`{other}` is damaged ({reason}) and is ignored; `{folder.name}` before it is complete")
                if not dry_run:
                    (other / MARKER).unlink()
            return
        damaged.append((folder, damage))
    if damaged:
        folder, damage = damaged[0]
        earlier = "there is none before it" if len(damaged) == 1 else "those before it are damaged too"
        raise ArtefactError(
            f"`{folder}` is damaged ({damage}), and {earlier}",
            hint="restore the file, or give another `--output-dir` to start a new run",
        )


def _marked(run: Path) -> list[Checkpoint]:
    """Return the checkpoints that have a marker, oldest first."""
    marked = [
        Checkpoint(folder, int(folder.name.removeprefix("checkpoint-")))
        for folder in run.glob("checkpoint-*")
        if (folder / MARKER).exists()
    ]
    return sorted(marked, key=lambda checkpoint: checkpoint.step)
