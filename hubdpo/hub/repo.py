"""A repo on the Hub at one commit, as a Snapshot."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hubdpo.artefacts.formats.bounded import check_size, read_bytes
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.errors import ArtefactError, VerificationFailed
from hubdpo.hub.client import cached_tree, download, errors_of_repo, fetch, is_cache_only, not_cached
from hubdpo.hub.failures import first_line
from hubdpo.hub.reference import RepoRef, RepoType, hub_path
from hubdpo.hub.retry import TRIES, repeat, wait_before
from hubdpo.hub.snapshot import Shapes, Snapshot, git_blob_id
from hubdpo.hub.transport import api, download_bars, endpoint
from hubdpo.machine.refusals import AGAIN

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

LARGEST_GET = 10_000_000
"""Bytes of a file that one GET request fetches; the client splits and resumes larger downloads."""
THREADS = 8


class RepoSnapshot(Snapshot):
    """The files of a repo at a commit.

    A `fresh` snapshot takes nothing from the cache: `read` downloads each file and compares it with the hash in the
    commit's tree, and `fetch_fresh` takes the place of `fetch`.
    """

    def __init__(
        self, repo_id: str, repo_type: RepoType, commit: str, *,
        ref: str | None = None, revision: str | None = None, fresh: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.repo_type, self.commit, self.revision = repo_id, repo_type, str(commit), revision
        self.sha, self.type = commit, repo_type
        self.ref = ref or f"{repo_id}@{commit[:12]}"
        self._at: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type, "revision": self.commit}
        self._fresh = fresh
        self._folder: Path | None = None
        self._content: dict[str, bytes] = {}

    @cached_property
    def _tree(self) -> dict[str, RepoFile]:
        from huggingface_hub import RepoFile

        entries = None if self._fresh else cached_tree(self.name, self.sha, self.type)
        if entries is None:
            self._require_hub()
            with self._requests():
                entries = repeat(lambda: list(api().list_repo_tree(**self._at, recursive=True)))
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def _requests(self) -> AbstractContextManager[None]:
        return errors_of_repo(self.ref, self.name, self.type)

    def _require_hub(self) -> None:
        if is_cache_only(self.sha):
            not_cached(RepoRef(self.name, self.commit), self.repo_type)

    @cached_property
    def files(self) -> dict[str, int]:
        return {name: int(entry.size) for name, entry in self._tree.items()}

    def digest(self, name: str) -> str:
        entry = self._tree[name]
        return str(entry.lfs.sha256 if entry.lfs else entry.blob_id)

    def read(self, name: str) -> bytes:
        check_size(name, self.files.get(name, 0), of=self.ref)
        if not self._fresh:
            path = self._cached(name)
            if path is None:
                with self._requests():
                    path = Path(
                        repeat(lambda: api().hf_hub_download(**self._at, filename=name, tqdm_class=download_bars()))
                    )
            return read_bytes(path, of=self.ref)
        if self._folder is not None and (self._folder / name).is_file():
            return read_bytes(self._folder / name, of=self.ref)
        if name not in self._content:
            self._content[name] = self._downloaded(name)
        return self._content[name]

    def _downloaded(self, name: str) -> bytes:
        """Download a small file. Raise VerificationFailed when it never arrives as the tree of the commit lists it."""
        for attempt in range(TRIES):
            data = repeat(lambda: self._get(name))
            if self.digest(name) in (git_blob_id(data), hashlib.sha256(data).hexdigest()):
                return data
            wait_before(attempt)
        raise VerificationFailed(
            f"`{name}` of {self.ref} arrives damaged, {TRIES} times of {TRIES}",
            hint=f"{AGAIN}; where it fails again, the Hub or a proxy stores it damaged",
        )

    def _get(self, name: str) -> bytes:
        """Return the body of one GET request. `hf_hub_download` would send a HEAD request first."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        client = api()
        url = hf_hub_url(self.name, name, repo_type=self.repo_type, revision=self.commit, endpoint=client.endpoint)
        response = get_session().get(url, headers=build_hf_headers(library_name=client.library_name))
        hf_raise_for_status(response)
        return bytes(response.content)

    def fetch(self, names: list[str] | None = None, *, needed: list[str] | None = None) -> Path:
        return download(self.name, self.sha, repo_type=self.type, allow_patterns=names, needed=needed)

    def fetch_fresh(self, names: Iterable[str], into: Path) -> None:
        """Download files, as far as the commit has them, into an empty folder; `read` takes them from there.

        Those of more than LARGEST_GET bytes are not compared with any hash, which is left to the caller.
        """
        wanted = [name for name in names if name in self.files]
        large = {name for name in wanted if self.files[name] > LARGEST_GET}
        patterns = [glob.escape(name) for name in large]

        def save(name: str) -> None:
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._downloaded(name))

        with self._requests(), ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(save, (name for name in wanted if name not in large)))
            if large:
                repeat(lambda: fetch(self.name, self.sha, repo_type=self.type, allow_patterns=patterns, local_dir=into))
        self._folder = into

    def path(self, name: str) -> Path | None:
        return None

    def open(self, name: str) -> IO[bytes]:
        from huggingface_hub import HfFileSystem

        if (cached := self._cached(name)) is not None:
            return cached.open("rb")
        with self._requests():
            path = f"{hub_path(self.name, self.repo_type)}@{self.commit}/{name}"
            stream: IO[bytes] = HfFileSystem(endpoint=endpoint()).open(path)
        return stream

    def shapes(self, name: str) -> Shapes:
        from huggingface_hub.errors import SafetensorsParsingError

        if (cached := self._cached(name)) is not None:
            return read_shapes(cached)
        with self._requests():
            try:
                metadata = repeat(lambda: api().parse_safetensors_file_metadata(**self._at, filename=name))
            except SafetensorsParsingError as problem:
                raise ArtefactError(
                    f"`{name}` of {self.ref} is no safetensors file: {first_line(problem)}",
                    hint="tell its owner",
                ) from None
        return {tensor: tuple(facts.shape) for tensor, facts in metadata.tensors.items()}

    def _cached(self, name: str) -> Path | None:
        """Return the cached file, None where the Hub must be asked. Raise NoSuchRevision where it cannot be."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(**self._at, filename=name)
        if not isinstance(path, str):
            self._require_hub()
            return None
        return Path(path)
