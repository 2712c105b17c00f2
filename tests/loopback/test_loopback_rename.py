"""A renamed repo is found by its old id, with all that belongs to it; ids that differ only in case are one id."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dulwich.repo import Repo as GitRepo
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.store import Repo, Store
from tests.loopback.ask import ask

LARGE = bytes(range(256)) * 40


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    tokens = ["carol:hf_carol", "dave:hf_dave"]
    with LoopbackHub(tmp_path / "hub", tokens=tokens, orgs=["team:carol,dave"]) as made:
        yield made


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    made = HfApi(endpoint=hub.endpoint, token="hf_carol")
    made.create_repo("carol/old")
    made.upload_file(repo_id="carol/old", path_in_repo="w.bin", path_or_fileobj=LARGE)
    return made


def test_all_that_belongs_to_a_repo_moves_with_it(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    discussion = api.create_discussion("carol/old", "a title")
    collection = api.create_collection("mine")
    api.add_collection_item(collection.slug, "carol/old", "model")
    api.move_repo("carol/old", "carol/new")
    assert api.model_info("carol/new").id == "carol/new"
    assert [each.title for each in api.get_repo_discussions("carol/new")] == ["a title"]
    assert api.get_discussion_details("carol/new", discussion.num).repo_id == "carol/new"
    assert [item.item_id for item in api.get_collection(collection.slug).items] == ["carol/new"]
    folder = snapshot_download("carol/new", endpoint=hub.endpoint, token="hf_carol", cache_dir=tmp_path / "cache")
    assert (Path(folder) / "w.bin").read_bytes() == LARGE
    # a commit that refers to the large file, without a second upload
    api.create_commit("carol/new", [CommitOperationAdd("again.bin", LARGE)], commit_message="again")


def test_reads_of_the_old_id_are_redirected(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    api.move_repo("carol/old", "carol/new")
    told = ask(hub, "GET", "/api/models/carol/old/tree/main?recursive=true", token="hf_carol")
    assert (told.status, told.headers["location"]) == (307, "/api/models/carol/new/tree/main?recursive=true")
    told = ask(hub, "HEAD", "/carol/old/resolve/main/a%2Fb", token="hf_carol")
    assert (told.status, told.headers["location"]) == (307, "/carol/new/resolve/main/a%2Fb")
    assert api.model_info("carol/old").id == "carol/new"
    there = hf_hub_download("carol/old", "w.bin", endpoint=hub.endpoint, token="hf_carol", cache_dir=tmp_path)
    assert Path(there).read_bytes() == LARGE


def test_writes_to_the_old_id_reach_the_repo(api: HfApi) -> None:
    api.move_repo("carol/old", "carol/new")
    api.upload_file(repo_id="carol/old", path_in_repo="later.bin", path_or_fileobj=LARGE + b"later")
    assert api.file_exists("carol/new", "later.bin")


def test_an_upload_that_began_before_the_rename_ends_after_it(hub: LoopbackHub, api: HfApi) -> None:
    content = LARGE + b"under way"
    oid = hashlib.sha256(content).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
    answer = ask(hub, "POST", "/carol/old.git/info/lfs/objects/batch", body, token="hf_carol")
    address = json.loads(answer.body)["objects"][0]["actions"]["upload"]["href"]
    api.move_repo("carol/old", "carol/new")
    assert ask(hub, "PUT", address[address.index("/_lfs") :], content).status == 200
    api.create_commit("carol/new", [CommitOperationAdd("under-way.bin", content)], commit_message="again")
    assert [each.method for each in hub.requests].count("PUT") == 2  # the one above, and the one of the fixture


def test_the_key_of_a_repo_stays(hub: LoopbackHub, api: HfApi) -> None:
    before = json.loads(ask(hub, "GET", "/api/models/carol/old").body)["_id"]
    api.move_repo("carol/old", "carol/new")
    assert json.loads(ask(hub, "GET", "/api/models/carol/new").body)["_id"] == before
    api.create_repo("carol/old")
    assert json.loads(ask(hub, "GET", "/api/models/carol/old").body)["_id"] != before


@pytest.mark.parametrize(
    "path", ["/api/models/carol/old", "/api/models/carol/old/tree/main", "/carol/old/resolve/main/a"]
)
def test_a_repo_that_is_deleted_while_it_is_read_is_missing(
    hub: LoopbackHub, api: HfApi, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    git = Store.git

    def late(store: Store, repo: Repo) -> GitRepo:
        monkeypatch.undo()
        api.delete_repo("carol/old")
        return git(store, repo)

    monkeypatch.setattr(Store, "git", late)
    answer = ask(hub, "GET", path, token="hf_carol")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")


@pytest.mark.parametrize(
    "path",
    ["/api/models", "/api/models?full=true", "/api/models?filter=x", "/api/models?sort=lastModified",
     "/api/settings/repositories"],
)  # fmt: skip
@pytest.mark.parametrize("turn", [1, 2])
def test_a_repo_that_is_deleted_while_repos_are_listed_disturbs_no_list(
    hub: LoopbackHub, api: HfApi, monkeypatch: pytest.MonkeyPatch, path: str, turn: int
) -> None:
    api.create_repo("carol/stays")
    git, turns = Store.git, itertools.count(1)

    def late(store: Store, repo: Repo) -> GitRepo:
        if repo.id == "carol/old" and next(turns) == turn:
            monkeypatch.setattr(Store, "git", git)
            api.delete_repo("carol/old")
            (store.git_folder(repo) / "hooks").mkdir(parents=True)  # as it is when half of it is removed
        return git(store, repo)

    monkeypatch.setattr(Store, "git", late)
    answer = ask(hub, "GET", path, token="hf_carol")
    assert answer.status == 200
    assert {entry["id"] for entry in json.loads(answer.body)} <= {"carol/stays", "carol/old"}
    assert Store.git is git or turn == 2, "it was deleted"


def test_a_renamed_repo_is_not_deleted_by_its_old_id(api: HfApi) -> None:
    api.move_repo("carol/old", "carol/new")
    with pytest.raises(RepositoryNotFoundError, match="carol/new"):
        api.delete_repo("carol/old")
    assert api.repo_exists("carol/new")


def test_a_new_repo_takes_the_old_name(api: HfApi) -> None:
    api.move_repo("carol/old", "carol/new")
    api.create_repo("carol/old")
    assert api.model_info("carol/old").id == "carol/old" and not api.file_exists("carol/old", "w.bin")
    api.delete_repo("carol/old")
    assert not api.repo_exists("carol/old")  # the name no longer stands for the renamed repo
    assert api.file_exists("carol/new", "w.bin")


def test_a_repo_renamed_back_and_on_is_found_by_every_name(api: HfApi) -> None:
    for old, new in [("old", "b"), ("b", "old"), ("old", "c"), ("c", "d")]:
        api.move_repo(f"carol/{old}", f"carol/{new}")
    assert {api.model_info(f"carol/{name}").id for name in ("old", "b", "c", "d")} == {"carol/d"}


def test_a_rename_survives_a_restart(api: HfApi, hub: LoopbackHub, tmp_path: Path) -> None:
    api.move_repo("carol/old", "carol/new")
    hub._store.close()
    with LoopbackHub(tmp_path / "hub") as again:
        later = HfApi(endpoint=again.endpoint, token="hf_carol")
        assert later.model_info("carol/old").id == "carol/new" and later.file_exists("carol/new", "w.bin")


def test_collections_follow_a_rename_that_a_killed_server_did_not_finish(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_repo("carol/old")
        slug = api.create_collection("mine").slug
        api.add_collection_item(slug, "carol/old", "model")
    store = Store(tmp_path / "hub")
    repo = store.repo("model", "carol/old")
    assert repo is not None
    store.rename(repo, "carol/new")
    store.close()
    with LoopbackHub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_repo("carol/old")
        assert [item.item_id for item in api.get_collection(slug).items] == ["carol/new"]


def test_a_repo_moves_between_own_namespaces(api: HfApi) -> None:
    api.move_repo("carol/old", "team/shared")
    other = HfApi(endpoint=api.endpoint, token="hf_dave")
    other.upload_file(repo_id="team/shared", path_in_repo="b.txt", path_or_fileobj=b"of dave")
    other.move_repo("team/shared", "dave/mine")
    assert api.model_info("carol/old").author == "dave"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("carol/old", "dave/mine", 403), ("dave/his", "carol/mine", 403), ("carol/none", "carol/new", 404),
        ("carol/old", "carol/there", 409), ("carol/old", "carol/THERE", 409), ("carol/old", "carol/a..b", 400),
    ],
)  # fmt: skip
def test_a_rename_that_is_not_allowed_changes_nothing(api: HfApi, old: str, new: str, status: int) -> None:
    HfApi(endpoint=api.endpoint, token="hf_dave").create_repo("dave/his")
    api.create_repo("carol/there")
    with pytest.raises(HfHubHTTPError) as refused:
        api.move_repo(old, new)
    assert refused.value.response.status_code == status
    assert sorted(model.id for model in api.list_models()) == ["carol/old", "carol/there", "dave/his"]


def test_an_old_name_tells_nothing_about_a_private_repo(hub: LoopbackHub, api: HfApi) -> None:
    api.update_repo_settings("carol/old", private=True)
    api.move_repo("carol/old", "carol/new")
    for token in ("", "hf_dave"):
        told = [ask(hub, "GET", f"/api/models/carol/{name}", token=token) for name in ("old", "never")]
        assert told[0].status == told[1].status != 307 and told[0].body == told[1].body


def test_reads_and_commits_during_renames_lose_nothing(api: HfApi) -> None:
    """Every reader finds the repo at each moment, and every acknowledged commit is in it at the end."""
    failed: list[Exception] = []
    committed: list[str] = []
    stop = threading.Event()

    def work(action: str, number: int) -> None:
        own = HfApi(endpoint=api.endpoint, token="hf_carol")
        turn = 0
        while not stop.is_set() and turn < 12:
            turn += 1
            try:
                if action == "read":
                    assert own.model_info("carol/old").id in ("carol/old", "carol/new")
                else:
                    name = f"{number}-{turn}.txt"
                    own.upload_file(repo_id="carol/old", path_in_repo=name, path_or_fileobj=name.encode())
                    committed.append(name)
            except Exception as problem:
                failed.append(problem)

    threads = [threading.Thread(target=work, args=(action, n)) for n, action in enumerate(["read", "write"] * 2)]
    for thread in threads:
        thread.start()
    turns = 0
    while any(thread.is_alive() for thread in threads):
        api.move_repo("carol/old", "carol/new")
        api.move_repo("carol/new", "carol/old")
        turns += 1
    for thread in threads:
        thread.join()
    assert failed == [] and turns > 0 and len(committed) == 24
    assert {*committed, "w.bin"} <= set(api.list_repo_files("carol/old"))
    assert len(api.list_repo_commits("carol/old")) == 26


def test_ids_in_another_case_are_the_same_repo(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    assert ask(hub, "GET", "/api/models/Carol/OLD").headers["location"] == "/api/models/carol/old"
    assert api.model_info("CAROL/Old").id == "carol/old"
    api.create_commit("carol/OLD", [CommitOperationAdd("b.bin", LARGE + b"b")], commit_message="in another case")
    there = hf_hub_download("carol/Old", "b.bin", endpoint=hub.endpoint, token="hf_carol", cache_dir=tmp_path)
    assert Path(there).read_bytes() == LARGE + b"b"
    with pytest.raises(HfHubHTTPError, match="already created this model repo: carol/old"):
        api.create_repo("carol/OLD")
    api.delete_repo("carol/OLD")
    assert not api.repo_exists("carol/old")


def test_a_repo_changes_the_case_of_its_name(api: HfApi) -> None:
    api.move_repo("carol/old", "carol/Old")
    assert api.model_info("carol/old").id == "carol/Old"
