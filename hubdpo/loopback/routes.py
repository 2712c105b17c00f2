"""From a raw path to the part of the Hub that answers it."""

from __future__ import annotations

import hashlib

from hubdpo.loopback.access import authenticate, may_read, may_write
from hubdpo.loopback.collections import Collections
from hubdpo.loopback.commits import Commits
from hubdpo.loopback.files import Files
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.pulls import Pulls
from hubdpo.loopback.repos import Repos
from hubdpo.loopback.signing import Signer
from hubdpo.loopback.store import Store
from hubdpo.loopback.wire import Answer, Refusal, Request, as_json
from hubdpo.loopback.xet.routes import Xet
from hubdpo.loopback.xet.store import XetStore

LARGE_FILES = ["info", "lfs", "objects"]


class Routes:
    def __init__(self, store: Store, endpoint: str) -> None:
        self._store = store
        signer, xet_store = Signer(store.secret), XetStore(store)
        self._repos = Repos(store, xet_store, endpoint)
        self._pulls, self._collections = Pulls(store), Collections(store)
        self._commits = Commits(store, self._repos, self._pulls)
        self._files = Files(store, xet_store, signer, endpoint)
        self._xet = Xet(store, xet_store, signer, endpoint)

    def answer(self, request: Request) -> Answer:
        """Answer a request; what is refused becomes an answer too."""
        try:
            return self._route(request)
        except Refusal as refusal:
            return refusal.answer()

    def _route(self, request: Request) -> Answer:
        parts = request.segments
        # signed addresses: no token is sent there, and none is looked at
        if parts[0] == "_cdn" and len(parts) == 2:
            return self._files.from_cdn(request, parts[1])
        if parts[0] == "_lfs" and len(parts) == 5 and request.method == "PUT":
            return self._files.put(request, *parts[1:])
        if parts[0] == "_xet":  # with a token of its own, which the endpoint gave
            return self._xet.answer(request, parts[1:])
        request.user = authenticate(self._store, request)
        return self._api(request, parts[1:]) if parts[0] == "api" else self._web(request, parts)

    def _api(self, request: Request, parts: list[str]) -> Answer:
        match request.method, parts:
            case "GET", ["whoami-v2"]:
                return _whoami(request)
            case "GET", ["agent-harnesses"]:
                return as_json({"standardEnvVars": [], "harnesses": {}})
            case _, ["telemetry", *_]:
                return Answer(200)
            case "POST", ["validate-yaml"]:
                return self._commits.validate_yaml(request)
            case "POST", ["repos", "create"]:
                return self._repos.create(request)
            case "DELETE", ["repos", "delete"]:
                return self._repos.delete(request)
            case _, ["collections", *rest]:
                return self._collections.answer(request, rest)
            case "GET", [kinds] if kinds in KINDS:
                return self._repos.list(request, KINDS[kinds])
            case _, [kinds, owner, name, *rest] if kinds in KINDS:
                return self._repo(request, KINDS[kinds], f"{owner}/{name}", rest)
            case _, [kinds, name] if kinds in KINDS:
                may_read(self._store, request, KINDS[kinds], name)
        raise Refusal(404, "Not found")

    def _repo(self, request: Request, kind: str, repo_id: str, rest: list[str]) -> Answer:
        where = (request, kind, repo_id)
        match request.method, rest:
            case "GET", []:
                return self._repos.info(*where, "main")
            case "GET", ["revision", *revision]:
                return self._repos.info(*where, "/".join(revision))
            case "GET", ["tree", revision, *path]:
                return self._repos.tree(*where, revision, "/".join(path))
            case "POST", ["paths-info", *revision]:
                return self._repos.paths_info(*where, "/".join(revision))
            case "GET", ["refs"]:
                return self._repos.refs(*where)
            case _, ["discussions", *rest]:
                return self._pulls.answer(*where, rest)
            case "GET", ["commits", *revision]:
                return self._repos.commits(*where, "/".join(revision))
            case "GET", ["auth-check", *write]:
                (may_write if write else may_read)(self._store, *where)
                return as_json({})
            case "GET", ["xet-read-token", *_]:
                return self._xet.token(*where, "read")
            case "GET", ["xet-write-token", *_]:
                return self._xet.token(*where, "write")
            case "PUT", ["settings"]:
                return self._repos.settings(*where)
            case "POST", ["preupload", *revision]:
                return self._commits.preupload(*where, "/".join(revision))
            case "POST", ["commit", *revision]:
                return self._commits.commit(*where, "/".join(revision))
            case (("POST" | "DELETE"), ["branch", *name]):
                return self._commits.branch(*where, "/".join(name))
            case (("POST" | "DELETE"), ["tag", *name]):
                return self._commits.tag(*where, "/".join(name))
        # also for an id without a namespace, whose address puts another word in the place of the name
        may_read(self._store, *where)
        raise Refusal(404, "Not found")

    def _web(self, request: Request, parts: list[str]) -> Answer:
        kind = KINDS.get(parts[0], "model")
        if parts[0] in KINDS:
            parts = parts[1:]
        match request.method, parts:
            case "POST", [owner, name, *rest] if name.endswith(".git") and rest[:3] == LARGE_FILES:
                repo_id = f"{owner}/{name.removesuffix('.git')}"
                if rest[3:] == ["batch"]:
                    return self._files.batch(request, kind, repo_id)
                if rest[3:] == ["verify"]:
                    return self._files.verify(request, kind, repo_id)
            case (("GET" | "HEAD"), [owner, name, "resolve" | "raw", "refs", group, ref, *path]) if path:
                # a ref that the client did not escape
                return self._files.resolve(request, kind, f"{owner}/{name}", f"refs/{group}/{ref}", "/".join(path))
            case (("GET" | "HEAD"), [owner, name, "resolve" | "raw", revision, *path]) if path:
                return self._files.resolve(request, kind, f"{owner}/{name}", revision, "/".join(path))
            case (("GET" | "HEAD"), [name, "resolve" | "raw", *_]):
                may_read(self._store, request, kind, name)
        raise Refusal(404, "Not found")


def _whoami(request: Request) -> Answer:
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    name = request.user.name
    role = "write" if request.user.may_write else "read"
    token = {"displayName": "token", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
    return as_json(
        {
            "type": "user", "id": hashlib.sha256(name.encode()).hexdigest()[:24], "name": name, "fullname": name,
            "email": f"{name}@localhost", "orgs": [], "auth": {"type": "access_token", "accessToken": token},
        }
    )  # fmt: skip
