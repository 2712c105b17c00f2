"""Build an output folder in a scratch folder, and publish it as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.publication import finish, is_begun, make_target, put_in_place
from hubdpo.artefacts.folders.scratch import (
    LOCK,
    beside,
    empty,
    entries,
    held,
    inside,
    made_in,
    removed,
    sweep,
    told_of_removal,
)
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.errors import ConfigError
from hubdpo.machine.refusals import existing


@dataclass
class Workspace:
    """Folders of a command: `scratch` for files of its tasks, `local` for the driver alone, `new` for the output.

    `publish` moves `new` to the target.
    """

    scratch: str
    local: str
    new: str
    publish: Callable[[], None]


@contextlib.contextmanager
def workspace(target: str, *, last: str = PREPARE_FILE, dry_run: bool = False) -> Iterator[Workspace]:
    """Create empty folders on the disk of `target`, and remove them when the body ends.

    The file `last` marks the target as complete, so it is moved after all others. Raise ConfigError if another process
    writes the target, or if the target is a file.
    """
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="hubdpo-") as place:
            (Path(place) / "new").mkdir()
            yield Workspace(place, place, str(Path(place) / "new"), lambda: None)
    elif storage.is_url(target):
        with _remote_workspace(target) as space:
            yield space
    else:
        with _local_workspace(real_place(target), last) as space:
            yield space


def real_place(target: str) -> Path:
    """Resolve an output folder, which need not exist. Raise ConfigError if the path cannot be a folder."""
    place = Path(os.path.realpath(target))
    hint = "use another `--output-dir`"
    if place.is_symlink():
        raise ConfigError(f"`{target}` is a link that leads to itself", hint=hint)
    if place.exists() and not place.is_dir():
        raise ConfigError(f"`{target}` is a file", hint=hint)
    return place


@contextlib.contextmanager
def _local_workspace(target: Path, last: str) -> Iterator[Workspace]:
    """Work inside an existing target, which may be a mount point, or beside a new one."""
    made = [folder for folder in target.parents if not folder.exists()]
    with made_in(existing(target.parent)):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        sweep(target.parent)
        there = target.is_dir()
        if there and beside(target).is_dir():  # the target has appeared while another process makes it
            with held(beside(target), target):
                shutil.rmtree(beside(target))
        scratch = inside(target) if there else beside(target)
        with held(scratch, target) as is_held:

            def publish() -> None:
                if not is_held():  # the folder may now hold the unfinished work of another process
                    raise removed(target)
                put_in_place(scratch, target, before, last) if there else make_target(scratch, target)

            try:
                finish(target, scratch)
                empty(scratch)
                before = entries(target)
                for name in ("work", "new"):
                    (scratch / name).mkdir()
                with told_of_removal(target, lambda: is_held() and (scratch / "work").is_dir()):
                    yield Workspace(str(scratch / "work"), str(scratch), str(scratch / "new"), publish)
            finally:
                is_another = (scratch / LOCK).exists() and not is_held()
                if not is_begun(scratch) and not is_another:
                    shutil.rmtree(scratch, ignore_errors=True)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: the target is in it
                folder.rmdir()


@contextlib.contextmanager
def _remote_workspace(target: str) -> Iterator[Workspace]:
    """Write to a URL, where nothing can be renamed: files go directly to the target, `prepare.json` last."""
    scratch = f"{target.rstrip('/')}.hubdpo-tmp-{uuid.uuid4().hex[:12]}"
    storage.make_folder(scratch)
    try:
        with tempfile.TemporaryDirectory(prefix="hubdpo-") as local:
            yield Workspace(scratch, local, target, lambda: None)
    finally:
        storage.remove_folder(scratch)
