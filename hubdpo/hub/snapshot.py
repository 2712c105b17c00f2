"""A set of files in a fixed state: a folder, a repo on the Hub at one commit, or a release that is about to be pushed.

Whatever compares, inspects, publishes, verifies or loads files takes a Snapshot, and does not ask where they are. The
names and sizes are known; content, hashes and manifests are read when they are first used.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import IO, TypeVar

from hubdpo import console
from hubdpo.artefacts.folders.walk import files_below
from hubdpo.artefacts.formats.bounded import read_bytes
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.artefacts.manifests.bundle import Bundle
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import (
    BUNDLE_FILE,
    EVAL_FILE,
    EVALUATION_FOLDER,
    LOCAL_ONLY,
    MERGE_FILE,
    PREPARE_FILE,
    RUN_FILE,
    FileEntry,
    Manifest,
    sha256_file,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import AdapterRef, RunManifest
from hubdpo.errors import ArtefactError
from hubdpo.hub.reference import RepoType
from hubdpo.hub.versions import parse_tag

M = TypeVar("M", bound=Manifest)
Shapes = dict[str, tuple[int, ...]]
SHA256_DIGITS = 64
UNPUBLISHED = ("checkpoint-", f"{EVALUATION_FOLDER}/")
"""Beginnings of the names of files in a run folder that no release takes, beside those of LOCAL_ONLY."""


class Snapshot(ABC):
    """Files in a fixed state.

    `ref` is what the user typed and `name` the folder or repo id in messages. A folder has no `repo_type`, `revision`
    or `commit`, unless it is a downloaded commit. A release before it is pushed is read as a whole, and has no places.
    """

    ref: str
    name: str
    repo_type: RepoType | None = None
    revision: str | None = None
    commit: str | None = None

    @property
    @abstractmethod
    def files(self) -> dict[str, int]:
        """Sizes in bytes by name: the path below the top, with `/` between the parts."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a small file. Raise ArtefactError for a file beyond its size limit."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file of any size; of a remote file, only the parts that are read are downloaded."""
        raise NotImplementedError

    def fetch(self, names: list[str] | None = None, *, needed: list[str] | None = None) -> Path:
        """Return a folder that has the files of these names, or all of them; glob patterns are allowed.

        Without the Hub, cached files are enough where each of the patterns `needed` has one.
        """
        raise NotImplementedError

    def shapes(self, name: str) -> Shapes:
        """Return the shape of each tensor of a safetensors file. Raise ArtefactError for any other file."""
        raise NotImplementedError

    def path(self, name: str) -> Path | None:
        """Return the local path of a file, or None for a file on the Hub."""
        raise NotImplementedError

    @abstractmethod
    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file (64 hex digits), or what a repo has in its place: a git blob id (40 digits)."""

    def as_adapter(self, sha256: str) -> AdapterRef:
        """Return the reference to an adapter in these files whose weights have this hash, as manifests record it."""
        if self.commit is None:
            return AdapterRef(name=Path(self.name).resolve().name, sha256=sha256)
        version = self.revision if parse_tag(self.revision or "") else None
        return AdapterRef(name=self.name, repo_id=self.name, revision=self.commit, version=version, sha256=sha256)

    def text(self, name: str) -> str:
        """Return the content of a small text file, with invalid UTF-8 replaced."""
        return self.read(name).decode("utf-8", "replace")

    def manifest(self, name: str, model: type[M]) -> M | None:
        """Return a parsed manifest, or None when there is no such file. Raise ArtefactError for an invalid one."""
        return model.parse(self.read(name), name) if name in self.files else None

    @cached_property
    def bundle(self) -> Bundle | None:
        """The list of files of a release. None, with a warning where it is invalid, for anything but a release."""
        try:
            return self.manifest(BUNDLE_FILE, Bundle)
        except ArtefactError as problem:
            where = f"{self.name}@{self.commit[:12]}" if self.commit else self.name
            console.warn(f"{where} does not count as a release: {problem.message}")
            return None

    @cached_property
    def prepare(self) -> PrepareManifest | None:
        """How a dataset was prepared. None, with a warning where it is invalid, as for the manifests below."""
        return self._readable(PREPARE_FILE, PrepareManifest)

    @cached_property
    def run(self) -> RunManifest | None:
        return self._readable(RUN_FILE, RunManifest)

    @cached_property
    def evaluation(self) -> EvalReport | None:
        return self._readable(EVAL_FILE, EvalReport)

    @cached_property
    def merge(self) -> MergeManifest | None:
        return self._readable(MERGE_FILE, MergeManifest)

    def _readable(self, name: str, model: type[M]) -> M | None:
        try:
            return self.manifest(name, model)
        except ArtefactError as problem:
            console.warn(f"{self.ref}: {problem.message}; its contents are left out")
            return None


class FolderSnapshot(Snapshot):
    """The files of a folder. Of a run folder, unless `all_files`, those that a release may take."""

    def __init__(
        self, folder: Path | str, *, name: str | None = None, commit: str | None = None, all_files: bool = False
    ) -> None:
        self.ref = str(folder)
        self.name, self.commit, self._all_files = name or self.ref, commit, all_files
        self.folder = Path(folder)
        self._sha256: dict[str, str] = {}

    @cached_property
    def files(self) -> dict[str, int]:
        paths = {path.relative_to(self.folder).as_posix(): path for path in files_below(self.folder) if path.is_file()}
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        if RUN_FILE not in sizes or self._all_files:
            return sizes
        return {n: size for n, size in sizes.items() if not n.startswith(UNPUBLISHED) and n not in LOCAL_ONLY}

    def read(self, name: str) -> bytes:
        return read_bytes(self.folder / name)

    def open(self, name: str) -> IO[bytes]:
        return (self.folder / name).open("rb")

    def fetch(self, names: list[str] | None = None, *, needed: list[str] | None = None) -> Path:
        return self.folder

    def shapes(self, name: str) -> Shapes:
        return read_shapes(self.folder / name)

    def path(self, name: str) -> Path | None:
        return self.folder / name

    def digest(self, name: str) -> str:
        if name not in self._sha256:
            self._sha256[name] = sha256_file(self.folder / name)
        return self._sha256[name]

    def entries(self, names: list[str]) -> dict[str, FileEntry]:
        """Return the size and SHA-256 of files, as a manifest lists them."""
        return {name: FileEntry(sha256=self.digest(name), size=self.files[name]) for name in names}


def git_blob_id(data: bytes) -> str:
    """Return the id that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
