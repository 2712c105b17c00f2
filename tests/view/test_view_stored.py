"""Files of a Hub read in its process: as other snapshots read them, and only what the repo may have."""

from __future__ import annotations

import gc
import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd
from safetensors.numpy import save

from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import git_blob_id
from hubdpo.loopback import gitio, limits
from hubdpo.loopback.http.wire import Refusal, User
from hubdpo.loopback.reading import Stored
from hubdpo.loopback.storage.store import Store
from hubdpo.view.hub import hosted
from hubdpo.view.hub.hosted import Shelf, StoredSnapshot
from tests.view.hosting import Served, served

FILES = {
    "README.md": b"---\nlicense: mit\n---\n# Card\n", "a/b.txt": b"text\n",
    "w.safetensors": save({"w": np.zeros((2, 3))}), "large.bin": bytes(range(256)) * 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for made in served(tmp_path_factory.mktemp("hub") / "hub"):
        made.api.create_repo("carol/x")
        adds = [CommitOperationAdd(name, data) for name, data in FILES.items()]
        made.api.create_commit("carol/x", adds, commit_message="Add files")
        yield made


@pytest.fixture
def snapshot(hub: Served) -> StoredSnapshot:
    return opened(hub)


def opened(hub: Served) -> StoredSnapshot:
    reading = hub.server._routes._reading
    repo = hub.server._store.repo("model", "carol/x")
    assert repo
    return StoredSnapshot(reading, repo, reading.commit(repo, "main"))


def test_names_sizes_contents_and_hashes_are_those_of_the_files(snapshot: StoredSnapshot) -> None:
    assert {name: snapshot.files[name] for name in FILES} == {name: len(data) for name, data in FILES.items()}
    assert all(snapshot.read(name) == data for name, data in FILES.items())
    assert snapshot.digest("a/b.txt") == git_blob_id(FILES["a/b.txt"])
    assert snapshot.digest("large.bin") == hashlib.sha256(FILES["large.bin"]).hexdigest()
    assert snapshot.shapes("w.safetensors") == {"w": (2, 3)}
    with pytest.raises(ArtefactError, match="not a safetensors file"):
        snapshot.shapes("a/b.txt")


def test_copies_of_files_are_made_once_and_go_with_the_snapshot(hub: Served) -> None:
    snapshot = opened(hub)
    folder = snapshot.fetch(["a/*", "large.bin"])
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "a/b.txt",
        "large.bin",
    ]
    assert snapshot.fetch() == folder and (folder / "README.md").read_bytes() == FILES["README.md"]
    snapshot.drop_copies()
    assert not folder.exists()
    again = snapshot.fetch(["README.md"])
    assert [path.name for path in again.iterdir()] == ["README.md"]
    del snapshot
    gc.collect()
    assert not again.exists()


def test_large_files_are_read_in_place_and_the_folder_is_the_users_alone(hub: Served) -> None:
    """A file of another name on the same disk is no copy."""
    snapshot = opened(hub)
    folder = snapshot.fetch(["large.bin"])
    store = hub.server._store
    assert folder.parent == store.incoming and folder.stat().st_mode & 0o077 == 0
    stored = store.large_file(hashlib.sha256(FILES["large.bin"]).hexdigest())
    copied = folder / "large.bin"
    assert copied.read_bytes() == FILES["large.bin"] and (not stored.exists() or copied.samefile(stored))


def test_an_lfs_file_is_not_copied(hub: Served) -> None:
    store, reading = hub.server._store, hub.server._routes._reading
    repo, data = store.repo("model", "carol/x"), b"lfs" * 1000
    assert repo
    oid = hashlib.sha256(data).hexdigest()
    store.receive(repo, oid, len(data), io.BytesIO(data))  # type: ignore[arg-type]
    path = reading.scratch() / "a.bin"
    reading.put(repo, Stored("0" * 40, len(data), oid), path)
    assert path.samefile(store.large_file(oid))
    shutil.rmtree(path.parent)
    assert store.large_file(oid).read_bytes() == data


def test_copies_leave_room_on_the_disk(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEPT_FREE", 2**62)
    with pytest.raises(Refusal, match="has room for 0 bytes") as refused:
        opened(hub).fetch(["README.md"])
    assert refused.value.status == 507


def test_a_copy_that_fails_is_not_taken_for_the_file(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: IO[bytes], target: IO[bytes], size: int) -> None:
        target.write(source.read(3))
        raise OSError("broken")

    snapshot = opened(hub)
    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfileobj", fails)
        with pytest.raises(OSError, match="broken"):
            snapshot.fetch(["a/b.txt"])
    assert (snapshot.fetch(["a/b.txt"]) / "a/b.txt").read_bytes() == FILES["a/b.txt"]


def test_a_start_removes_the_copies_of_a_killed_server(tmp_path: Path) -> None:
    left = tmp_path / "hub" / "incoming" / "pages-x" / "data"
    left.mkdir(parents=True)
    (left / "train.parquet").write_bytes(b"1")
    Store(tmp_path / "hub").close()
    assert not list((tmp_path / "hub" / "incoming").iterdir())


def test_a_pointer_to_a_file_of_another_repo_opens_nothing(hub: Served) -> None:
    store, reading = hub.server._store, hub.server._routes._reading
    hub.api.create_repo("carol/thief")
    repo = store.repo("model", "carol/thief")
    assert repo
    oid = hashlib.sha256(FILES["large.bin"]).hexdigest()  # as `git push` could bring it
    with store.changing(repo) as git:
        parent = gitio.resolve(git, "main")
        blob = gitio.add_blob(git, gitio.pointer(oid, len(FILES["large.bin"])))
        gitio.write_commit(git, b"refs/heads/main", parent, {b"x.bin": (gitio.FILE_MODE, blob)}, "x", "carol")
    stolen = StoredSnapshot(reading, repo, reading.commit(repo, "main"))
    with pytest.raises(ArtefactError, match="never uploaded"):
        stolen.open("x.bin")
    answer = hub.get("/carol/thief/image/main/x.bin")
    assert answer.status == 500 and b"never uploaded" in answer.body and b"Traceback" not in answer.body


def test_the_last_commits_stay_on_the_shelf(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "MOST_KEPT", 2)
    reading, repo = hub.server._routes._reading, hub.server._store.repo("model", "carol/x")
    assert repo
    shelf = Shelf()
    first = shelf.take(reading, repo, "0" * 40)
    assert shelf.take(reading, repo, "0" * 40) is first
    shelf.take(reading, repo, "1" * 40)
    shelf.take(reading, repo, "2" * 40)
    assert shelf.take(reading, repo, "0" * 40) is not first


def test_a_renamed_repo_is_found_by_its_old_address(hub: Served) -> None:
    hub.api.create_repo("carol/old", repo_type="dataset")
    hub.api.move_repo("carol/old", "carol/new", repo_type="dataset")
    answer = hub.get("/datasets/carol/old/tree/main?cursor=")
    assert answer.status == 307 and answer.headers["location"] == "/datasets/carol/new/tree/main?cursor="
    assert hub.get("/datasets/CAROL/New").headers["location"] == "/datasets/carol/new"


def test_pages_find_a_repo_by_its_old_id_without_leading_away(hub: Served) -> None:
    hub.api.create_repo("carol/before", repo_type="dataset", private=True)
    hub.api.move_repo("carol/before", "carol/after", repo_type="dataset")
    reading = hub.server._routes._reading
    assert reading.find(User("carol", True), "datasets", "carol/before").id == "carol/after"
    with pytest.raises(Refusal):
        reading.find(User("dave", True), "datasets", "carol/before")
