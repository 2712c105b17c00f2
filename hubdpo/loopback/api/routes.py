"""Routing: from a request to the method that answers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, unquote

from hubdpo.loopback.api import access
from hubdpo.loopback.api.collections import Collections
from hubdpo.loopback.api.commits import Commits
from hubdpo.loopback.api.files import Files
from hubdpo.loopback.api.pulls import Pulls
from hubdpo.loopback.api.repos import Repos
from hubdpo.loopback.http.wire import Answer, Refusal, Request, as_json
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.storage.signing import Signer
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.xet.routes import Xet
from hubdpo.loopback.xet.store import XetStore

Handler = Callable[..., Answer]


class Routes:
    """Parse request paths and call the part of the API that answers them.

    The tables map `METHOD path` to a handler. `*` is one name in the path and `/**` the rest of the path, if any: with
    the groups of the expression, they become arguments of the handler, unescaped.
    """

    def __init__(self, store: Store, endpoint: str) -> None:
        self._store = store
        signer, xet_store = Signer(store.secret), XetStore(store)
        self._repos = repos = Repos(store, xet_store, endpoint)
        self._files = files = Files(store, xet_store, signer, endpoint)
        self._collections = collections = Collections(store)
        pulls, xet = Pulls(store), Xet(store, xet_store, signer, endpoint)
        commits = Commits(store, repos, pulls)
        # signed URLs, for which clients send no token, and calls with a Xet token
        self._signed = _compiled({
            "[A-Z]+ _cdn/*": files.from_cdn,
            "PUT _lfs/*/*/*/*": files.put,
            "GET _xet/xorb/*": xet.xorb_range,
            "GET _xet/v1/chunks/[^/]*/*": xet.known_chunks,
            "POST _xet/v1/xorbs/[^/]*/*": xet.take_xorb,
            "POST _xet/(v[12])/shards": xet.take_shard,
            "GET _xet/(v[12])/reconstructions/*": xet.reconstruction,
        })  # fmt: skip
        self._api = _compiled({
            "GET whoami-v2": access.whoami,
            "GET agent-harnesses": lambda _: as_json({"standardEnvVars": [], "harnesses": {}}),
            "[A-Z]+ telemetry(?:/.*)?": lambda _: Answer(200),
            "POST validate-yaml": commits.validate_yaml,
            "POST repos/create": repos.create,
            "DELETE repos/delete": repos.delete,
            "GET (models|datasets|spaces)": repos.listing,
            "GET collections": collections.listing,
            "POST collections": collections.create,
            "GET collections/*/*": collections.details,
            "DELETE collections/*/*": collections.delete,
            "POST collections/*/*/items": collections.add,
            "DELETE collections/*/*/items/*": collections.remove,
        })  # fmt: skip
        self._of_repo = _compiled({
            "GET ": repos.info,
            "GET revision/**": repos.info,
            "GET tree/*/**": repos.tree,
            "POST paths-info/**": repos.paths_info,
            "GET refs": repos.refs,
            "GET commits/**": repos.commits,
            "GET auth-check/**": access.check,
            "PUT settings": repos.settings,
            "GET xet-(read|write)-token(?:/.*)?": xet.token,
            "POST preupload/**": commits.preupload,
            "POST commit/**": commits.commit,
            "POST branch/**": commits.create_branch,
            "POST tag/**": commits.create_tag,
            "DELETE (branch|tag)/**": commits.delete_ref,
            "GET discussions": pulls.listing,
            "POST discussions": pulls.create,
            "GET discussions/*": pulls.details,
            "POST discussions/*/(comment|status|title|merge)": pulls.change,
        })  # fmt: skip

    def answer(self, request: Request) -> Answer:
        """Answer a request; a Refusal becomes an error response."""
        try:
            return self._route(request)
        except Refusal as refusal:
            return refusal.answer()

    def _route(self, request: Request) -> Answer:
        parts = request.segments
        if parts[0] in ("_cdn", "_lfs", "_xet"):
            return _answered(self._signed, request, parts)
        request.user = access.authenticate(self._store, request)
        match parts:
            case ["api", kinds, owner, name, *rest] if kinds in KINDS:
                # first, also for an address that is none: a private repo looks like a missing one
                return _answered(self._of_repo, request, rest, self._repo(request, kinds, f"{owner}/{name}"))
            case ["api", kinds, name] if kinds in KINDS:  # an id without an owner: missing, as on huggingface.co
                self._repo(request, kinds, name)
            case ["api", *rest]:
                return _answered(self._api, request, rest)
        kinds, parts = (parts[0], parts[1:]) if parts[0] in KINDS else ("models", parts)
        match request.method, parts:
            case "POST", [owner, name, "info", "lfs", "objects", "batch" | "verify" as call] if name.endswith(".git"):
                repo = self._repo(request, kinds, f"{owner}/{name.removesuffix('.git')}")
                return (self._files.batch if call == "batch" else self._files.verify)(request, repo)
            case (("GET" | "HEAD"), [owner, name, "resolve" | "raw", *rest]) if len(rest) > 1:
                # a client may not escape the slashes of a ref
                end = 3 if rest[0] == "refs" and len(rest) > 3 else 1
                repo = self._repo(request, kinds, f"{owner}/{name}")
                return self._files.resolve(request, repo, "/".join(rest[:end]), "/".join(rest[end:]))
            case (("GET" | "HEAD"), [name, "resolve" | "raw", *_]):
                self._repo(request, kinds, name)
        raise Refusal(404, "Not found")

    def _repo(self, request: Request, kinds: str, repo_id: str) -> Repo:
        return access.may_read(self._store, request, KINDS[kinds], repo_id)


def _compiled(routes: Mapping[str, Handler]) -> dict[re.Pattern[str], Handler]:
    groups = {"*": "([^/]*)", "/**": "(?:/(.*))?"}
    return {
        re.compile(re.sub(r"/\*\*|(?<=/)\*", lambda star: groups[star[0]], route)): handler
        for route, handler in routes.items()
    }


def _answered(
    routes: Mapping[re.Pattern[str], Handler], request: Request, parts: Sequence[str], *known: object
) -> Answer:
    path = f"{request.method} {'/'.join(quote(part, safe='') for part in parts)}"  # an escaped slash ends no name
    for route, handler in routes.items():
        if match := route.fullmatch(path):
            return handler(request, *known, *(unquote(group or "") for group in match.groups()))
    raise Refusal(404, "Not found")
