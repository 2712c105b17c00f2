"""TODO."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.manifest import LOCAL_FILE, canonical_json, write_atomic
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder meanwhile; the lock ends with this process, however it ends.

    The folder is made, and taken away again when the body fails and leaves it empty. Raise ConfigError when another
    process works there.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        with nothing_left_of(missing):
            yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # who ended without having written anything may just have taken the folder away
        is_there = folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())
    except BlockingIOError:
        is_there = False
    except OSError as problem:  # some network disks have no locks
        console.warn(f"`{folder}` cannot be locked ({problem.strerror}): start no other process on it")
        return
    if not is_there:
        raise ConfigError(f"another process works in `{folder}`", hint="wait until it ends, or take another folder")


@contextlib.contextmanager
def nothing_left_of(missing: list[Path]) -> Iterator[None]:
    """Take away again, when the body fails, those of the folders that were missing before it and are empty now."""
    try:
        yield
    except BaseException:
        for place in missing:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        raise


def remember_places(config: TrainConfig) -> None:
    """Note where base and dataset are on this machine; the file stays here."""
    places = {
        name: str(Path(value).resolve()) if Path(value).exists() else value
        for name, value in (("model_name_or_path", config.model_name_or_path), ("dataset", config.dataset))
    }
    write_atomic(config.output_dir / LOCAL_FILE, canonical_json(places))


def remembered_folder(folder: Path, name: str) -> Path | None:
    """Return the folder on this machine that was the `dataset` or `model_name_or_path` of a run.

    None when it was a repo on the Hub, or when the folder is gone.
    """
    try:
        path = read_object(folder / LOCAL_FILE).get(name)
    except FileNotFoundError:
        return None
    return Path(path) if isinstance(path, str) and Path(path).is_absolute() and Path(path).is_dir() else None
