"""`serve-hub DIR --gc` removes what no repo refers to, and nothing else, also when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dulwich import porcelain
from huggingface_hub import CommitOperationAdd, HfApi

from hubdpo.errors import MachineError
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.garbage import find_garbage, remove
from hubdpo.loopback.storage.store import Store
from tests.loopback.ask import ask

KEPT, SHARED, GONE = (bytes([number]) * 30_000 + bytes(range(256)) for number in (1, 2, 3))
UPLOAD = """
import sys
from huggingface_hub import HfApi
api, (repo, name, source) = HfApi(), sys.argv[1:]
api.create_repo(repo, exist_ok=True)
api.upload_file(path_or_fileobj=source, path_in_repo=name, repo_id=repo)
"""


def command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    code = "from hubdpo.cli.app import main; main()"
    given = [sys.executable, "-c", code, "serve-hub", str(folder), *options]
    return subprocess.run(given, capture_output=True, text=True, timeout=100)


def by_xet(endpoint: str, home: Path, *given: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_carol", "HF_HOME": str(home)}
    environment.pop("HF_HUB_DISABLE_XET")
    return subprocess.run([sys.executable, "-c", UPLOAD, *given], env=environment, capture_output=True, text=True)


def collect(root: Path) -> dict[str, tuple[int, int]]:
    """Collect the garbage, and return files and bytes by kind."""
    store = Store(root)
    try:
        garbage = find_garbage(store)
        remove(store, garbage)
    finally:
        store.close()
    return {kind: (part.files, part.bytes) for kind, part in garbage.parts.items() if part.files}


def stored(root: Path) -> dict[str, int]:
    """The files of the Hub folder but for its tables, with their sizes."""
    files = (path for path in root.rglob("*") if path.is_file() and "sqlite" not in path.name)
    return {str(path.relative_to(root)): path.stat().st_size for path in files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Hub with a repo that has three large files, one of them in another repo as well, and a branch and a tag."""
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        for repo, name, content in [
            ("x", "gone.bin", GONE), ("x", "shared.bin", SHARED), ("y", "shared.bin", SHARED), ("y", "kept.bin", KEPT)
        ]:  # fmt: skip
            api.create_repo(f"carol/{repo}", exist_ok=True)
            api.upload_file(repo_id=f"carol/{repo}", path_in_repo=name, path_or_fileobj=content)
        api.create_branch("carol/y", branch="b")
        api.upload_file(repo_id="carol/y", path_in_repo="b.txt", path_or_fileobj=b"on b", revision="b")
        api.create_tag("carol/y", tag="v1", tag_message="annotated")
        api.create_pull_request("carol/y", "a pull request")
    return tmp_path / "hub"


def delete_repo(root: Path, repo: str) -> None:
    with LoopbackHub(root) as hub:
        HfApi(endpoint=hub.endpoint, token="hf_carol").delete_repo(repo)


def assert_whole(root: Path) -> None:
    """Everything of `carol/y` is there, and its git objects are sound."""
    porcelain.fsck(str(root / "repos" / "model" / "carol" / "y.git"))
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        for name, content in (("kept.bin", KEPT), ("shared.bin", SHARED)):
            assert api.get_paths_info("carol/y", name, revision="b")[0].size == len(content)
            url = ask(hub, "HEAD", f"/carol/y/resolve/v1/{name}").headers["location"]
            assert ask(hub, "GET", url[url.index("/_cdn") :]).body == content
        assert api.file_exists("carol/y", "b.txt", revision="b")
        assert api.get_discussion_details("carol/y", 1).title == "a pull request"


def test_nothing_is_garbage_while_repos_refer_to_it(root: Path) -> None:
    before = stored(root)
    assert collect(root) == {} and stored(root) == before
    assert_whole(root)


def test_a_deleted_repo_leaves_the_disk_but_for_what_others_have(root: Path) -> None:
    delete_repo(root, "carol/x")
    before = stored(root)
    assert collect(root) == {"LFS files": (1, len(GONE))}
    assert sum(before.values()) - sum(stored(root).values()) == len(GONE)
    assert_whole(root)
    assert collect(root) == {}


def test_a_preview_removes_nothing_and_says_what_would_go(root: Path) -> None:
    delete_repo(root, "carol/x")
    before = stored(root)
    done = command(root, "--gc", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "would remove 1 file, 30.3 kB\n") and stored(root) == before
    assert "LFS files" in done.stderr and done.stderr.endswith(f"hint: hubdpo serve-hub {root} --gc\n")
    told = json.loads(command(root, "--gc", "--json").stdout)
    assert (told["dry_run"], told["files"], told["bytes"]) == (False, 1, len(GONE))
    assert stored(root) != before


def test_history_keeps_a_file_that_was_overwritten(root: Path) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.upload_file(repo_id="carol/x", path_in_repo="gone.bin", path_or_fileobj=KEPT)
    assert collect(root) == {}


def test_squashing_a_history_frees_what_only_it_had(root: Path) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.upload_file(repo_id="carol/x", path_in_repo="gone.bin", path_or_fileobj=KEPT)
        api.super_squash_history("carol/x")
    collected = collect(root)
    assert collected["LFS files"] == (1, len(GONE)) and collected["git objects"][0] > 3
    with LoopbackHub(root) as hub:
        for path, content in (("gone.bin", KEPT), ("shared.bin", SHARED)):
            url = ask(hub, "HEAD", f"/carol/x/resolve/main/{path}").headers["location"]
            assert ask(hub, "GET", url[url.index("/_cdn") :]).body == content


def test_a_pull_request_keeps_the_commit_that_it_began_from(root: Path) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        added = [CommitOperationAdd("new.txt", b"new")]
        api.create_commit("carol/x", added, commit_message="a pull request", create_pr=True)
        for branch in ("main", "refs/pr/1"):
            api.super_squash_history("carol/x", branch=branch)
    collect(root)
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        assert "+new" in str(api.get_discussion_details("carol/x", 1).diff)
        api.merge_pull_request("carol/x", 1)
        assert api.file_exists("carol/x", "new.txt")


def test_an_upload_that_was_never_committed_goes(root: Path) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.preupload_lfs_files("carol/y", [CommitOperationAdd("never.bin", GONE + b"never")])
    assert collect(root) == {"LFS files": (1, len(GONE) + 5)}
    with LoopbackHub(root) as hub:  # and can be sent again
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.upload_file(repo_id="carol/y", path_in_repo="never.bin", path_or_fileobj=GONE + b"never")
        assert api.get_paths_info("carol/y", "never.bin")[0].size == len(GONE) + 5


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_git_objects_that_no_ref_reaches_go(root: Path, packed: bool) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_branch("carol/y", branch="short-lived")
        made = api.upload_file(repo_id="carol/y", path_in_repo="t", path_or_fileobj=b"t" * 999, revision="short-lived")
        api.delete_branch("carol/y", branch="short-lived")
    store = Store(root)
    repo = store.repo("model", "carol/y")
    assert repo is not None
    if packed:
        with store.git(repo) as git:
            git.object_store.pack_loose_objects()
    store.close()
    ((kind, (count, _)),) = collect(root).items()
    assert (kind, count) == ("git objects", 3)  # a commit, a tree and a blob
    assert collect(root) == {}
    with LoopbackHub(root) as hub:
        assert ask(hub, "GET", f"/api/models/carol/y/revision/{made.oid}").status == 404
    assert_whole(root)


def test_the_folder_of_a_repo_whose_deletion_was_cut_short_goes(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "repos" / "model" / "carol" / "x.git", tmp_path / "left")
    delete_repo(root, "carol/x")
    shutil.copytree(tmp_path / "left", root / "repos" / "model" / "carol" / "x.git")
    assert collect(root).keys() == {"deleted repos", "LFS files"}
    assert [path.name for path in (root / "repos" / "model" / "carol").iterdir()] == ["y.git"]


def test_a_renamed_repo_keeps_what_it_has(root: Path) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.move_repo("carol/x", "carol/z")
        api.create_repo("carol/x")
    assert collect(root) == {}
    with LoopbackHub(root) as hub:
        url = ask(hub, "HEAD", "/carol/z/resolve/main/gone.bin").headers["location"]
        assert ask(hub, "GET", url[url.index("/_cdn") :]).body == GONE


def test_a_damaged_repo_is_named_and_nothing_goes(root: Path) -> None:
    delete_repo(root, "carol/x")
    git = root / "repos" / "model" / "carol" / "y.git"
    commit = (git / "refs" / "heads" / "main").read_text().strip()
    (git / "objects" / commit[:2] / commit[2:]).unlink()
    before = stored(root)
    with pytest.raises(MachineError, match=f"carol/y is damaged, nothing was removed: .*{commit}"):
        collect(root)
    assert stored(root) == before


KILLED = """
import os, sys
from pathlib import Path
from hubdpo.loopback.storage import garbage
from hubdpo.loopback.storage.store import Store

store, turn = Store(Path(sys.argv[1])), int(sys.argv[2])
found = garbage.find_garbage(store)
found.removals.insert(turn, lambda: os.kill(os.getpid(), 9))
if turn < 0:  # within the transaction
    found.rows.insert(1, ("SELECT 1", ()))
    query = store.query
    store.query = lambda text, *values: os.kill(os.getpid(), 9) if text == "SELECT 1" else query(text, *values)
garbage.remove(store, found)
"""


@pytest.mark.slow
@pytest.mark.parametrize("turn", [-1, 0, 1, 4])
def test_a_kill_leaves_what_repos_refer_to(root: Path, tmp_path: Path, turn: int) -> None:
    with LoopbackHub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        assert by_xet(hub.endpoint, tmp_path / "home", "carol/x", "xet.bin", __file__).returncode == 0
        api.create_branch("carol/y", branch="short-lived")
        api.upload_file(repo_id="carol/y", path_in_repo="t", path_or_fileobj=b"t" * 999, revision="short-lived")
        api.delete_branch("carol/y", branch="short-lived")
        api.delete_repo("carol/x")
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(turn)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_whole(root)
    left = collect(root)
    assert sum(count for count, _ in left.values()) == 5 - max(turn, 0)
    assert_whole(root)
    assert collect(root) == {}


@pytest.mark.slow
def test_xet_content_goes_with_its_last_repo_and_can_be_sent_again(tmp_path: Path) -> None:
    """The Xet client remembers what it sent, so it must notice that this is gone."""
    source, other = tmp_path / "a.bin", tmp_path / "b.bin"
    source.write_bytes(os.urandom(300_000))
    other.write_bytes(os.urandom(300_000))
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        port = int(hub.endpoint.rpartition(":")[2])
        for repo, file in [("carol/x", source), ("carol/x", other), ("carol/y", other)]:
            assert by_xet(hub.endpoint, tmp_path / "home", repo, file.name, str(file)).returncode == 0
        HfApi(endpoint=hub.endpoint, token="hf_carol").delete_repo("carol/x")
    ((kind, (count, size)),) = collect(tmp_path / "hub").items()
    assert (kind, count) == ("Xet blocks", 1) and 300_000 < size < 301_000
    with LoopbackHub(tmp_path / "hub", port=port) as hub:
        again = by_xet(hub.endpoint, tmp_path / "home", "carol/z", "a.bin", str(source))
        assert again.returncode == 0, again.stderr
        for repo, file in [("carol/z", source), ("carol/y", other)]:
            url = ask(hub, "HEAD", f"/{repo}/resolve/main/{file.name}").headers["location"]
            assert ask(hub, "GET", url[url.index("/_cdn") :]).body == file.read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--gc"], "there is no Hub in"), (["--list-tokens"], "there is no Hub in"),
        (["--revoke", "carol"], "there is no Hub in"), (["--dry-run"], "--dry-run belongs to --gc"),
        (["--gc", "--list-tokens"], "--gc and --list-tokens exclude each other"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_makes_no_folder(tmp_path: Path, options: list[str], told: str) -> None:
    done = command(tmp_path / "none", *options)
    error, hint = done.stderr.splitlines()
    assert done.returncode == 2 and error.startswith("error: ") and told in error and hint.startswith("hint: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_collected(root: Path) -> None:
    store = Store(root)
    done = command(root, "--gc")
    store.close()
    assert done.returncode == 2 and "another server uses this folder" in done.stderr
