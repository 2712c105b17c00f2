"""The checkpoints of a run: which of them are complete. Imports no torch.

transformers writes a checkpoint in place, and skips missing files when it reads one: a run that resumes without its
optimizer state ends with another adapter, and nobody is told. So hubdpo adds a marker, written last, that lists every
file with its size and hash.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.file_entries import FileEntry, file_entry, sha256_file
from hubdpo.artefacts.manifests.manifest import canonical_json, write_atomic
from hubdpo.errors import ArtefactError

MARKER = "hubdpo-complete.json"
"""File of a complete checkpoint: its step, and the size and hash of every other file."""
FILES_OF_0_2 = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
"""Files of every checkpoint. The markers of hubdpo 0.2.0 list no files."""


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


def newest_checkpoint(run: Path) -> Checkpoint | None:
    """Return the newest complete checkpoint, None when there is none."""
    # newest first, and no further: an older one may just be deleted by the process that trains
    return next((checkpoint for checkpoint in reversed(_marked(run)) if damage_of(checkpoint.folder) is None), None)


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


def set_damaged_aside(run: Path) -> None:
    """Remove the markers of damaged checkpoints that are newer than the newest complete one, with a warning for each.

    Raise ArtefactError when every checkpoint is damaged.
    """
    damaged: list[tuple[Path, str]] = []
    for folder, _ in reversed(_marked(run)):
        damage = damage_of(folder, hashes=True)
        if damage is None:
            for other, reason in damaged:
                console.warn(f"`{other}` is damaged ({reason}) and is ignored; `{folder.name}` before it is complete")
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
