"""Routing: from a request to the method that answers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, unquote

from hubdpo.loopback.api import access, elsewhere
from hubdpo.loopback.api.community.collections import Collections
from hubdpo.loopback.api.community.pulls import Pulls
from hubdpo.loopback.api.content.commits import Commits
from hubdpo.loopback.api.content.files import Files
from hubdpo.loopback.api.content.trees import Trees
from hubdpo.loopback.api.elsewhere import refuse
from hubdpo.loopback.api.repos.facts import Describer
from hubdpo.loopback.api.repos.listing import Listing
from hubdpo.loopback.api.repos.manage import Repos
from hubdpo.loopback.api.repos.namespaces import Namespaces
from hubdpo.loopback.http.requests import METHODS
from hubdpo.loopback.http.wire import Answer, Redirection, Refusal, Request, as_json
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.reading import Pages, Reading
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.storage.tokens import Signer
from hubdpo.loopback.xet.routes import Xet
from hubdpo.loopback.xet.store import XetStore

Table = Mapping[str, Callable[..., Answer | None]]
"""`METHOD path`, as a regular expression, to a handler that gets the groups; None is the answer `{}`."""
READING = ("GET", "HEAD")
"""Methods of the addresses outside of the API."""
NAME, REST = "([^/]*)", "(?:/(.*))?"
"""One name in a path, and the rest of the path, if any."""


class Routes:
    """Parse request paths and call the part of the API that answers them."""

    def __init__(self, store: Store, endpoint: str, pages: Pages | None = None) -> None:
        self._store, self._pages = store, pages
        signer, xet_store = Signer(store.secret), XetStore(store)
        self._reading = Reading(store, xet_store, self._route, self._repo)
        self._collections = collections = Collections(store)
        describer = Describer(store)
        repos = Repos(store, xet_store, collections, describer, endpoint)
        namespaces = Namespaces(store, describer)
        trees, pulls, xet = Trees(store, xet_store, endpoint), Pulls(store), Xet(store, xet_store, signer, endpoint)
        self._files = files = Files(store, xet_store, signer, pulls, endpoint)
        commits = Commits(store, pulls, endpoint)
        # signed URLs, for which clients send no token, and calls with a Xet token
        self._signed: Table = {
            f"[A-Z]+ _cdn/{NAME}": files.from_cdn,
            f"PUT _lfs/{NAME}/{NAME}/{NAME}/{NAME}": files.put,
            f"GET _xet/xorb/{NAME}": xet.xorb_range,
            f"GET _xet/v1/chunks/[^/]*/{NAME}": xet.known_chunks,
            f"POST _xet/v1/xorbs/[^/]*/{NAME}": xet.take_xorb,
            "POST _xet/(v[12])/shards": xet.take_shard,
            f"GET _xet/(v[12])/reconstructions/{NAME}": xet.reconstruction,
        }  # fmt: skip
        self._api: Table = {
            "GET whoami-v2": access.whoami,
            "GET agent-harnesses": lambda _: as_json({"standardEnvVars": [], "harnesses": {}}),
            "[A-Z]+ telemetry(?:/.*)?": lambda _: Answer(200),
            "POST validate-yaml": commits.validate_yaml,
            "POST repos/create": repos.create,
            "DELETE repos/delete": repos.delete,
            "POST repos/move": repos.move,
            "GET (models|datasets|spaces|kernels)": Listing(store, describer, endpoint).answer,
            "GET settings/repositories": namespaces.own_repositories,
            f"GET organizations/{NAME}/settings/repositories": namespaces.repositories,
            f"GET organizations/{NAME}/overview": namespaces.organization,
            f"GET organizations/{NAME}/members": namespaces.members,
            f"GET users/{NAME}/overview": namespaces.user,
            f"GET (organizations|users)/{NAME}/(?:followers|following)": namespaces.nobody,
            "GET collections": collections.listing,
            "POST collections": collections.create,
            f"GET collections/{NAME}/{NAME}": collections.details,
            f"PATCH collections/{NAME}/{NAME}": collections.update,
            f"DELETE collections/{NAME}/{NAME}": collections.delete,
            f"POST collections/{NAME}/{NAME}/items": collections.add,
            f"PATCH collections/{NAME}/{NAME}/items/{NAME}": collections.update_item,
            f"DELETE collections/{NAME}/{NAME}/items/{NAME}": collections.remove,
        }  # fmt: skip
        self._of_repo: Table = {
            "GET ": repos.info,
            f"GET revision{REST}": repos.info,
            f"GET tree/{NAME}{REST}": trees.tree,
            f"POST paths-info{REST}": trees.paths_info,
            "GET refs": repos.refs,
            f"GET commits{REST}": commits.history,
            f"POST super-squash{REST}": commits.squash,
            f"GET auth-check{REST}": access.check,
            "PUT settings": repos.settings,
            "(?:GET|POST) user-access-(?:request|report)(?:/.*)?": access.ungated,
            "GET xet-(read|write)-token(?:/.*)?": xet.token,
            f"POST preupload{REST}": commits.preupload,
            f"POST commit{REST}": commits.commit,
            f"POST branch{REST}": commits.create_branch,
            f"POST tag{REST}": commits.create_tag,
            f"DELETE (branch|tag){REST}": commits.delete_ref,
            "GET lfs-files": files.listing,
            "POST lfs-files/batch": files.delete,
            "POST lfs-files/duplicate": files.duplicate,
            "GET discussions": pulls.listing,
            "POST discussions": pulls.create,
            f"GET discussions/{NAME}": pulls.details,
            f"POST discussions/{NAME}/(comment|status|title|merge)": pulls.change,
            f"POST discussions/{NAME}/comment/{NAME}/(edit|hide)": pulls.change_comment,
        }  # fmt: skip

    def answer(self, request: Request) -> Answer:
        """Answer a request; a Refusal becomes an error response, a Redirection one with a Location."""
        try:
            if self._pages and (page := self._pages(request, self._reading)):
                return page
            parts = request.segments
            if parts[0] in ("_cdn", "_lfs", "_xet"):
                generation = len(parts) > 1 and parts[0] == "_xet" and parts[1].startswith("~")  # see Xet.token
                return _answered(self._signed, request, [parts[0], *parts[2:]] if generation else parts)
            request.user = access.authenticate(self._store, request)
            return self._route(request)
        except Redirection as redirection:
            return as_json({}, redirection.status, Location=redirection.location)
        except Refusal as refusal:
            return refusal.answer()

    def _route(self, request: Request) -> Answer:
        """Answer a request of a user who is known. Raise Refusal."""
        parts = request.segments
        if parts[:2] == ["api", "spaces"]:
            refuse(elsewhere.OF_SPACES, "/".join(parts[2:]))
        match parts:
            case ["api", kinds, owner, name, *rest] if kinds in KINDS:
                # first, also for an address that is none: a private repo looks like a missing one
                repo = self._repo(request, kinds, f"{owner}/{name}")
                with self._store.reading(repo):
                    return _answered(self._of_repo, request, rest, repo, elsewhere=elsewhere.OF_REPO)
            case ["api", kinds, name] if kinds in KINDS:  # an id without an owner: missing, as on huggingface.co
                self._repo(request, kinds, name)
            case ["api", *rest]:
                return _answered(self._api, request, rest, elsewhere=elsewhere.API)
        kinds, parts = (parts[0], parts[1:]) if parts[0] in KINDS else ("models", parts)
        match request.method, parts:
            case "POST", [owner, name, "info", "lfs", "objects", "batch" | "verify" as call] if name.endswith(".git"):
                repo = self._repo(request, kinds, f"{owner}/{name.removesuffix('.git')}")
                return (self._files.batch if call == "batch" else self._files.verify)(request, repo)
            case (("GET" | "HEAD"), [owner, name, "resolve" | "raw", *rest]) if len(rest) > 1:
                # a client may not escape the slashes of a ref
                end = 3 if rest[0] == "refs" and len(rest) > 3 else 1
                repo = self._repo(request, kinds, f"{owner}/{name}")
                with self._store.reading(repo):
                    return self._files.resolve(request, repo, "/".join(rest[:end]), "/".join(rest[end:]))
            case (("GET" | "HEAD"), [name, "resolve" | "raw", *_]):
                self._repo(request, kinds, name)
        refuse(elsewhere.PAGES, "/".join(request.segments))
        if request.method not in READING:
            raise _other_method(READING)
        raise Refusal(404, "Not found")

    def _repo(self, request: Request, kinds: str, repo_id: str) -> Repo:
        """Return the repo. Raise Redirection for a read by an old id, or by one in another case."""
        repo = access.may_read(self._store, request, KINDS[kinds], repo_id)
        # a write is answered at once: a client may not be able to send its body a second time
        if repo.id != repo_id and request.method in ("GET", "HEAD"):
            parts = request.path.split("/")
            start = 2 if parts[1] in KINDS else 3 if parts[1] == "api" else 1
            location = "/".join([*parts[:start], *map(quote, repo.id.split("/")), *parts[start + 2 :]])
            # relative: huggingface_hub follows no other address when it asks for the metadata of a file
            raise Redirection(307, location + (f"?{request.query}" if request.query else ""))
        return repo


def _answered(
    table: Table, request: Request, parts: Sequence[str], *known: object, elsewhere: Mapping[str, str] | None = None
) -> Answer:
    """Call the handler of a route. Raise Refusal 405 for another method, 501 for what other Hubs have, or 404."""
    method = "GET" if request.method == "HEAD" else request.method
    path = "/".join(quote(part, safe="") for part in parts)  # an escaped slash ends no name
    for route, handler in table.items():
        if match := re.fullmatch(route, f"{method} {path}"):
            return handler(request, *known, *(unquote(group or "") for group in match.groups())) or as_json({})
    if allowed := [verb for verb in METHODS if any(re.fullmatch(route, f"{verb} {path}") for route in table)]:
        raise _other_method(allowed)
    refuse(elsewhere or {}, path)
    raise Refusal(404, "Not found")


def _other_method(allowed: Sequence[str]) -> Refusal:
    return Refusal(405, f"this address takes {', '.join(allowed)}", headers={"Allow": ", ".join(allowed)})
