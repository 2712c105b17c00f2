"""What this Hub does not do is refused by name, other methods by their status, and conditions on versions hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.loopback.ask import Answered, ask

if TYPE_CHECKING:
    from tests.conftest import Hub

CALLS: dict[str, Callable[[HfApi, str], object]] = {
    "buckets": lambda api, repo: api.create_bucket("alice/bucket"),
    "jobs": lambda api, repo: list(api.list_jobs(namespace="alice")),
    "webhooks": lambda api, repo: api.list_webhooks(),
    "likes": lambda api, repo: list(api.list_repo_likers(repo)),
    "likes of a user": lambda api, repo: api.list_liked_repos("alice"),
    "papers": lambda api, repo: api.paper_info("2305.18290"),
    "Spaces": lambda api, repo: api.request_space_hardware(api.create_repo(
        f"{repo}-s", repo_type="space", space_sdk="static", exist_ok=True).repo_id, "t4-medium"),
    "lists of tasks": lambda api, repo: api.get_model_tags(),
    "copies of whole repos": lambda api, repo: api.duplicate_repo(repo, "alice/copy"),
}  # fmt: skip


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(hub.endpoint, token=hub.token)


@pytest.fixture
def repo(api: HfApi, repo_id: str) -> str:
    return api.create_repo(repo_id).repo_id


@pytest.mark.parametrize("what", CALLS)
def test_what_a_client_asks_in_vain_is_named(api: HfApi, repo: str, what: str) -> None:
    with pytest.raises(HfHubHTTPError, match=f"this Hub has no {what.partition(' of a user')[0]}") as problem:
        CALLS[what](api, repo)
    assert problem.value.response.status_code == 501


@pytest.mark.parametrize(
    "path",
    [
        "/api/spaces/hardware",
        "/api/spaces/zero-gpu/quota",
        "/api/tasks",
        "/api/daily_papers",
        "/oauth/device",
        "/uploads",
    ],
)
def test_an_address_without_a_repo_is_named(hub: Hub, path: str) -> None:
    answer = ask(hub.server, "POST", path, {}, token=hub.token)
    assert (answer.status, json.loads(answer.body)["error"][:15]) == (501, "this Hub has no")


def test_a_clone_is_refused_with_the_other_way(hub: Hub, repo: str) -> None:
    clone = ask(hub.server, "GET", f"/{repo}.git/info/refs?service=git-upload-pack")
    asked = {"operation": "download", "objects": [{"oid": "0" * 64, "size": 3}]}
    large = ask(hub.server, "POST", f"/{repo}.git/info/lfs/objects/batch", asked)
    for answer in (clone, large):
        assert answer.status == 501
        assert "hf download" in json.loads(answer.body)["error"]


def test_a_private_repo_looks_missing_there_too(hub: Hub, api: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, private=True)
    with pytest.raises(RepositoryNotFoundError):
        list(HfApi(hub.endpoint, token=hub.other_token).list_repo_likers(repo))


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("PATCH", "/api/models", "GET"),
    ("OPTIONS", "/api/repos/create", "POST"),
    ("PUT", "/api/models/REPO/discussions", "GET, POST"),
    ("POST", "/api/models/REPO/settings", "PUT"),
    ("DELETE", "/REPO/resolve/main/a.txt", "GET, HEAD"),
    ("OPTIONS", "/", "GET, HEAD"),
])  # fmt: skip
def test_another_method_is_told_which_are_right(hub: Hub, repo: str, method: str, path: str, allowed: str) -> None:
    answer = ask(hub.server, method, path.replace("REPO", repo), {}, token=hub.token)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"].startswith("application/json")


def test_head_is_get_without_the_body(hub: Hub, repo: str) -> None:
    head, get = (ask(hub.server, method, f"/api/models/{repo}") for method in ("HEAD", "GET"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


# conditions


@pytest.fixture(params=["regular", "large"])
def file(request: pytest.FixtureRequest, hub: Hub, api: HfApi, repo: str) -> Callable[..., Answered]:
    """Return a function that asks for a file with headers: from git, or from the address of a large one."""
    name, content = ("a.txt", b"0123456789") if request.param == "regular" else ("a.bin", b"0123456789\0" * 10)
    api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repo)
    path = f"/{repo}/resolve/main/{name}"
    if request.param == "large":
        path = ask(hub.server, "GET", path).headers["location"].replace("localhost", "127.0.0.1")
        path = path.removeprefix(hub.endpoint)
    return lambda method="GET", **headers: ask(
        hub.server, method, path, **{key.replace("_", "-"): value for key, value in headers.items()}
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_version_that_the_client_has_is_not_sent(file: Callable[..., Answered], method: str) -> None:
    etag = file().headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = file(method, If_None_Match=known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in answer.headers
    assert file(If_None_Match='"other"').status == 200


def test_another_version_than_the_wanted_is_refused(file: Callable[..., Answered]) -> None:
    etag = file().headers["etag"]
    assert file(If_Match=etag).status == file(If_Match="*").status == 200
    assert file(If_Match='"other"').status == 412
    assert file(If_Match=f"W/{etag}").status == 412  # the comparison is a strong one


def test_a_part_of_another_version_is_not_sent(file: Callable[..., Answered]) -> None:
    whole = file()
    part = file(Range="bytes=2-4", If_Range=whole.headers["etag"])
    assert (part.status, part.body) == (206, b"234")
    for other in ('"other"', "Sat, 01 Jan 2000 00:00:00 GMT"):
        changed = file(Range="bytes=2-4", If_Range=other)
        assert (changed.status, changed.body) == (200, whole.body)


def test_a_connection_goes_on_after_a_304(hub: Hub, api: HfApi, repo: str) -> None:
    import http.client

    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)
    etag = hashlib.sha1(b"blob 1\0x").hexdigest()
    connection = http.client.HTTPConnection(hub.endpoint.partition("//")[2], timeout=30)
    for _ in range(2):
        connection.request("GET", f"/{repo}/resolve/main/a.txt", headers={"If-None-Match": f'"{etag}"'})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (304, b"")
    connection.close()


# texts that programs look for


def test_the_errors_of_refs_have_the_words_of_the_hub(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="Cannot delete refs/heads/main"):
        api.delete_branch(repo, branch="main")
    with pytest.raises(HfHubHTTPError, match="Invalid rev id: none"):
        api.delete_branch(repo, branch="none")
    with pytest.raises(HfHubHTTPError, match="Invalid rev id: none"):
        api.create_tag(repo, tag="not valid", revision="none")


def test_a_folder_is_deleted_without_its_slash(api: HfApi, repo: str) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_commit(repo, [CommitOperationAdd(f"{d}/a.txt", b"1") for d in ("d", "d2")], commit_message="two folders")
    api.create_commit(repo, [CommitOperationDelete("d")], commit_message="one")
    assert set(api.list_repo_files(repo)) == {".gitattributes", "d2/a.txt"}


def test_an_unknown_licence_is_refused(hub: Hub, repo: str) -> None:
    for licence, status in (("mit", 200), ("[mit, apache-2.0]", 200), ("asdf", 400), ("[mit, asdf]", 400)):
        content = {"content": f"---\nlicense: {licence}\n---\n", "repoType": "model"}
        answer = ask(hub.server, "POST", "/api/validate-yaml", content)
        assert answer.status == status
        assert ('"license" must be one of' in answer.body.decode().replace("\\", "")) == (status == 400)


@pytest.mark.skipif(huggingface_hub.__version__.startswith("1."), reason="this client asks huggingface.co alone")
def test_a_card_is_validated_in_words(hub: Hub, repo: str) -> None:
    card = ModelCard("---\nlicense: mit\n---\n")
    card.validate()
    card.data.license = "asdf"
    with pytest.raises(ValueError, match='^- Error: "license" must be one of'):
        card.validate()


def test_a_kernel_is_a_repo(hub: Hub, repo_id: str) -> None:
    """By hand: older clients know of no kernels."""
    asked = {"type": "kernel", "name": repo_id.partition("/")[2]}
    made = json.loads(ask(hub.server, "POST", "/api/repos/create", asked, token=hub.token).body)
    assert made["url"] == f"{hub.endpoint}/kernels/{repo_id}"
    info = json.loads(ask(hub.server, "GET", f"/api/kernels/{repo_id}").body)
    assert (info["id"], [file["rfilename"] for file in info["siblings"]]) == (repo_id, [".gitattributes"])
    assert ask(hub.server, "GET", f"/kernels/{repo_id}/resolve/main/.gitattributes").status == 200


@pytest.mark.parametrize("sdk", ["gradio", "static"])
def test_a_space_begins_with_its_sdk(api: HfApi, repo_id: str, sdk: str) -> None:
    api.create_repo(repo_id, repo_type="space", space_sdk=sdk)
    assert api.space_info(repo_id).card_data["sdk"] == sdk
