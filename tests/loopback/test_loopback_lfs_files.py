"""Large files of a repo are listed, deleted for good and copied to other repos."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubdpo.loopback.api.community.pulls import Pulls
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.garbage import find_garbage, remove
from hubdpo.loopback.storage.store import Store
from tests.loopback.ask import ask

ONE, TWO, THREE = (bytes([number]) * 20_000 + bytes(range(256)) for number in (1, 2, 3))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "dave:hf_dave"]) as made:
        yield made


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    """A repo with a large file on main, overwritten once, and another on a branch from main."""
    made = HfApi(endpoint=hub.endpoint, token="hf_carol")
    made.create_repo("carol/x")
    for path, content in [("a/w.bin", ONE), ("a/w.bin", TWO), ("t.txt", b"text")]:
        made.upload_file(repo_id="carol/x", path_in_repo=path, path_or_fileobj=content)
    made.create_branch("carol/x", branch="b")
    made.upload_file(repo_id="carol/x", path_in_repo="on-b.bin", path_or_fileobj=THREE, revision="b")
    return made


def test_large_files_are_listed_with_a_name_and_a_ref(api: HfApi) -> None:
    api.preupload_lfs_files("carol/x", [CommitOperationAdd("never.bin", THREE + b"never")])
    files = list(api.list_lfs_files("carol/x"))
    assert {(file.filename, file.ref, file.size) for file in files if file.ref} == {
        ("a/w.bin", "main", len(ONE)), ("on-b.bin", "b", len(THREE))
    }  # fmt: skip
    assert len(files) == 4 and sorted(file.size for file in files)[-1] == len(THREE) + 5
    assert all(abs(file.pushed_at.timestamp() - time.time()) < 60 for file in files)
    with pytest.raises(HfHubHTTPError, match="403"):
        list(HfApi(endpoint=api.endpoint, token="hf_dave").list_lfs_files("carol/x"))


def test_a_file_that_is_deleted_for_good_is_in_no_commit(api: HfApi, hub: LoopbackHub, tmp_path: Path) -> None:
    api.create_tag("carol/x", tag="v1", tag_message="annotated")
    api.create_tag("carol/x", tag="light")
    pull = api.create_pull_request("carol/x", "a pull request")
    before = api.list_repo_commits("carol/x")
    api.permanently_delete_lfs_files("carol/x", [file for file in api.list_lfs_files("carol/x") if file.ref == "main"])
    assert [file.filename for file in api.list_lfs_files("carol/x")] == ["on-b.bin"]
    after = api.list_repo_commits("carol/x")
    assert [commit.title for commit in after] == [commit.title for commit in before]
    assert after[-1].commit_id == before[-1].commit_id != after[0].commit_id != before[0].commit_id
    for revision in ("main", "v1", "light", "refs/pr/1", *(commit.commit_id for commit in after)):
        assert "a/w.bin" not in api.list_repo_files("carol/x", revision=revision)
    assert api.list_repo_files("carol/x", revision="b") == [".gitattributes", "on-b.bin", "t.txt"]
    assert api.get_discussion_details("carol/x", pull.num).diff == ""  # its base was rewritten with it
    assert api.list_repo_refs("carol/x").tags[0].target_commit == after[0].commit_id
    folder = str(tmp_path / "hub" / "repos" / "model" / "carol" / "x.git")
    porcelain.fsck(folder)
    with Repo(folder) as git:
        assert git[git.refs[b"refs/tags/v1"]].message == b"annotated\n"
    hub.stop()
    store = Store(tmp_path / "hub")
    garbage = find_garbage(store)
    remove(store, garbage)
    store.close()
    assert garbage.parts["LFS files"].files == 2 and garbage.parts["git objects"].files > 0
    with LoopbackHub(tmp_path / "hub") as again:
        assert ask(again, "GET", f"/api/models/carol/x/revision/{before[0].commit_id}").status == 404
        assert "on-b.bin" in HfApi(endpoint=again.endpoint, token=False).list_repo_files("carol/x", revision="b")


def test_a_deletion_that_was_cut_short_is_finished_by_the_next(
    api: HfApi, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pull = api.create_pull_request("carol/x", "a pull request")
    files = list(api.list_lfs_files("carol/x"))

    def killed(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Pulls, "follow", killed)
        with pytest.raises(HfHubHTTPError, match="500"):
            api.permanently_delete_lfs_files("carol/x", files)
    api.permanently_delete_lfs_files("carol/x", files)
    hub.stop()
    store = Store(tmp_path / "hub")
    remove(store, find_garbage(store))
    store.close()
    with LoopbackHub(tmp_path / "hub") as again:
        later = HfApi(endpoint=again.endpoint, token="hf_carol")
        assert later.get_discussion_details("carol/x", pull.num).diff == ""
        assert later.list_repo_files("carol/x") == [".gitattributes", "t.txt"]


def test_pointers_stay_if_history_is_not_rewritten(api: HfApi) -> None:
    head = api.model_info("carol/x").sha
    api.permanently_delete_lfs_files("carol/x", list(api.list_lfs_files("carol/x")), rewrite_history=False)
    assert list(api.list_lfs_files("carol/x")) == [] and api.model_info("carol/x").sha == head
    assert "a/w.bin" in api.list_repo_files("carol/x")
    operation = CommitOperationAdd("again.bin", ONE)
    api.create_commit("carol/x", [operation], commit_message="sent again")
    assert [file.size for file in api.list_lfs_files("carol/x")] == [len(ONE)]


def test_a_file_that_another_repo_has_stays_there(api: HfApi, hub: LoopbackHub) -> None:
    api.create_repo("carol/y")
    api.upload_file(repo_id="carol/y", path_in_repo="w.bin", path_or_fileobj=ONE)
    api.permanently_delete_lfs_files("carol/x", list(api.list_lfs_files("carol/x")))
    url = ask(hub, "HEAD", "/carol/y/resolve/main/w.bin").headers["location"]
    assert ask(hub, "GET", url[url.index("/_cdn") :]).body == ONE


def test_only_owners_delete_and_only_what_is_there(api: HfApi, hub: LoopbackHub) -> None:
    files = list(api.list_lfs_files("carol/x"))
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(endpoint=api.endpoint, token="hf_dave").permanently_delete_lfs_files("carol/x", files)
    body = {"deletions": {"sha": [files[0].file_oid, "0" * 64], "rewriteHistory": True}}
    assert ask(hub, "POST", "/api/models/carol/x/lfs-files/batch", body, token="hf_carol").status == 404
    assert len(list(api.list_lfs_files("carol/x"))) == 3


def duplicate(hub: LoopbackHub, token: str, source: str, target: str, *contents: str) -> tuple[int, bytes]:
    body = {
        "target": {"type": "dataset", "name": target}, "files": [{"sha256": oid, "xetHash": "0"} for oid in contents]
    }  # fmt: skip
    answer = ask(hub, "POST", f"/api/models/{source}/lfs-files/duplicate", body, token=token)
    return answer.status, answer.body


def test_a_file_is_copied_without_a_second_upload(api: HfApi, hub: LoopbackHub) -> None:
    oid = api.get_paths_info("carol/x", "a/w.bin")[0].lfs["sha256"]
    api.create_repo("carol/data", repo_type="dataset")
    status, told = duplicate(hub, "hf_carol", "carol/x", "carol/data", oid, "0" * 64)
    assert status == 200 and told.count(oid.encode()) == 1
    assert b'"failed": [{"sha256": "' + b"0" * 64 + b'", "error": "carol/x has no such file"}]' in told
    lines = (
        b'{"key": "header", "value": {"summary": "copied"}}\n{"key": "lfsFile", "value": {"path": "w.bin", "oid": "'
        + oid.encode() + b'"}}'
    )  # fmt: skip
    assert ask(hub, "POST", "/api/datasets/carol/data/commit/main", lines, token="hf_carol").status == 200
    url = ask(hub, "HEAD", "/datasets/carol/data/resolve/main/w.bin").headers["location"]
    assert ask(hub, "GET", url[url.index("/_cdn") :]).body == TWO


def test_a_private_file_is_not_copied_by_others(api: HfApi, hub: LoopbackHub) -> None:
    oid = api.get_paths_info("carol/x", "a/w.bin")[0].lfs["sha256"]
    HfApi(endpoint=api.endpoint, token="hf_dave").create_repo("dave/data", repo_type="dataset")
    assert duplicate(hub, "hf_dave", "carol/x", "dave/none", oid)[0] == 404
    api.update_repo_settings("carol/x", private=True)
    assert duplicate(hub, "hf_dave", "carol/x", "dave/data", oid)[0] == 404
    assert duplicate(hub, "", "carol/x", "dave/data", oid)[0] == 401
