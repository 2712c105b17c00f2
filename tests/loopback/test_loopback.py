"""The loopback Hub with the real clients over HTTP."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from hubdpo.errors import ConfigError
from hubdpo.loopback.faults import Fault
from hubdpo.loopback.server import LoopbackHub

if TYPE_CHECKING:
    from tests.conftest import Hub

LARGE = os.urandom(300_000) + b"\0"


def status(problem: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    assert problem.value.response is not None
    return int(problem.value.response.status_code)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as server:
        yield server


def client(server: LoopbackHub) -> HfApi:
    return HfApi(endpoint=server.endpoint, token="hf_carol")


@pytest.fixture
def repo(repo_id: str) -> str:
    HfApi().create_repo(repo_id)
    return repo_id


def test_a_token_tells_who_you_are(hub: Hub) -> None:
    assert HfApi().whoami()["name"] == hub.user


def test_an_unknown_token_is_refused() -> None:
    with pytest.raises(HfHubHTTPError):
        HfApi(token="hf_wrong").whoami()


def test_a_repo_is_made_once(repo: str) -> None:
    assert HfApi().create_repo(repo, exist_ok=True).repo_id == repo
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().create_repo(repo)
    assert status(problem) == 409


def test_another_namespace_is_closed() -> None:
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().create_repo("bob/not-mine")
    assert status(problem) == 403


def test_a_read_token_changes_nothing(hub: Hub, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi(token=hub.read_token).upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"a")
    assert status(problem) == 403


@pytest.mark.parametrize("token", [False, "hf_bob_write"])
def test_a_private_repo_looks_missing_to_others(repo_id: str, token: str | bool) -> None:
    HfApi().create_repo(repo_id, private=True)
    assert HfApi().repo_info(repo_id).private
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=token).repo_info(repo_id)


def test_files_come_back_as_they_went(repo: str, tmp_path: Path) -> None:
    files = {"a.txt": b"small", "deep/b c#?.bin": LARGE, "ünï/名.md": b"text"}
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    done = HfApi().create_commit(repo, operations, commit_message="files")
    folder = Path(snapshot_download(repo, revision=done.oid, cache_dir=tmp_path))
    assert {path: (folder / path).read_bytes() for path in files} == files


def test_a_large_file_is_listed_with_its_sha256(repo: str) -> None:
    HfApi().upload_file(repo_id=repo, path_in_repo="w.safetensors", path_or_fileobj=LARGE)
    (entry,) = HfApi().get_paths_info(repo, "w.safetensors")
    assert entry.lfs.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert entry.size == len(LARGE)


def test_an_unchanged_upload_makes_no_commit(repo: str) -> None:
    for _ in range(2):
        HfApi().upload_file(repo_id=repo, path_in_repo="w.safetensors", path_or_fileobj=LARGE)
    assert len(HfApi().list_repo_commits(repo)) == 2


def test_a_stale_parent_is_refused(repo: str) -> None:
    first = HfApi().repo_info(repo).sha
    HfApi().upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"1")
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().create_commit(repo, [CommitOperationAdd("a", b"2")], commit_message="late", parent_commit=first)
    assert status(problem) == 412


def test_a_commit_names_its_parent(hub: Hub, repo: str) -> None:
    HfApi().upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"1")
    newest, first = [commit.commit_id for commit in HfApi().list_repo_commits(repo)]
    git = ["git", "-C", str(hub.root / "repos" / "model" / f"{repo}.git")]
    parent = subprocess.run([*git, "rev-parse", f"{newest}^"], capture_output=True, text=True, check=True)
    assert parent.stdout.strip() == first


def test_git_itself_finds_nothing_wrong(hub: Hub, repo: str) -> None:
    HfApi().create_commit(repo, [CommitOperationAdd("d/a", b"1"), CommitOperationAdd("d/b", LARGE)], commit_message="c")
    HfApi().create_tag(repo, tag="v1.0.0", tag_message="first")
    folder = hub.root / "repos" / "model" / f"{repo}.git"
    done = subprocess.run(["git", "-C", str(folder), "fsck", "--strict"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_tag_is_never_moved(repo: str) -> None:
    tagged = HfApi().repo_info(repo).sha
    HfApi().create_tag(repo, tag="v1.0.0", tag_message="first")
    HfApi().upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"1")
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().create_tag(repo, tag="v1.0.0", tag_message="again")
    assert status(problem) == 409
    assert HfApi().list_repo_refs(repo).tags[0].target_commit == tagged


def test_a_branch_with_a_slash(repo: str) -> None:
    HfApi().create_branch(repo, branch="feat/x")
    HfApi().upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"1", revision="feat/x")
    assert HfApi().file_exists(repo, "a", revision="feat/x")
    assert not HfApi().file_exists(repo, "a")


def test_an_unknown_revision_is_named_as_such(repo: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        HfApi().repo_info(repo, revision="v9.9.9")


def test_all_operations_or_none(repo: str) -> None:
    operations = [CommitOperationAdd("new", b"1"), CommitOperationDelete("missing")]
    with pytest.raises(HfHubHTTPError):
        HfApi().create_commit(repo, operations, commit_message="half")
    assert not HfApi().file_exists(repo, "new")


@pytest.mark.parametrize(
    "card", ["---\nlicense: [\n---\n", "---\nbase_model: /home/me/model\n---\n", "---\n- a\n---\n"]
)
def test_a_card_that_the_hub_would_refuse_is_refused(repo: str, card: str) -> None:
    with pytest.raises((HfHubHTTPError, ValueError)):
        HfApi().upload_file(repo_id=repo, path_in_repo="README.md", path_or_fileobj=card.encode())


def test_datasets_pushes_and_loads_at_a_tag(repo_id: str, tmp_path: Path) -> None:
    from datasets import Dataset, load_dataset

    rows = Dataset.from_dict({"a": list(range(10))})
    rows.push_to_hub(repo_id)
    HfApi().create_tag(repo_id, tag="v1.0.0", repo_type="dataset")
    rows.select([0]).push_to_hub(repo_id)
    loaded = load_dataset(repo_id, revision="v1.0.0", split="train", cache_dir=str(tmp_path))
    assert loaded.to_list() == rows.to_list()


def test_the_token_is_not_sent_where_large_files_are(own: LoopbackHub, tmp_path: Path) -> None:
    api = client(own)
    api.create_repo("carol/x")
    api.upload_file(repo_id="carol/x", path_in_repo="w.bin", path_or_fileobj=LARGE)
    api.hf_hub_download("carol/x", "w.bin", cache_dir=tmp_path)
    elsewhere = [entry for entry in own.requests if entry.host.startswith("localhost")]
    assert elsewhere
    assert not any(entry.sent_token for entry in elsewhere)


def test_an_address_without_its_signature_is_closed(own: LoopbackHub) -> None:
    import urllib.error
    import urllib.request

    oid = hashlib.sha256(LARGE).hexdigest()
    with pytest.raises(urllib.error.HTTPError) as problem:
        urllib.request.urlopen(f"{own.endpoint}/_cdn/{oid}?until=99999999999&signature=0")
    problem.value.close()
    assert problem.value.code == 403


def test_bytes_of_another_hash_are_not_kept(own: LoopbackHub) -> None:
    from hubdpo.loopback.http.wire import Refusal
    from hubdpo.loopback.storage.store import Repo

    class Wrong:
        sent = False

        def read(self, size: int = -1) -> bytes:
            data, self.sent = (b"" if self.sent else b"other"), True
            return data

    with pytest.raises(Refusal):
        own._store.receive(Repo("model", "carol/x"), "0" * 64, 5, Wrong())
    assert not list(own._store.incoming.iterdir())
    assert not own._store.large_file("0" * 64).exists()


def test_a_lost_answer_leaves_the_commit(own: LoopbackHub) -> None:
    api = client(own)
    api.create_repo("carol/x")
    own.faults.add(Fault("reset-after", "/commit/", method="POST"))
    with pytest.raises(Exception):  # noqa: B017 - whatever the client makes of a reset
        api.create_commit("carol/x", [CommitOperationAdd("a", b"1")], commit_message="c")
    assert api.file_exists("carol/x", "a")


def test_everything_outlives_a_restart(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as server:
        client(server).create_repo("carol/x", private=True)
        client(server).upload_file(repo_id="carol/x", path_in_repo="w.bin", path_or_fileobj=LARGE)
    with LoopbackHub(tmp_path / "hub") as server:
        path = client(server).hf_hub_download("carol/x", "w.bin", cache_dir=tmp_path / "cache")
        assert Path(path).read_bytes() == LARGE


def test_a_folder_has_one_server(own: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another server"):
        LoopbackHub(tmp_path / "hub")


def test_a_taken_port_is_named(own: LoopbackHub, tmp_path: Path) -> None:
    port = int(own.endpoint.rpartition(":")[2])
    with pytest.raises(ConfigError, match=str(port)):
        LoopbackHub(tmp_path / "second", port=port)


@pytest.mark.parametrize("token", ["", "alice", "alice:", ":x", "alice:x:admin", "a b:x"])
def test_a_malformed_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ConfigError, match="NAME:VALUE"):
        LoopbackHub(tmp_path / "hub", tokens=[token])


def test_tokens_are_kept_as_hashes_alone(own: LoopbackHub, tmp_path: Path) -> None:
    assert all(b"hf_carol" not in path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file())


@pytest.mark.slow
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(tmp_path / "hub")]
    acknowledged: list[str] = []
    for turn in range(3):
        server = subprocess.Popen([*command, "--token", "carol:hf_carol"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        api = HfApi(endpoint=server.stdout.readline().strip().partition("=")[2], token="hf_carol")
        api.create_repo("carol/x", exist_ok=True)
        for number in range(5):
            name = f"{turn}-{number}.bin"
            api.upload_file(repo_id="carol/x", path_in_repo=name, path_or_fileobj=name.encode() + LARGE)
            acknowledged.append(name)
        os.kill(server.pid, signal.SIGKILL)
        server.communicate()
    with LoopbackHub(tmp_path / "hub") as reopened:
        assert set(acknowledged) <= set(client(reopened).list_repo_files("carol/x"))
