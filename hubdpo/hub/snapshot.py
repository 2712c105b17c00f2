"""Files of a folder and of a repo behind one face, of which only what is asked for is read."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Protocol

from hubdpo.artefacts.formats.bounded import check_size, read_bytes
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.artefacts.manifests.manifest import LOCAL_ONLY, RUN_FILE
from hubdpo.errors import ArtefactError, HubError, NoSuchRevision
from hubdpo.hub.client import RepoType, api, cache_of, endpoint, never_cached, resolve
from hubdpo.hub.failures import is_offline, no_folder, translate_errors
from hubdpo.hub.reference import RepoRef, parse_unless_folder
from hubdpo.hub.retry import repeat


class Place(Protocol):
    """A folder, or a repo at a commit. `files` are sizes by name, `pin` the revision to ask for, None for a folder."""

    ref: str
    name: str
    pin: str | None
    commit: str | None
    repo_type: RepoType | None
    files: dict[str, int]

    def read(self, name: str) -> bytes: ...
    def shapes(self, name: str) -> dict[str, tuple[int, ...]]: ...
    def open(self, name: str) -> IO[bytes]: ...
    def local(self, name: str) -> Path | None: ...


def find_place(ref: str) -> Place:
    """Return the folder `ref`, or the repo `USER/NAME[@REVISION]`. Raise ConfigError or HubError when it is neither."""
    if Path(ref).is_dir():
        return _Folder(ref)
    return _Repo(ref)


class _Folder:
    def __init__(self, ref: str) -> None:
        self.ref = self.name = ref
        self.pin: str | None = None
        self.commit: str | None = None
        self.repo_type: RepoType | None = None
        self._root = Path(ref)
        found = [path for path in sorted(self._root.rglob("*")) if path.is_file()]
        self.files = {path.relative_to(self._root).as_posix(): path.stat().st_size for path in found}
        if RUN_FILE in self.files:  # what would be published of a run
            self.files = {
                name: size
                for name, size in self.files.items()
                if not name.startswith("checkpoint-") and name not in LOCAL_ONLY
            }

    def read(self, name: str) -> bytes:
        return read_bytes(self._root / name)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        return read_shapes(self._root / name)

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")

    def local(self, name: str) -> Path | None:
        return self._root / name


class _Repo:
    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.name, self.pin = parse_unless_folder(ref)
        with no_folder(ref):
            repo_type, commit = _find(self.name, self.pin)
        try:
            self._take(repo_type, commit)
        except NoSuchRevision:  # a full commit was not asked for, and may be one of the dataset of that name
            if repo_type == "dataset" or not _exists(self.name, "dataset"):
                raise
            self._take("dataset", commit)

    def _take(self, repo_type: RepoType, commit: str) -> None:
        self.repo_type: RepoType | None = repo_type
        self.commit: str | None = commit
        self._named: dict[str, Any] = {"repo_id": self.name, "repo_type": repo_type, "revision": commit}
        self.files = self._list()

    def _list(self) -> dict[str, int]:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        if is_offline():
            try:
                return {item.path: int(item.size) for item in get_cached_repo_tree(**self._named)}
            except CachedRepoTreeNotFoundError:
                never_cached(RepoRef(self.name, self.commit), self.repo_type)
        with translate_errors(self.ref):
            items = repeat(lambda: list(api().list_repo_tree(**self._named, recursive=True)))
        return {item.path: int(item.size) for item in items if hasattr(item, "size")}

    def read(self, name: str) -> bytes:
        check_size(name, self.files.get(name, 0), of=self.ref)
        with translate_errors(self.ref):
            path = Path(repeat(lambda: api().hf_hub_download(**self._named, filename=name)))
        return read_bytes(path, of=self.ref)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        from huggingface_hub.errors import SafetensorsParsingError

        if (here := self._cached(name)) is not None:
            return read_shapes(here)
        with translate_errors(self.ref):
            try:
                found = repeat(lambda: api().parse_safetensors_file_metadata(**self._named, filename=name))
            except SafetensorsParsingError as problem:
                raise ArtefactError(
                    f"`{name}` of {self.ref} is no safetensors file: {str(problem).splitlines()[0]}",
                    hint="tell its owner",
                ) from None
        return {tensor: tuple(facts.shape) for tensor, facts in found.tensors.items()}

    def open(self, name: str) -> IO[bytes]:
        from huggingface_hub import HfFileSystem

        if (here := self._cached(name)) is not None:
            return here.open("rb")
        prefix = "datasets/" if self.repo_type == "dataset" else ""
        with translate_errors(self.ref):
            stream: IO[bytes] = HfFileSystem(endpoint=api().endpoint).open(
                f"{prefix}{self.name}@{self.commit}/{name}", "rb"
            )
        return stream

    def local(self, name: str) -> Path | None:
        return None

    def _cached(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(**self._named, filename=name)
        return Path(found) if isinstance(found, str) else None


def find_type(repo_id: str) -> RepoType:
    """Tell whether a name is a model or a dataset, in offline mode by the cache. Raise HubError when it is neither."""
    kinds: tuple[RepoType, ...] = ("model", "dataset")
    found = next((kind for kind in kinds if _exists(repo_id, kind)), None)
    if found is not None:
        return found
    if is_offline():
        never_cached(RepoRef(repo_id), None)
    raise HubError(f"`{repo_id}` is not on {endpoint()}, or is private", hint="hf auth login, or check the name")


def _exists(repo_id: str, repo_type: RepoType) -> bool:
    if is_offline():
        return cache_of(repo_id, repo_type).is_dir()
    with translate_errors(repo_id):
        return bool(repeat(lambda: api().repo_exists(repo_id, repo_type=repo_type)))


def _find(repo_id: str, revision: str | None) -> tuple[RepoType, str]:
    """Tell what a name is, a model first, and the commit. Raise HubError when it is neither or has no such revision."""
    repo_type = find_type(repo_id)
    try:
        return repo_type, resolve(repo_id, revision, repo_type=repo_type)
    except NoSuchRevision:
        # a name may be a model and a dataset; the revision then tells which is meant
        if repo_type == "dataset" or not _exists(repo_id, "dataset"):
            raise
        return "dataset", resolve(repo_id, revision, repo_type="dataset")
