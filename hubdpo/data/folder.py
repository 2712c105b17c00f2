"""Put a dataset folder in place so that it is absent or complete at every moment, and never lose another's files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hubdpo.data import storage
from hubdpo.data.prepared import read_dataset_folder
from hubdpo.errors import ArtefactError
from hubdpo.manifest import LOCAL_ONLY, PREPARE_FILE, PrepareManifest

UNFINISHED = ".hubdpo-unfinished"


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


@dataclass
class Workspace:
    """`scratch` is for the tasks' own files, `local` for what stays with the one who shares them out, `new` for the
    files of the dataset; `publish` makes `new` the target."""

    scratch: str
    local: str
    new: str
    publish: Callable[[], None]


@contextlib.contextmanager
def workspace(target: str, *, dry_run: bool = False) -> Iterator[Workspace]:
    """Give two empty folders beside `target`; what is not published when the body ends leaves no trace."""
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="hubdpo-") as place:
            (Path(place) / "new").mkdir()
            yield Workspace(place, place, str(Path(place) / "new"), lambda: None)
    elif storage.is_url(target):
        with _remote_workspace(target) as space:
            yield space
    else:
        with _local_workspace(Path(target)) as space:
            yield space


@contextlib.contextmanager
def _local_workspace(target: Path) -> Iterator[Workspace]:
    parent = target.absolute().parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    scratch = Path(tempfile.mkdtemp(dir=parent, prefix=f"{_prefix(target)}{os.getpid()}-"))
    published = False

    def publish() -> None:
        nonlocal published
        _sync(scratch / "new")
        if target.exists():
            target.rename(scratch / "old")
        (scratch / "new").rename(target)
        _sync_entry(parent)
        published = True

    try:
        for name in ("work", "new"):
            (scratch / name).mkdir()
        yield Workspace(str(scratch / "work"), str(scratch), str(scratch / "new"), publish)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not published:
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


@contextlib.contextmanager
def _remote_workspace(target: str) -> Iterator[Workspace]:
    """Work behind a URL, where nothing can be renamed: files go to their place, and `prepare.json` goes last."""
    scratch = f"{target.rstrip('/')}.hubdpo-tmp-{uuid.uuid4().hex[:12]}"
    storage.make_folder(scratch)
    try:
        with tempfile.TemporaryDirectory(prefix="hubdpo-") as local:
            yield Workspace(scratch, local, target, lambda: None)
    finally:
        storage.remove_folder(scratch)


def remote_up_to_date(target: str, fingerprint: str, *, overwrite: bool) -> PrepareManifest | None:
    """Do behind a URL what `up_to_date` does, and empty the folder when it is to be written anew.

    Only a folder that holds the manifest of an earlier run, or the mark of one that did not end, is emptied.
    """
    system, path = storage.filesystem(target)
    manifest, mark = storage.join(path, PREPARE_FILE), storage.join(path, UNFINISHED)
    if system.exists(manifest):
        found = PrepareManifest.model_validate_json(system.cat_file(manifest))
        if found.fingerprint == fingerprint and not overwrite:
            return found
    elif system.exists(path) and system.ls(path) and not system.exists(mark):
        raise ArtefactError(f"`{target}` holds files that are no dataset folder", hint="give another `--output-dir`")
    storage.remove_folder(target)
    storage.make_folder(target)
    system.pipe_file(mark, b"")
    return None


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
