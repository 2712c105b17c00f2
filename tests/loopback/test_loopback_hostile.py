"""Hostile and malformed requests are all answered, with an id, and the repos stay intact."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hubdpo.loopback.server import LoopbackHub
from tests.loopback.ask import Answered, ask


class Place(NamedTuple):
    server: LoopbackHub
    root: Path
    api: HfApi


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("hostile") / "hub"
    with LoopbackHub(root, tokens=["carol:hf_carol", "dave:hf_dave", "eve:hf_eve:read"]) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_carol")
        api.create_repo("carol/kept")
        api.create_commit("carol/kept", [CommitOperationAdd("a/b.txt", b"text")], commit_message="files")
        api.create_tag("carol/kept", tag="v1")
        yield Place(server, root, api)


def send(
    place: Place, method: str, path: str, body: Any = None, *, token: str = "hf_carol", **headers: str
) -> Answered:
    return ask(place.server, method, path, body, token=token, **headers)


def commit(path: str, content: bytes = b"x", *, key: str = "file", summary: str = "s") -> bytes:
    value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    lines = [{"key": "header", "value": {"summary": summary}}, {"key": key, "value": value}]
    return b"\n".join(json.dumps(line).encode() for line in lines)


def whole(root: Path) -> None:
    """Run `git fsck` on every repo, and check that no file was written outside the Hub folder or in a wrong place."""
    repos = sorted(root.glob("repos/*/*/*.git"))
    assert repos and sorted(path for path in root.rglob("HEAD")) == [repo / "HEAD" for repo in repos]
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    for repo in repos:
        done = subprocess.run(["git", "-C", repo, "fsck", "--full", "--strict"], capture_output=True, text=True)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("dangling")]
        assert (done.returncode, lines) == (0, []), repo


@pytest.mark.parametrize(
    "kind", ["../../escaped", "model/carol/kept.git/refs/heads", "bucket", "models", "/etc", ["model"], {}, 1, True]
)
@pytest.mark.parametrize(("method", "route"), [("POST", "create"), ("DELETE", "delete")])
def test_a_repo_has_a_known_kind(place: Place, kind: Any, method: str, route: str) -> None:
    answer = send(place, method, f"/api/repos/{route}", {"type": kind, "name": "kept"}, token="hf_dave")
    assert answer.status in (400, 404)
    whole(place.root)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a--b", "x.git", "ü", "a\0b", "-" * 97, None, 7, [], "raw", "Resolve"]
)
def test_a_repo_has_a_plain_name(place: Place, name: Any) -> None:
    assert send(place, "POST", "/api/repos/create", {"name": name}).status == 400


PATHS = [
    "", ".", "/", "/abs", "a/", "a/b/", "a//b", "../x", "a/../../x", "./a", "a\0b", "a\nb", "\x7f", ".git/config",
    "a/.git/x", ".GIT/x", ".git./x", ".git /x", "git~1/x", "GIT~1", ".g\u200cit/config", "..\\ddd", "a\\b", "C:\\x",
    "C:/x", "c:", "x" * 256, "/".join("a" * 65), "/".join("a" * 2000), "é" * 600,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path)[:20])
def test_a_path_that_git_or_a_file_system_refuses_is_refused(place: Place, path: str) -> None:
    assert send(place, "POST", "/api/models/carol/kept/commit/main", commit(path)).status == 422
    asked = {"files": [{"path": path, "size": 1, "sample": ""}]}
    assert send(place, "POST", "/api/models/carol/kept/preupload/main", asked).status == 422


@pytest.mark.parametrize("path", ["a b", "名/ü.md", ".gitignore", "a.git", "con", "a:b", "x" * 255, "/".join("a" * 64)])
def test_a_path_that_is_only_unusual_is_taken(place: Place, path: str) -> None:
    assert send(place, "POST", "/api/models/carol/kept/commit/main", commit(f"odd/{path}"[-1024:])).status in (200, 422)
    assert send(place, "POST", "/api/models/carol/kept/commit/main", commit(path)).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "bad name", "a..b", "x.lock", "", "HEAD", "a\0b", "a~b", "a^", "a:b", "@{x", "a/", ".a", "x" * 300, "a\\b",
        "refs/pr/7", "a" * 40, "F" * 40,
    ],
)  # fmt: skip
def test_a_ref_has_a_name_that_git_takes(place: Place, name: str) -> None:
    assert send(place, "POST", "/api/models/carol/kept/tag/main", {"tag": name}).status == 400
    if name:
        with pytest.raises(HfHubHTTPError):
            place.api.create_branch("carol/kept", branch=name)


@pytest.mark.parametrize("kind", ["heads", "tags"])
def test_no_branch_or_tag_takes_over_a_commit_id(place: Place, kind: str) -> None:
    """Hubs written before have such names, and git itself allows them."""
    api, repo = place.api, f"carol/pin-{kind}"
    api.create_repo(repo)
    first = api.upload_file(repo_id=repo, path_in_repo="f", path_or_fileobj=b"1").oid
    later = api.upload_file(repo_id=repo, path_in_repo="f", path_or_fileobj=b"2").oid
    held = place.server._store.repo("model", repo)
    assert held
    with place.server._store.git(held) as git:
        git.refs[f"refs/{kind}/{first}".encode()] = later.encode()
    answer = send(place, "GET", f"/{repo}/resolve/{first}/f")
    assert (answer.body, answer.headers["x-repo-commit"]) == (b"1", first)
    delete = api.delete_branch if kind == "heads" else api.delete_tag
    delete(repo, **{"branch" if kind == "heads" else "tag": first})
    assert first not in str(api.list_repo_refs(repo))


def test_no_branch_takes_over_a_pull_request(place: Place) -> None:
    api, repo = place.api, "carol/pin-pull"
    api.create_repo(repo)
    add = CommitOperationAdd("f", b"proposed")
    number = api.create_commit(repo, [add], commit_message="Propose", create_pr=True).pr_num
    held = place.server._store.repo("model", repo)
    assert held
    with place.server._store.git(held) as git:
        git.refs[b"refs/heads/refs/pr/%d" % number] = git.refs[b"refs/heads/main"]
    assert send(place, "GET", f"/{repo}/resolve/refs%2Fpr%2F{number}/f").body == b"proposed"


@pytest.mark.parametrize("path", ["resolve/main/a/b.txt", "raw/main/a/b.txt", "resolve/main/nope"])
def test_no_page_of_another_site_shows_a_file(place: Place, path: str) -> None:
    assert send(place, "GET", f"/carol/kept/{path}").headers["cross-origin-resource-policy"] == "same-origin"


def test_every_answer_is_for_this_origin(place: Place) -> None:
    large = place.api.upload_file(repo_id="carol/kept", path_in_repo="large.bin", path_or_fileobj=os.urandom(2**16))
    signed = send(place, "GET", f"/carol/kept/resolve/{large.oid}/large.bin").headers["location"]
    for path in ("/api/models", "/nope", signed.partition("/_cdn")[1] + signed.partition("/_cdn")[2]):
        assert send(place, "GET", path, token="").headers["cross-origin-resource-policy"] == "same-origin", path


def test_a_ref_cannot_stand_below_another(place: Place) -> None:
    place.api.create_branch("carol/kept", branch="topic")
    place.api.create_branch("carol/kept", branch="deep/er")
    for name in ("topic/more", "deep"):
        assert send(place, "POST", f"/api/models/carol/kept/branch/{name}", {}).status == 409


def test_no_commit_moves_a_tag(place: Place) -> None:
    assert send(place, "POST", "/api/models/carol/kept/commit/refs%2Ftags%2Fv1", commit("new")).status == 404


@pytest.mark.parametrize("summary", ["a\0b"])
def test_a_message_that_git_cannot_hold_is_refused(place: Place, summary: str) -> None:
    assert send(place, "POST", "/api/models/carol/kept/commit/main", commit("a.txt", summary=summary)).status == 400
    assert send(place, "POST", "/api/models/carol/kept/tag/main", {"tag": "v2", "message": summary}).status == 400


@pytest.mark.parametrize("path", ["a", "a/b.txt/c"])
def test_a_file_never_takes_the_name_of_a_folder(place: Place, path: str) -> None:
    assert send(place, "POST", "/api/models/carol/kept/commit/main", commit(path)).status == 400


LONE = b'{"key": "file", "value": {"path": "\\ud800", "content": ""}}'
HEADER = b'{"key": "header", "value": {"summary": "s"}}\n'
MALFORMED: list[tuple[str, str, Any]] = [
    ("GET", "/api/models/carol/kept/commits/main?p=x", None),
    ("GET", "/api/models/carol/kept/commits/main?limit=-1", None),
    ("GET", "/api/models/carol/kept/tree/main?cursor=x", None),
    ("GET", "/api/models/carol/kept/discussions?p=²", None),
    ("POST", "/api/models/carol/kept/preupload/main", {"files": ["a"]}),
    ("POST", "/api/models/carol/kept/preupload/main", {"files": [{"path": "a", "sample": "!"}]}),
    ("POST", "/api/models/carol/kept/preupload/main", {"files": [{"path": "a", "size": "1"}]}),
    ("POST", "/carol/kept.git/info/lfs/objects/batch", {"operation": "upload", "objects": [None]}),
    ("POST", "/carol/kept.git/info/lfs/objects/batch", {"operation": "upload", "objects": 3}),
    ("POST", "/api/models/carol/kept/commit/main", HEADER + LONE),
    ("POST", "/api/models/carol/kept/commit/main", HEADER + b'{"key": "file", "value": []}'),
    ("POST", "/api/models/carol/kept/commit/main", b'{"key": "header", "value": "s"}'),
    ("POST", "/api/models/carol/kept/commit/main", b"[" * 100_000),
    ("POST", "/api/models/carol/kept/commit/main", commit("README.md", b"---\nx: " + b"[" * 9_000 + b"\n---\n")),
    ("POST", "/api/models/carol/kept/commit/main", commit("README.md", b"---\nx: 2026-99-99\n---\n")),
    ("POST", "/api/models/carol/kept/commit/main", commit("README.md", b"---\nx: &a [*a]\n---\n")),
    ("POST", "/api/models/carol/kept/paths-info/main", {"paths": [1]}),
    ("POST", "/api/repos/create", b"\xff"),
    ("POST", "/api/collections", {"title": ["x"], "namespace": "carol"}),
    ("POST", "/api/models/carol/kept/discussions", {"title": None}),
    ("PUT", "/api/models/carol/kept/settings", {"private": "yes"}),
]


@pytest.mark.parametrize(
    ("method", "path", "body"), MALFORMED, ids=lambda part: part[-20:] if isinstance(part, str) else ""
)
def test_what_is_malformed_is_refused_and_not_dropped(
    place: Place, method: str, path: str, body: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    kind = {"Content-Type": "application/json"}
    answer = send(place, method, path.replace("²", "%C2%B2"), body, **kind)
    assert (answer.status, capfd.readouterr().err) in [(400, "")]
    assert json.loads(answer.body)["error"] and answer.headers["x-request-id"]


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_gating_is_refused_and_not_forgotten(place: Place, gated: str) -> None:
    assert send(place, "PUT", "/api/models/carol/kept/settings", {"gated": gated}).status == 501


def test_a_date_in_a_card_is_shown_as_text(place: Place) -> None:
    place.api.create_repo("carol/dated")
    place.api.upload_file(
        repo_id="carol/dated", path_in_repo="README.md", path_or_fileobj=b"---\nday: 2026-01-02\n---\n"
    )
    assert json.loads(send(place, "GET", "/api/models/carol/dated").body)["cardData"] == {"day": "2026-01-02"}


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_an_id_without_a_namespace_is_a_repo_that_is_not_there(place: Place, kind: str) -> None:
    for exists in (place.api.repo_exists, place.api.file_exists, place.api.revision_exists):
        arguments = () if exists == place.api.repo_exists else ("main",)
        assert exists("gpt2", *arguments, repo_type=kind) is False
    for ask_more in (place.api.repo_info, place.api.list_repo_commits, place.api.list_repo_refs):
        with pytest.raises(RepositoryNotFoundError):
            ask_more("gpt2", repo_type=kind)


def test_what_fails_unforeseen_is_a_500_with_an_id(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(place.server._routes, "_route", fail)
    answer = send(place, "GET", "/api/whoami-v2", **{"X-Request-Id": "mine-1"})
    assert (answer.status, answer.headers["x-request-id"]) == (500, "mine-1")
    assert "mine-1" in json.loads(answer.body)["error"]
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert place.server.requests[-1].id == "mine-1"


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "BREW"])
def test_a_method_that_nothing_answers_has_an_answer(place: Place, method: str) -> None:
    answer = send(place, method, "/api/models")
    assert answer.status in (405, 501) and answer.headers["x-request-id"] and json.loads(answer.body)["error"]


@pytest.mark.parametrize("header", ["Content-Length: x", "Content-Length: -1", "Transfer-Encoding: chunked"])
def test_a_body_without_a_length_is_refused(place: Place, header: str) -> None:
    _, _, address = place.server.endpoint.partition("//")
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.putrequest("POST", "/api/repos/create")
    connection.putheader("Content-Type", "application/json")
    connection.putheader(*header.split(": "))
    connection.endheaders()
    connection.send(b"zz\r\n")
    answer = connection.getresponse()
    assert answer.status == 400 and answer.headers["X-Request-Id"]
    connection.close()


@pytest.mark.parametrize("header", ["Basic %%%", "Bearer \xff", "Basic w79=", "Nothing"])
def test_credentials_that_cannot_be_read_are_not_valid(place: Place, header: str) -> None:
    assert send(place, "GET", "/api/whoami-v2", Authorization=header).status == 401


VALUES = [
    "",
    "x",
    "main",
    "../..",
    "a\0b",
    "\ud800",
    "é",
    "a" * 300,
    None,
    0,
    -1,
    2**70,
    1.5,
    True,
    [],
    {},
    [[]],
    {"a": 1},
]
NAMES = [
    "type", "name", "organization", "private", "visibility", "files", "path", "size", "sample", "operation", "objects",
    "oid", "paths", "expand", "startingPoint", "tag", "message", "title", "description", "comment", "status", "item",
    "namespace", "note", "content", "gitIgnore", "pullRequest", "gated",
]  # fmt: skip
ROUTES = """
    POST /api/repos/create; DELETE /api/repos/delete; POST /api/validate-yaml; GET /api/models; GET /api/collections
    POST /api/collections; POST /api/collections/{}/{}/items; GET /api/models/{}; GET /api/datasets/{}/{}
    GET /api/models/carol/{}; GET /api/models/carol/kept/revision/{}; GET /api/models/carol/kept/tree/{}/{}
    POST /api/models/carol/kept/paths-info/{}; GET /api/models/carol/kept/refs; POST /api/models/carol/kept/branch/{}
    GET /api/models/carol/kept/commits/{}; DELETE /api/models/carol/kept/branch/{}; POST /api/models/carol/kept/tag/{}
    DELETE /api/models/carol/kept/tag/{}; PUT /api/models/carol/kept/settings; POST /api/models/carol/kept/preupload/{}
    POST /api/models/carol/kept/commit/{}; POST /api/models/carol/kept/discussions; GET /{}/{}/resolve/{}/{}
    POST /api/models/carol/kept/discussions/{}/{}; GET /api/models/carol/kept/discussions/{}; HEAD /{}/resolve/{}
    POST /carol/kept.git/info/lfs/objects/batch; POST /carol/kept.git/info/lfs/objects/verify; GET /_cdn/{}
    PUT /_lfs/model/{}/{}/{}; GET /api/models/carol/kept/xet-write-token/{}; POST /_xet/v1/xorbs/default/{}
    POST /_xet/v1/shards; GET /_xet/v1/reconstructions/{}; GET /_xet/v1/chunks/default/{}; GET /carol/kept/raw/main/{}
"""
WORDS = [
    "main", "kept", "carol", "dave", "v1", "a", "a%2Fb.txt", "refs%2Fpr%2F1", "refs%2Ftags%2Fv1", "..%2F..", "%00",
    "%FF", "a%5Cb", "1", "merge", "status", "comment", "HEAD", "%20", ".git", "x" * 300, "0" * 40, "0" * 64,
]  # fmt: skip
QUERIES = ["", "?p=x", "?cursor=-1", f"?limit={10**20}", "?create_pr=1", "?recursive=true", "?%00=%FF", "?until=x"]


def drawn_body(draw: random.Random, route: str) -> bytes:
    if route.startswith("POST /_xet") or draw.random() < 0.1:
        return draw.choice([b"", b"\xff\x00", b"[", b"null", b"[" * 5_000, draw.randbytes(200)])
    if "/commit/" in route:
        path = draw.choice(["a/b.txt", "a", "README.md", "n/" + "m/" * draw.randrange(5) + "o", *PATHS])
        key = draw.choice(["file", "deletedFile", "deletedFolder", "lfsFile", "header", "other"])
        content = draw.choice([b"x", b"---\nlicense: [\n---\n", b"---\ntags: 1\n---\n", draw.randbytes(50)])
        return commit(path, content, key=key, summary=draw.choice(["s", "", "a\0b", "\u2028" * 3]))
    fields = {name: draw.choice(VALUES) for name in draw.sample(NAMES, draw.randrange(6))}
    if draw.random() < 0.5:
        fields |= {"name": f"r{draw.randrange(8)}", "tag": draw.choice(["t1", "t2", "a/b", "a"]), "title": "a title"}
        fields = {name: fields[name] for name in draw.sample(sorted(fields), draw.randrange(1, len(fields) + 1))}
    return json.dumps(fields).encode()


@pytest.mark.slow
def test_repos_stay_whole_under_thousands_of_odd_requests(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """HUBDPO_FUZZ sets the number of requests, HUBDPO_FUZZ_SEED the seed."""
    draw = random.Random(int(os.environ.get("HUBDPO_FUZZ_SEED", "12")))
    routes = [route.strip() for line in ROUTES.strip().splitlines() for route in line.split(";")]
    kind, seen = {"Content-Type": "application/json"}, Counter[int]()
    for _ in range(int(os.environ.get("HUBDPO_FUZZ", "5000"))):
        route = draw.choice(routes)
        method, _, path = route.partition(" ")
        path = path.format(*(draw.choice(WORDS) for _ in range(4))) + draw.choice(QUERIES)
        token = draw.choice(["hf_carol", "hf_carol", "hf_carol", "hf_dave", "hf_eve", "hf_none"])
        body = None if method in ("GET", "HEAD") else drawn_body(draw, route)
        answer = send(place, method, path, body, token=token, **kind)
        assert answer.headers["x-request-id"] and answer.status not in (500, 502), (method, path, body)
        seen[answer.status] += 1
    assert capfd.readouterr().err == ""
    assert seen[200] > 100 and {400, 401, 403, 404, 409, 422} <= set(seen)
    whole(place.root)
    assert place.api.repo_info("carol/kept").sha
