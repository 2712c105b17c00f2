"""Routing: from a request path to the method that answers it."""

from __future__ import annotations

import hashlib

from hubdpo.loopback.api.access import UNAUTHORIZED, authenticate, may_read, may_write
from hubdpo.loopback.api.collections import Collections
from hubdpo.loopback.api.commits import Commits
from hubdpo.loopback.api.files import Files
from hubdpo.loopback.api.pulls import Pulls
from hubdpo.loopback.api.repos import Repos
from hubdpo.loopback.http.wire import Answer, Refusal, Request, as_json
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.storage.signing import Signer
from hubdpo.loopback.storage.store import Store
from hubdpo.loopback.xet.routes import Xet
from hubdpo.loopback.xet.store import XetStore


class Routes:
    """Parse request paths and call the part of the API that answers them."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self._store = store
        signer, xet_store = Signer(store.secret), XetStore(store)
        self._repos = Repos(store, xet_store, endpoint)
        self._pulls, self._collections = Pulls(store), Collections(store)
        self._commits = Commits(store, self._repos, self._pulls)
        self._files = Files(store, xet_store, signer, endpoint)
        self._xet = Xet(store, xet_store, signer, endpoint)

    def answer(self, request: Request) -> Answer:
        """Answer a request; a Refusal becomes an error response."""
        try:
            return self._route(request)
        except Refusal as refusal:
            return refusal.answer()

    def _route(self, request: Request) -> Answer:
        parts = request.segments
        # signed URLs: clients send no token there
        if parts[0] == "_cdn" and len(parts) == 2:
            return self._files.from_cdn(request, parts[1])
        if parts[0] == "_lfs" and len(parts) == 5 and request.method == "PUT":
            return self._files.put(request, *parts[1:])
        if parts[0] == "_xet":  # authenticated by a Xet token
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
            case _, [kinds, name] if kinds in KINDS:  # an id without an owner: missing, as on huggingface.co
                may_read(self._store, request, KINDS[kinds], name)
        raise Refusal(404, "Not found")

    def _repo(self, request: Request, kind: str, repo_id: str, rest: list[str]) -> Answer:
        # the first check of every route, and of addresses that are none: a private repo looks like a missing one
        repo = may_read(self._store, request, kind, repo_id)
        match request.method, rest:
            case "GET", []:
                return self._repos.info(request, repo, "main")
            case "GET", ["revision", *revision]:
                return self._repos.info(request, repo, "/".join(revision))
            case "GET", ["tree", revision, *path]:
                return self._repos.tree(request, repo, revision, "/".join(path))
            case "POST", ["paths-info", *revision]:
                return self._repos.paths_info(request, repo, "/".join(revision))
            case "GET", ["refs"]:
                return self._repos.refs(request, repo)
            case _, ["discussions", *rest]:
                return self._pulls.answer(request, repo, rest)
            case "GET", ["commits", *revision]:
                return self._repos.commits(request, repo, "/".join(revision))
            case "GET", ["auth-check", *write]:
                if write:
                    may_write(request, repo)
                return as_json({})
            case "GET", ["xet-read-token", *_]:
                return self._xet.token(request, repo, "read")
            case "GET", ["xet-write-token", *_]:
                return self._xet.token(request, repo, "write")
            case "PUT", ["settings"]:
                return self._repos.settings(request, repo)
            case "POST", ["preupload", *revision]:
                return self._commits.preupload(request, repo, "/".join(revision))
            case "POST", ["commit", *revision]:
                return self._commits.commit(request, repo, "/".join(revision))
            case (("POST" | "DELETE"), ["branch", *name]):
                return self._commits.branch(request, repo, "/".join(name))
            case (("POST" | "DELETE"), ["tag", *name]):
                return self._commits.tag(request, repo, "/".join(name))
        raise Refusal(404, "Not found")

    def _web(self, request: Request, parts: list[str]) -> Answer:
        kind = KINDS.get(parts[0], "model")
        if parts[0] in KINDS:
            parts = parts[1:]
        match request.method, parts:
            case "POST", [owner, name, "info", "lfs", "objects", "batch" | "verify" as call] if name.endswith(".git"):
                repo = may_read(self._store, request, kind, f"{owner}/{name.removesuffix('.git')}")
                return (self._files.batch if call == "batch" else self._files.verify)(request, repo)
            case (("GET" | "HEAD"), [owner, name, "resolve" | "raw", *rest]) if len(rest) > 1:
                repo = may_read(self._store, request, kind, f"{owner}/{name}")
                if rest[0] == "refs" and len(rest) > 3:  # a client that does not escape the slashes of a ref
                    return self._files.resolve(request, repo, "/".join(rest[:3]), "/".join(rest[3:]))
                return self._files.resolve(request, repo, rest[0], "/".join(rest[1:]))
            case (("GET" | "HEAD"), [name, "resolve" | "raw", *_]):
                may_read(self._store, request, kind, name)
        raise Refusal(404, "Not found")


def _whoami(request: Request) -> Answer:
    if request.user is None:
        raise Refusal(401, UNAUTHORIZED)
    name = request.user.name
    role = "write" if request.user.may_write else "read"
    token = {"displayName": "token", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
    return as_json(
        {
            "type": "user", "id": hashlib.sha256(name.encode()).hexdigest()[:24], "name": name, "fullname": name,
            "email": f"{name}@localhost", "orgs": [], "auth": {"type": "access_token", "accessToken": token},
        }
    )  # fmt: skip
