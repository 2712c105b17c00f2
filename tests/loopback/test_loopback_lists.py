"""Lists of repos are searched, filtered, sorted and paged as the client asks, and never show what is private."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubdpo.loopback.server import LoopbackHub
from tests.loopback.ask import ask

CARD = "---\nlicense: mit\nlanguage: [en, de]\ntags: [dpo]\n{more}---\ntext\n"
MODELS = ["carol/alpha-1", "carol/alpha-2", "carol/alpha-3", "dave/Beta"]
"""The public models, in the order in which they are created."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """Four public and two private models, `alpha-1` changed last, then `alpha-3`; two datasets and a Space."""
    tokens = ["carol:hf_carol", "dave:hf_dave", "eve:hf_eve"]
    with LoopbackHub(tmp_path_factory.mktemp("lists") / "hub", tokens=tokens, orgs=["team:carol,dave"]) as made:
        carol, dave = HfApi(endpoint=made.endpoint, token="hf_carol"), HfApi(endpoint=made.endpoint, token="hf_dave")
        for name in MODELS:
            (carol if name.startswith("carol") else dave).create_repo(name)
        carol.create_repo("carol/hidden", private=True)
        carol.create_repo("team/hidden", private=True)
        for name in ("pairs", "others"):
            carol.create_repo(f"carol/{name}", repo_type="dataset")
        carol.create_repo("carol/app", repo_type="space", space_sdk="static")
        model = CARD.format(more="library_name: peft\npipeline_tag: text-generation\ndatasets: [carol/pairs]\n")
        data = CARD.format(more="task_categories: [text-generation]\nsize_categories: n<1K\n")
        upload(carol, "carol/alpha-2", "README.md", model)
        upload(carol, "carol/pairs", "README.md", data, repo_type="dataset")
        upload(carol, "carol/app", "README.md", "---\nsdk: static\nmodels: carol/alpha-1\n---\n", repo_type="space")
        for name, seconds in (("carol/alpha-3", 1000), ("carol/alpha-1", 2000)):
            with mock.patch("hubdpo.loopback.gitio.time") as clock:
                clock.time.return_value = time.time() + seconds
                upload(carol, name, "a.txt", "later")
        yield made


def upload(api: HfApi, repo: str, path: str, text: str, **options: Any) -> None:
    api.upload_file(repo_id=repo, path_in_repo=path, path_or_fileobj=text.encode(), **options)


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token="hf_eve")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, MODELS), ({"search": "BETA"}, ["dave/Beta"]), ({"search": "carol"}, MODELS[:3]), ({"search": "none"}, []),
        ({"author": "dave"}, ["dave/Beta"]), ({"author": "carol", "search": "3"}, ["carol/alpha-3"]),
        ({"filter": "dpo"}, ["carol/alpha-2"]), ({"filter": ["peft", "license:mit"]}, ["carol/alpha-2"]),
        ({"filter": ["dpo", "none"]}, []), ({"trained_dataset": "carol/pairs"}, ["carol/alpha-2"]),
        ({"pipeline_tag": "text-generation"}, ["carol/alpha-2"]), ({"pipeline_tag": "none"}, []),
        ({"gated": True}, []), ({"gated": False}, MODELS), ({"limit": 2}, MODELS[:2]),
        ({"sort": "created_at"}, MODELS[::-1]), ({"sort": "created_at", "limit": 1}, ["dave/Beta"]),
        ({"sort": "last_modified", "limit": 2}, ["carol/alpha-1", "carol/alpha-3"]),
        *(({"sort": sort}, MODELS) for sort in ("downloads", "likes", "trending_score")),
    ],
    ids=str,
)  # fmt: skip
def test_models_are_found(api: HfApi, asked: dict[str, Any], found: list[str]) -> None:
    assert [model.id for model in api.list_models(**asked)] == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["others", "pairs"]), ({"filter": "dpo"}, ["pairs"]), ({"language": "de"}, ["pairs"]),
        ({"task_categories": "text-generation", "size_categories": "n<1K"}, ["pairs"]),
        ({"language": "fr"}, []), ({"search": "oth", "dataset_name": "ers"}, ["others"]), ({"sort": "likes"}, None),
    ],
    ids=str,
)  # fmt: skip
def test_datasets_are_found(api: HfApi, asked: dict[str, Any], found: list[str] | None) -> None:
    names = found if found is not None else ["others", "pairs"]
    assert [each.id for each in api.list_datasets(**asked)] == [f"carol/{name}" for name in names]


def test_spaces_are_found_by_what_they_use(api: HfApi) -> None:
    assert [space.id for space in api.list_spaces(models="carol/alpha-1")] == ["carol/app"]
    assert list(api.list_spaces(models="carol/alpha-2")) == list(api.list_spaces(datasets="carol/pairs")) == []
    assert next(iter(api.list_spaces())).sdk == "static"


def test_an_entry_says_what_is_known(api: HfApi, hub: LoopbackHub) -> None:
    model = next(iter(api.list_models(search="alpha-2")))
    info = api.model_info("carol/alpha-2")
    for name in ("sha", "last_modified", "created_at", "tags", "private", "author", "pipeline_tag", "library_name"):
        assert getattr(model, name) == getattr(info, name) is not None
    assert (model.downloads, model.likes, model.trending_score, model.gated) == (0, 0, 0, False)
    assert model.tags == ["peft", "dpo", "text-generation", "en", "de", "dataset:carol/pairs", "license:mit"]
    assert model.siblings is None and model.card_data is None
    full = next(iter(api.list_models(search="alpha-2", full=True, cardData=True)))
    assert [sibling.rfilename for sibling in full.siblings or []] == [".gitattributes", "README.md"]
    assert full.card_data is not None and full.card_data.license == "mit"


def test_expanded_fields_alone_are_sent(hub: LoopbackHub, api: HfApi) -> None:
    (entry,) = json.loads(ask(hub, "GET", "/api/models?search=alpha-2&expand=sha&expand=usedStorage&expand=x").body)
    assert entry.keys() == {"_id", "id", "sha", "usedStorage"} and entry["usedStorage"] > 100
    model = next(iter(api.list_models(search="alpha-2", expand=["cardData", "siblings"])))
    assert model.card_data is not None and model.siblings and model.sha is None


def test_an_entry_is_new_after_a_commit(api: HfApi, hub: LoopbackHub) -> None:
    carol = HfApi(endpoint=hub.endpoint, token="hf_carol")
    carol.create_repo("carol/changing")
    assert list(api.list_models(filter="changed")) == []
    upload(carol, "carol/changing", "README.md", "---\ntags: [changed]\n---\n")
    assert [model.id for model in api.list_models(filter="changed")] == ["carol/changing"]
    carol.delete_repo("carol/changing")
    assert list(api.list_models(filter="changed")) == []


def test_the_same_commit_in_a_model_and_a_dataset_has_the_tags_of_each(tmp_path: Path) -> None:
    with (
        LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub,
        mock.patch("hubdpo.loopback.gitio.time") as now,
    ):
        now.time.return_value = time.time()
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        for kind in ("model", "dataset"):
            api.create_repo("carol/x", repo_type=kind)
            upload(api, "carol/x", "README.md", "---\nlanguage: en\n---\n", repo_type=kind)
        model, dataset = next(iter(api.list_models())), next(iter(api.list_datasets()))
    assert model.sha == dataset.sha and (model.tags, dataset.tags) == (["en"], ["language:en"])


def test_a_branch_that_git_packed_is_listed(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_repo("carol/x")
        sha = api.model_info("carol/x").sha
        folder = tmp_path / "hub" / "repos" / "model" / "carol" / "x.git"
        (folder / "refs" / "heads" / "main").unlink()
        (folder / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{sha} refs/heads/main\n")
        assert [model.sha for model in api.list_models()] == [sha]


@pytest.mark.parametrize("sort", ["", "sort=createdAt", "sort=lastModified&direction=1", "sort=likes&direction=-1"])
def test_pages_hold_every_repo_once(hub: LoopbackHub, sort: str) -> None:
    whole = [entry["id"] for entry in json.loads(ask(hub, "GET", f"/api/models?{sort}").body)]
    seen, path = [], f"/api/models?limit=3&search=a&{sort}"
    for _ in range(5):
        answer = ask(hub, "GET", path)
        seen.append([entry["id"] for entry in json.loads(answer.body)])
        link = answer.headers.get("link", "")
        if not link:
            break
        assert link.endswith('>; rel="next"')
        path = link[link.index("/api") : link.index(">")]
    assert [name for page in seen for name in page] == whole and [len(page) for page in seen] == [3, 1]


def test_a_page_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """Although a repo of the first page was deleted, and another was created before its end."""
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        for name in "bcde":
            api.create_repo(f"carol/{name}")
        link = ask(hub, "GET", "/api/models?limit=2").headers["link"]
        api.delete_repo("carol/b")
        api.create_repo("carol/a")
        left = json.loads(ask(hub, "GET", link[link.index("/api") : link.index(">")]).body)
    assert [entry["id"] for entry in left] == ["carol/d", "carol/e"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("sort=stars", 400), ("cursor=x", 400), ("limit=x", 400), ("limit=0", 200), ("limit=99999", 200)]
    + [(f"{name}=x", 501) for name in ("apps", "inference", "inference_provider", "num_parameters")],
)
def test_what_cannot_be_asked_is_refused(hub: LoopbackHub, query: str, status: int) -> None:
    answer = ask(hub, "GET", f"/api/models?{query}")
    assert answer.status == status and (status == 200 or json.loads(answer.body)["error"])


@pytest.mark.parametrize(
    ("token", "hidden"), [("", []), ("hf_eve", []), ("hf_dave", ["team"]), ("hf_carol", ["carol", "team"])]
)
def test_private_repos_are_listed_for_their_owners(hub: LoopbackHub, token: str, hidden: list[str]) -> None:
    for query in ("search=hidden", "search=hidden&sort=lastModified", "search=hidden&full=true"):
        entries = json.loads(ask(hub, "GET", f"/api/models?{query}", token=token).body)
        assert sorted(entry["id"] for entry in entries) == [f"{owner}/hidden" for owner in hidden]


def test_what_repos_take_is_listed_for_their_owners(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "eve:hf_eve"], orgs=["team:carol"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_repo("carol/large", private=True)
        api.create_repo("carol/small", repo_type="dataset")
        api.create_repo("team/shared")
        api.upload_file(repo_id="carol/large", path_in_repo="w.bin", path_or_fileobj=bytes(range(256)) * 4000)
        large, small = api.list_user_repos()
        assert (large.id, large.type, large.visibility) == ("carol/large", "model", "private")
        assert (small.id, small.type, small.visibility) == ("carol/small", "dataset", "public")
        assert 1_024_000 < large.storage < 1_100_000 and 0 < small.storage < 20_000
        assert large.updated_at == api.model_info("carol/large").last_modified
        assert round(large.storage_percent + small.storage_percent) == 100
        assert [repo.id for repo in api.list_user_repos("TEAM")] == ["team/shared"]
        for token, org, status in [("hf_eve", "team", 403), ("hf_eve", "none", 404), (False, "team", 401)]:
            with pytest.raises(HfHubHTTPError) as refused:
                list(HfApi(endpoint=hub.endpoint, token=token).list_user_repos(org))
            assert refused.value.response.status_code == status


def test_users_and_organisations_are_described(hub: LoopbackHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)  # some versions take no other here
    user = api.get_user_overview("Carol")
    assert (user.username, user.num_models, user.num_datasets, user.num_spaces) == ("carol", 3, 2, 1)
    assert [org.name for org in user.orgs] == ["team"]
    org = api.get_organization_overview("team")
    assert (org.name, org.num_users, org.num_models) == ("team", 2, 0)  # its model is private
    assert json.loads(ask(hub, "GET", "/api/organizations/team/overview", token="hf_dave").body)["numModels"] == 1
    members = api.list_organization_members("team")
    assert [member.username for member in members] == ["carol", "dave"]
    assert list(api.list_organization_followers("team")) == []
    assert list(api.list_user_followers("carol")) == []
    for ask_for in (api.get_user_overview, api.get_organization_overview):
        with pytest.raises(HfHubHTTPError, match="404"):
            ask_for("nobody")


def test_gating_is_refused_with_a_reason(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)  # some versions take no other here
    carol = HfApi(endpoint=hub.endpoint, token="hf_carol")
    calls = [
        lambda: carol.update_repo_settings("carol/alpha-1", gated="auto"),
        lambda: carol.update_repo_settings("carol/alpha-1", gated="manual"),
        lambda: list(carol.list_pending_access_requests("carol/alpha-1")),
        lambda: list(carol.list_accepted_access_requests("carol/alpha-1")),
        lambda: list(carol.list_rejected_access_requests("carol/alpha-1")),
        lambda: carol.accept_access_request("carol/alpha-1", "dave"),
        lambda: carol.reject_access_request("carol/alpha-1", "dave", rejection_reason="none"),
        lambda: carol.cancel_access_request("carol/alpha-1", "dave"),
        lambda: carol.grant_access("carol/alpha-1", "dave"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(HfHubHTTPError, match="no gated repos") as refused:
            call()
        assert refused.value.response.status_code == 501
    carol.update_repo_settings("carol/alpha-1", gated=False)
    assert carol.model_info("carol/alpha-1").gated is False
