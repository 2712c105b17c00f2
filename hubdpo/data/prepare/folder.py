"""Decide whether an output folder may be written: it is new, up to date, or a dataset folder that nobody edited."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.kinds import read_dataset_folder
from hubdpo.artefacts.folders.scratch import entries
from hubdpo.artefacts.folders.walk import files_below
from hubdpo.artefacts.manifests.manifest import LOCAL_ONLY, PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest, Source
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.errors import ArtefactError, ConfigError

UNFINISHED = ".hubdpo-unfinished"
"""File that marks a folder behind a URL while it is written."""


def may_hold_files(target: str) -> bool:
    """Return whether a local folder holds files; behind a URL that is not known yet."""
    return storage.is_url(target) or bool(entries(Path(target)))


def check_is_ours(target: str) -> None:
    """Raise ConfigError, before any work, if a local folder holds files but no dataset."""
    if not storage.is_url(target) and may_hold_files(target) and not (Path(target) / PREPARE_FILE).exists():
        raise _foreign(target)


def check_is_no_source(target: str, files: Iterable[RawFile]) -> None:
    """Raise ConfigError if a source is in the output folder, whose card and rejected rows would be lost."""
    folder = _place(target)
    for file in files:
        if _place(file.original).startswith(f"{folder}/"):
            raise ConfigError(
                f"`{target}` is both source and output: it holds {file.name}", hint="give another `--output-dir`"
            )


def _place(place: str) -> str:
    """Return the one absolute form of a path or URL, so that two of them can be compared."""
    if storage.is_url(place):
        system, path = storage.filesystem(place)
        if not isinstance(system, LocalFileSystem):
            return str(system.unstrip_protocol(path)).rstrip("/")
        place = path
    return os.path.realpath(place)


def up_to_date(target: str, fingerprint: str, sources: Sequence[Source], *, overwrite: bool) -> PrepareManifest | None:
    """Return the manifest of a folder that is up to date, None for a folder that may be written.

    A dataset that will be replaced by one of these `sources` is named.
    Raise ArtefactError if a file was edited, or was not written by prepare, unless `overwrite`.
    """
    if storage.is_url(target):
        return _remote_up_to_date(target, fingerprint, sources, overwrite=overwrite)
    folder = Path(target)
    if not entries(folder):
        return None
    if overwrite:
        with contextlib.suppress(ArtefactError):
            _report_replaced(target, PrepareManifest.parse((folder / PREPARE_FILE).read_bytes(), PREPARE_FILE), sources)
        return None
    try:
        manifest = read_dataset_folder(folder)
    except ArtefactError as problem:
        raise ArtefactError(
            f"{problem.message}; `--overwrite` loses the edits",
            hint="give another `--output-dir`, or add `--overwrite`",
        ) from None
    known = {*manifest.files, PREPARE_FILE, *LOCAL_ONLY}
    if foreign := [path for path in files_below(folder) if path.relative_to(folder).as_posix() not in known]:
        raise ArtefactError(
            f"`{foreign[0]}` was not written by prepare", hint="move it away, or add `--overwrite` to lose it"
        )
    if manifest.fingerprint == fingerprint:
        return manifest
    _report_replaced(target, manifest, sources)
    return None


def _report_replaced(target: str, old: PrepareManifest, sources: Sequence[Source]) -> None:
    """Name what a folder holds that will be replaced; warn if it was made from others than these sources."""
    names = dict.fromkeys(source.name for source in old.sources)
    pairs = console.counted(sum(old.splits.values()), "pair")
    told = f"`{target}` will be replaced: it holds {pairs} of {console.listed(names)}"
    if names.keys() == {source.name for source in sources}:
        console.info(told)
    else:
        console.warn(f"{told}; another `--output-dir` keeps both")


def _remote_up_to_date(
    target: str, fingerprint: str, sources: Sequence[Source], *, overwrite: bool
) -> PrepareManifest | None:
    """Like `up_to_date`; a folder that may be written is emptied.

    Only a folder with the manifest of an earlier run, or the mark of one that did not end, is emptied.
    """
    system, path = storage.filesystem(target)
    manifest, mark = storage.join(path, PREPARE_FILE), storage.join(path, UNFINISHED)
    if system.exists(manifest):
        found = PrepareManifest.parse(system.cat_file(manifest), manifest)
        if found.fingerprint == fingerprint and not overwrite:
            return found
        _report_replaced(target, found, sources)
    elif system.exists(path) and system.ls(path) and not system.exists(mark):
        raise _foreign(target)
    storage.remove_folder(target)
    storage.make_folder(target)
    system.pipe_file(mark, b"")
    return None


def _foreign(target: str) -> ConfigError:
    return ConfigError(f"`{target}` holds files that are not a dataset", hint="give another `--output-dir`")
