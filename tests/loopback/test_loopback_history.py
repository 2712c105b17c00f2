"""The last commit of each file and folder, and squashing a history into one commit."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dulwich.objects import Commit
from dulwich.repo import Repo
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from hubdpo.loopback import gitio, last_commits
from hubdpo.loopback.last_commits import LastCommits
from tests.loopback.ask import ask

if TYPE_CHECKING:
    from tests.conftest import Hub

Contents = dict[bytes, bytes]


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(hub.endpoint, token=hub.token)


@pytest.fixture
def git(tmp_path: Path) -> Iterator[Repo]:
    with Repo.init_bare(str(tmp_path)) as made:
        yield made


def commit(git: Repo, contents: Contents, *parents: bytes) -> bytes:
    files = {path: (gitio.FILE_MODE, gitio.add_blob(git, content)) for path, content in contents.items()}
    made = Commit()
    made.tree = gitio.commit_tree(git.object_store, [(path, sha, mode) for path, (mode, sha) in files.items()])
    made.parents, made.message = list(parents), b"%d" % time.time_ns()
    made.author = made.committer = b"me <me@localhost>"
    made.author_time = made.commit_time = max([git.object_store[p].commit_time for p in parents], default=0) + 1
    made.author_timezone = made.commit_timezone = 0
    git.object_store.add_object(made)
    return bytes(made.id)


def by_definition(git: Repo, head: bytes, path: str) -> bytes:
    """Follow one path to the first parent that has the same there, as long as there is one."""

    def at(commit_id: bytes) -> bytes | None:
        try:
            return gitio.find(git.object_store.__getitem__, commit_id, path)
        except gitio.Refusal:
            return None

    while same := [parent for parent in git.object_store[head].parents if at(parent) == at(head)]:
        head = same[0]
    return head


def test_a_file_and_its_folders_have_the_commit_that_changed_them(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    first = api.create_commit(
        repo_id,
        [CommitOperationAdd(path, b"1") for path in ("a/x.txt", "a/b/y.txt", "c/z.txt")],
        commit_message="first",
    )
    second = api.upload_file(path_or_fileobj=b"2", path_in_repo="a/b/y.txt", repo_id=repo_id, commit_message="second")
    third = api.create_commit(repo_id, [CommitOperationDelete("c/z.txt")], commit_message="third")
    api.upload_file(path_or_fileobj=b"\0", path_in_repo="big.bin", repo_id=repo_id, commit_message="fourth\n\nBody.")
    found = {e.path: e.last_commit for e in api.list_repo_tree(repo_id, recursive=True, expand=True)}
    titles = {path: last.title for path, last in found.items() if last}
    assert titles == {
        ".gitattributes": "initial commit", "a": "second", "a/b": "second", "a/b/y.txt": "second", "a/x.txt": "first",
        "big.bin": "fourth",
    }  # fmt: skip
    assert found["a/x.txt"].oid == first.oid
    (info,) = api.get_paths_info(repo_id, "a/b/y.txt", expand=True)
    assert info.last_commit and info.last_commit.oid == second.oid
    (before,) = api.get_paths_info(repo_id, "a/b", expand=True, revision=first.oid)
    assert before.last_commit and before.last_commit.oid == first.oid
    assert third.oid not in {last.oid for last in found.values() if last}


@pytest.mark.parametrize("seed", range(5))
def test_each_path_follows_its_own_parents(git: Repo, seed: int) -> None:
    """Random histories with merges: the one walk finds what following each path on its own finds."""
    draw = random.Random(seed)
    names = [b"a", b"d/a", b"d/b", b"d/e/a", b"f/a", b"f/g/h/a"]
    heads = [(commit(git, {b"a": b"0"}), {b"a": b"0"})]
    for _ in range(40):
        parents = draw.sample(heads, k=min(len(heads), draw.choice([1, 1, 1, 2])))
        contents: Contents = {}
        for _, of_parent in parents:
            contents |= of_parent
        for name in draw.sample(names, k=draw.randrange(3)):
            if name in contents and len(contents) > 1 and draw.random() < 0.3:
                del contents[name]
            else:
                contents[name] = b"%d" % draw.randrange(3)
        heads.append((commit(git, contents, *(sha for sha, _ in parents)), contents))
        heads = heads[-4:]
    last = LastCommits()
    for head, contents in heads:
        found = last.of(git, head)
        assert set(contents) <= set(found)
        assert found == {path: by_definition(git, head, path.decode()) for path in found}


def test_objects_in_packs_are_found(git: Repo) -> None:
    first = commit(git, {b"a/b": b"1", b"c": b"1"})
    second = commit(git, {b"a/b": b"1", b"c": b"2"}, first)
    git.refs[b"refs/heads/main"] = second
    git.object_store.pack_loose_objects()
    git.close()
    with Repo(git.path) as packed:
        assert LastCommits().of(packed, second) == {b"a": first, b"a/b": first, b"c": second}


def test_the_walk_ends_where_an_earlier_one_began(git: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    head = commit(git, {b"a": b"0"})
    for number in range(1, 20):
        head = commit(git, {b"a": b"0", b"b": b"%d" % number}, head)
    last = LastCommits()
    last.of(git, head)
    compared = []
    changes = last_commits._changes
    monkeypatch.setattr(last_commits, "_changes", lambda *args: compared.append(1) or changes(*args))
    assert last.of(git, head)[b"b"] == head
    assert not compared
    after = commit(git, {b"a": b"0", b"b": b"new"}, head)
    assert last.of(git, after)[b"b"] == after
    assert len(compared) == 2  # the files of the new commit, and what it changed


def test_few_paths_are_kept(git: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_commits, "MOST_KEPT", 5)
    last = LastCommits()
    heads = [commit(git, {b"a": b"%d" % number, b"b": b"0"}) for number in range(9)]
    for head in heads:
        last.of(git, head)
    assert list(last._kept) == heads[-2:]


def test_a_long_tree_has_the_commits_on_every_page(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    api.create_commit(
        repo_id, [CommitOperationAdd(f"f{n:04}.txt", b"%d" % n) for n in range(1100)], commit_message="many"
    )
    api.upload_file(path_or_fileobj=b"new", path_in_repo="f1099.txt", repo_id=repo_id, commit_message="one")
    titles = {e.path: e.last_commit.title for e in api.list_repo_tree(repo_id, expand=True) if e.last_commit}
    assert len(titles) == 1101
    assert {path for path, title in titles.items() if title == "one"} == {"f1099.txt"}


# super-squash


def test_a_squashed_branch_has_its_files_and_one_commit(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"f{number}", repo_id=repo_id)
    api.create_branch(repo_id, branch="other")
    tree = {entry.path: entry.blob_id for entry in api.list_repo_tree(repo_id)}
    api.super_squash_history(repo_id, commit_message="all in one")
    assert [entry.title for entry in api.list_repo_commits(repo_id)] == ["all in one"]
    assert {entry.path: entry.blob_id for entry in api.list_repo_tree(repo_id)} == tree
    assert len(api.list_repo_commits(repo_id, revision="other")) == 4


def test_a_branch_with_a_slash_is_squashed(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    api.create_branch(repo_id, branch="a/b")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="f", repo_id=repo_id, revision="a/b")
    api.super_squash_history(repo_id, branch="a/b")
    assert len(api.list_repo_commits(repo_id, revision="a/b")) == 1


def test_tags_are_not_squashed(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    api.create_tag(repo_id, tag="v1")
    for name in ("v1", "refs/tags/v1", api.repo_info(repo_id).sha or ""):
        with pytest.raises(BadRequestError, match="Invalid reference for a branch"):
            api.super_squash_history(repo_id, branch=name)
    with pytest.raises(RevisionNotFoundError):
        api.super_squash_history(repo_id, branch="nothing")


def test_only_the_owner_squashes(api: HfApi, hub: Hub, repo_id: str) -> None:
    api.create_repo(repo_id)
    for token in (hub.other_token, hub.read_token):
        with pytest.raises(HfHubHTTPError, match="403"):
            api.super_squash_history(repo_id, token=token)


def test_a_commit_on_what_was_squashed_is_refused(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    before = api.repo_info(repo_id).sha
    api.super_squash_history(repo_id)
    with pytest.raises(HfHubHTTPError, match="The branch was updated since you opened this page") as refused:
        api.upload_file(path_or_fileobj=b"1", path_in_repo="f", repo_id=repo_id, parent_commit=before)
    assert refused.value.response.status_code == 412


def test_no_commit_is_lost_in_a_race_with_squashes(api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    start = threading.Barrier(4)

    def commits(writer: int) -> None:
        start.wait()
        for number in range(6):
            api.create_commit(
                repo_id, [CommitOperationAdd(f"{writer}-{number}", f"{writer} {number}".encode())], commit_message="one"
            )

    def squashes() -> None:
        start.wait()
        for _ in range(6):
            api.super_squash_history(repo_id)

    with ThreadPoolExecutor(4) as pool:
        tasks: list[Callable[[], None]] = [*(lambda w=writer: commits(w) for writer in range(3)), squashes]
        for done in [pool.submit(task) for task in tasks]:
            done.result()
    assert {f"{w}-{n}" for w in range(3) for n in range(6)} <= set(api.list_repo_files(repo_id))


# the list of commits


def test_commits_have_their_author_and_html_on_request(api: HfApi, hub: Hub, repo_id: str) -> None:
    api.create_repo(repo_id)
    api.upload_file(
        path_or_fileobj=b"1", path_in_repo="f", repo_id=repo_id, commit_message="<b>", commit_description="a & b\n\nc"
    )
    newest, oldest = api.list_repo_commits(repo_id, formatted=True)
    assert (newest.formatted_title, newest.formatted_message) == ("&lt;b&gt;", "<p>a &amp; b</p><p>c</p>")
    assert oldest.authors == [hub.user]
    assert api.list_repo_commits(repo_id)[0].formatted_title is None


def test_pages_of_commits_follow_each_other(hub: Hub, api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    for number in range(4):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="f", repo_id=repo_id)
    first = ask(hub.server, "GET", f"/api/models/{repo_id}/commits/main?limit=2&expand[]=formatted&expand[]=x")
    assert first.headers["x-total-count"] == "5"
    assert first.headers["link"].endswith('commits/main?limit=2&expand%5B%5D=formatted&expand%5B%5D=x&p=1>; rel="next"')
