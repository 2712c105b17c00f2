"""Put a dataset folder in place so that it is absent or complete at every moment, and never lose another's files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hubdpo.errors import ArtefactError
from hubdpo.manifest import LOCAL_ONLY, PREPARE_FILE, PrepareManifest, read_dataset_folder


def up_to_date(folder: Path, fingerprint: str, *, overwrite: bool) -> PrepareManifest | None:
    """Return the manifest when the folder already is what would be written, None when it may be written.

    Raise ArtefactError when it holds anything that prepare did not write or that was edited, unless `overwrite`.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if overwrite and (folder / PREPARE_FILE).exists():
        return None
    hint = "give another `--output-dir`"
    if not folder.is_dir():
        raise ArtefactError(f"`{folder}` is a file", hint=hint)
    if not (folder / PREPARE_FILE).exists():
        raise ArtefactError(f"`{folder}` holds files that are no dataset folder", hint=hint)
    try:
        manifest = read_dataset_folder(folder)
    except ArtefactError as problem:
        raise ArtefactError(
            problem.message, hint="add `--overwrite` to lose the edits, or give another `--output-dir`"
        ) from None
    known = {*manifest.files, PREPARE_FILE, *LOCAL_ONLY}
    foreign = [
        path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in known
    ]
    if foreign:
        raise ArtefactError(
            f"`{foreign[0]}` was not written by prepare", hint="move it away, or add `--overwrite` to lose it"
        )
    return manifest if manifest.fingerprint == fingerprint else None


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target`, and move it there when the body ends well; else leave no trace."""
    parent = target.absolute().parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    scratch = Path(tempfile.mkdtemp(dir=parent, prefix=f"{_prefix(target)}{os.getpid()}-"))
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        _sync(new)
        if target.exists():
            target.rename(scratch / "old")
        new.rename(target)
        _sync_entry(parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.hubdpo-tmp-"


def _sweep(target: Path) -> None:
    """Remove what a killed prepare of the same folder left, unless its process still runs."""
    prefix = _prefix(target)
    for left in target.absolute().parent.glob(f"{prefix}*"):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if not (owner.isdigit() and _is_running(int(owner))):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _sync_entry(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
