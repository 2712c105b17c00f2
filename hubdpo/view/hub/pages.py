"""The pages of a Hub: from the address that push, cards and clients print to the page of a repo, a user or a list."""

from __future__ import annotations

from hubdpo.errors import HubdpoError
from hubdpo.loopback.http.wire import Answer, Refusal, Request
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.reading import Reading
from hubdpo.loopback.storage.store import Repo
from hubdpo.view import site
from hubdpo.view.hub import lists
from hubdpo.view.hub.hosted import Hosted, Shelf, account_of
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.render import STATIC, html, static
from hubdpo.view.server import refuse_other_sites

NO_PAGES = ("api", "_cdn", "_lfs", "_xet")
"""First segments of addresses that clients of the API use."""
WITH_REVISION = ("tree", "blob", "image", "commits")
"""Pages whose address has the revision in its path; others take `?revision=`."""
Located = tuple[Hosted, tuple[str, ...]]
CHALLENGE = 'Basic realm="hubdpo: any name, and the token as the password", charset="UTF-8"'


class HubPages:
    """Answer the addresses that people open; give it to a LoopbackHub as `pages`."""

    def __init__(self) -> None:
        self._shelf = Shelf()

    def __call__(self, request: Request, hub: Reading) -> Answer | None:
        """Return a page, or None for an address that is the API's."""
        parts = [part for part in request.segments if part]
        if request.method not in ("GET", "HEAD") or not is_page(parts):
            return None
        if parts[:1] == [STATIC]:
            return static("/".join(parts[1:])) or Refusal(404, "there is no such file").answer()
        try:
            refuse_other_sites(request)
            request.user = hub.user_of(request)
            answer = self._page(request, hub, parts)
        except Refusal as refusal:
            answer = self._refused(request, refusal.status, refusal.message)
        except PageError as problem:
            answer = self._refused(request, problem.status, problem.message, problem.hint)
        except HubdpoError as problem:
            answer = self._refused(request, 500, problem.message, problem.hint or "")
        answer.headers["Vary"] = "Authorization"
        if request.user is not None:  # what this user may see, others may not
            answer.headers["Cache-Control"] = "no-store"
        return answer

    def _page(self, request: Request, hub: Reading, parts: list[str]) -> Answer:
        asked = Asked.parse("", tuple(parts), request.query)
        match parts:
            case ["login"]:
                if request.user is None:
                    raise Refusal(401, "sign in with a token")
                return Answer(303, {"Location": "/"})
            case ["settings", *_]:  # clients send people there for a token
                raise PageError(404, "this Hub gives tokens when it starts", "hubdpo serve-hub DIR --token NAME:VALUE")
            case []:
                return self._shown(request, lists.front(asked, hub, request.user))
            case ["models" | "datasets" | "spaces"]:
                return self._shown(request, lists.of_kind(asked, hub, request.user))
            case ["collections", *_]:
                return self._shown(request, lists.collections(asked, hub, request.user))
            case [owner]:
                return self._shown(request, lists.owner(asked, hub, request.user, owner), (owner, f"/{owner}"))
        kinds, (owner, *rest) = (parts[0], parts[1:]) if parts[0] in KINDS else ("models", parts)
        if not rest:
            raise Refusal(404 if request.user else 401, "Repository not found")
        repo = hub.repo(request, kinds, f"{owner}/{rest[0]}")
        with hub.while_it_exists(repo):
            thing, below = self._thing(request, hub, repo, tuple(rest[1:]))
            return site.answer(Asked.parse(f"/{repo.page}", below, request.query), thing)

    def _thing(self, request: Request, hub: Reading, repo: Repo, rest: tuple[str, ...]) -> Located:
        """Return the repo at the revision in the address, and what follows the repo, with the revision in one part."""
        revision = request.parameter("revision")
        if len(rest) > 1 and rest[0] in WITH_REVISION:
            end = 4 if rest[1] == "refs" and len(rest) > 3 else 2  # clients may leave the slashes of a ref as they are
            revision = "/".join(rest[1:end])
            rest = (rest[0], revision, *rest[end:])
        commit = hub.commit(repo, revision or "main")
        shelved = self._shelf.take(hub, repo, commit)
        named = revision if revision not in ("", "main") else None
        thing = Hosted(
            shelved.snapshot, repo.id, named, kept=shelved.kept, texts=self._shelf.texts, few=self._shelf.few,
            scope=f"{repo.key} ", shelf=self._shelf, hub=hub, repo=repo, user=request.user,
        )  # fmt: skip
        return thing, rest

    def _shown(self, request: Request, page: Page, *crumbs: tuple[str, str]) -> Answer:
        return html(page, {**site.FRAME, "crumbs": [("Hub", "/"), *crumbs], "account": account_of(request.user)})

    def _refused(self, request: Request, status: int, message: str, hint: str = "") -> Answer:
        if status == 401:
            message, hint = "this page asks for a token", "the name may be anything; the password is the token"
        if status == 404:
            hint = hint or "check the address; a private repo is shown to its owner alone"
        answer = self._shown(request, site.error_page(status, message, hint))
        if status == 401:
            answer.headers["WWW-Authenticate"] = CHALLENGE
        return answer


def is_page(parts: list[str]) -> bool:
    """Tell whether an address is opened by people: none of the API, of a file's content, or of git."""
    if parts and parts[0] in NO_PAGES:
        return False
    in_repo = parts[1:] if parts and parts[0] in KINDS else parts
    names = in_repo[1:3]  # `resolve` comes second after an id without an owner
    return not (set(names) & {"resolve", "raw"}) and not any(name.endswith(".git") for name in in_repo[:2])
