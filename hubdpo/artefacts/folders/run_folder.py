"""Lock a run folder, remember where its base and dataset are on this machine, and write the command that resumes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import JsonObject, read_object
from hubdpo.artefacts.manifests.manifest import LOCAL_FILE, RUN_FILE, canonical_json, write_atomic
from hubdpo.artefacts.manifests.run import FROM_ADAPTER, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.chat_template import to_type
from hubdpo.config.flags import Options, flags, quoted
from hubdpo.errors import ConfigError

LOOK = 0.05
"""Seconds after which nobody just looks at the lock any more."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a run folder during the body; the lock ends with this process, however it ends.

    The folder is created, and removed again if the body fails and leaves it empty. Raise ConfigError if another process
    holds the lock.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        try:
            yield
        except BaseException:
            for path in missing:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
            raise
    finally:
        os.close(handle)


def is_worked_in(folder: Path) -> bool:
    """Tell whether a process holds the lock of a run folder. False where the disk has no locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _lock(handle: int, folder: Path) -> None:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # `is_worked_in` holds it for a moment
            time.sleep(LOOK)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # a process that failed without writing anything may just have removed the folder
        is_there = folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())
    except BlockingIOError:
        is_there = False
    except OSError as problem:  # some network disks have no locks
        console.warn(f"`{folder}` cannot be locked ({problem.strerror}); do not start another process on it")
        return
    if not is_there:
        raise ConfigError(f"another process works in `{folder}`", hint="wait until it ends, or use another folder")


def remember_places(config: TrainConfig) -> None:
    """Write the local paths of base, adapter, dataset and chat template to a file that is never published."""
    names = ("model_name_or_path", "adapter", "dataset", "chat_template")
    write_places(config.output_dir, {name: value for name in names if (value := getattr(config, name)) is not None})


def write_places(folder: Path, places: Mapping[str, str]) -> None:
    """Write places by name, those on this machine as absolute paths, to a file that is never published."""
    paths = {name: str(Path(value).resolve()) if Path(value).exists() else value for name, value in places.items()}
    write_atomic(folder / LOCAL_FILE, canonical_json(paths))


def remembered_folder(folder: Path, name: str) -> Path | None:
    """Return the folder on this machine that was the `dataset`, `adapter` or `model_name_or_path` of a run.

    None if it was a repo on the Hub, or if the folder is gone.
    """
    path = _places(folder).get(name)
    return Path(path) if isinstance(path, str) and Path(path).is_absolute() and Path(path).is_dir() else None


def _places(folder: Path) -> JsonObject:
    try:
        return read_object(folder / LOCAL_FILE)
    except FileNotFoundError:
        return {}


def train_again(folder: Path, run: RunManifest | None = None, *, extend_to: Options | None = None) -> str:
    """Return the command that resumes the run of a folder, or adopts its adapter again, as they were recorded.

    With `extend_to`, the command that trains it up to these epochs or steps.
    """
    run = run or RunManifest.read(folder / RUN_FILE)
    places = {"model_name_or_path": run.base.repo_id or run.base.name}
    places |= {"dataset": run.dataset.place} if run.dataset is not None else {}
    if (source := run.adopted.source if run.adopted is not None else run.started_from) is not None:
        places["adapter"] = source.place
    places |= _places(folder)
    if run.adopted is not None:
        return _adopt_again(folder, run, places)
    options = {**places, "model_revision": run.base.revision, "output_dir": folder, **run.options}
    if options.get("chat_template"):
        options["chat_template"] = places.get("chat_template") or to_type(options["chat_template"])
    if extend_to is not None:
        return _resuming({**options, **extend_to}).removesuffix("--resume") + "--extend"
    return _resuming(options)


def _adopt_again(folder: Path, run: RunManifest, places: Mapping[str, str]) -> str:
    base = places["model_name_or_path"]
    at = f"@{run.base.revision}" if run.base.revision and base == run.base.repo_id else ""
    data = f" --dataset {quoted(places['dataset'])}" if "dataset" in places else ""
    return f"hubdpo adopt {quoted(places['adapter'])} --base {quoted(base + at)}{data} --output-dir {quoted(folder)}"


def resume_command(config: TrainConfig) -> str:
    """Return the command that resumes the run with these options."""
    settled = FROM_ADAPTER if config.adapter is not None else ()
    return _resuming(config.model_dump(mode="json", exclude={"resume", "extend", "dry_run", *settled}))


def _resuming(options: Options) -> str:
    return " ".join(["hubdpo train", *flags(options, TrainConfig), "--resume"])
