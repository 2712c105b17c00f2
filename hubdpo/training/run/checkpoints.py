"""The checkpoints of a run: which were written whole, and still are. Told without torch.

transformers writes a checkpoint in place and skips what is missing when it reads one: a run that goes on without the
state of its optimizer ends with another adapter, and no word is said. So a marker, written last, lists every file.
"""

from __future__ import annotations

import os
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.file_entries import FileEntry, file_entry, sha256_file
from hubdpo.artefacts.manifests.manifest import canonical_json, write_atomic
from hubdpo.errors import ArtefactError

MARKER = "hubdpo-complete.json"
"""In a checkpoint, once it was written whole: its step, and the size and hash of each file."""
OF_0_2 = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
"""Files of every checkpoint, whose markers listed none in version 0.2.0."""


def mark_complete(folder: Path, step: int) -> None:
    """Write the marker of a checkpoint, once its files are on the disk: a marker may not outlive them."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = file_entry(path).model_dump()
    write_atomic(folder / MARKER, canonical_json({"step": step, "files": files}))


def complete_checkpoints(run: Path) -> list[tuple[Path, int]]:
    """Return the checkpoints that were written whole and whose files have their sizes, each with its step, oldest
    first.
    """
    return [(folder, step) for folder, step in _marked(run) if damage_of(folder) is None]


def newest_checkpoint(run: Path) -> tuple[Path, int] | None:
    """Return the newest of the `complete_checkpoints`, and its step; None when there is none."""
    return next((each for each in reversed(_marked(run)) if damage_of(each[0]) is None), None)


def damage_of(folder: Path, *, hashes: bool = False) -> str | None:
    """Say what is wrong with a checkpoint that has a marker, None when nothing is. With `hashes`, read every file."""
    try:
        listed = read_object(folder / MARKER).get("files", dict.fromkeys(OF_0_2))
        files = {name: None if each is None else FileEntry.model_validate(each) for name, each in dict(listed).items()}
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
            return f"`{name}` is not what was written"
    return None


def set_damaged_aside(run: Path) -> None:
    """Take the markers of damaged checkpoints that are newer than the newest whole one, with a warning for each.

    Raise ArtefactError when every checkpoint is damaged.
    """
    damaged: list[tuple[Path, str]] = []
    for folder, _ in reversed(_marked(run)):
        damage = damage_of(folder, hashes=True)
        if damage is None:
            for other, why in damaged:
                console.warn(f"`{other}` is damaged ({why}) and is left out; `{folder.name}` before it is whole")
                (other / MARKER).unlink()
            return
        damaged.append((folder, damage))
    if damaged:
        folder, damage = damaged[0]
        none_before = "there is none before it" if len(damaged) == 1 else "those before it are damaged too"
        raise ArtefactError(
            f"`{folder}` is damaged ({damage}), and {none_before}",
            hint="put the file back, or give another `--output-dir` to start anew",
        )


def _marked(run: Path) -> list[tuple[Path, int]]:
    found = [
        (folder, int(folder.name.removeprefix("checkpoint-")))
        for folder in run.glob("checkpoint-*")
        if (folder / MARKER).exists()
    ]
    return sorted(found, key=lambda each: each[1])
