"""Lists of models, datasets and Spaces: searched, filtered, sorted, and in pages."""

from __future__ import annotations

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import may_see
from hubdpo.loopback.api.repos.facts import Describer, Facts, texts
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json, next_page
from hubdpo.loopback.names import KINDS
from hubdpo.loopback.storage.store import Repo, Store

PAGE = 1000
SORTS = ("createdAt", "lastModified", "trendingScore", "downloads", "likes")
UNKNOWN = ("apps", "inference", "inference_provider", "num_parameters")
"""Parameters that ask for what only huggingface.co knows."""
Key = tuple[float, str]


class Listing:
    def __init__(self, store: Store, describer: Describer, endpoint: str) -> None:
        self._store, self._describer, self._endpoint = store, describer, endpoint

    def answer(self, request: Request, kinds: str) -> Answer:
        """Return a page of the repos that the user may read. Without `sort` they are in the order of their ids."""
        if unknown := [name for name in UNKNOWN if request.parameter(name)]:
            raise Refusal(501, f"this Hub cannot filter repos by {unknown[0]}")
        kind, sort = KINDS[kinds], request.parameter("sort")
        if sort and sort not in SORTS:
            raise Refusal(400, f"`sort` must be one of {', '.join(SORTS)}")
        falling = request.parameter("direction") not in ("1", "asc")
        rows: dict[Key, tuple[Repo, Facts | None]] = {}
        for repo in self._matching(request, kind):
            facts = self._describer.newest(repo) if sort == "lastModified" else None
            value = facts.modified if facts else repo.created if sort == "createdAt" else 0
            rows[(-value if falling else value), repo.id] = repo, facts
        size = max(1, min(request.count("limit", PAGE), PAGE))
        after = _key(request.parameter("cursor"))
        keys = sorted(key for key in rows if after is None or key > after)
        page = [self._entry(request, *rows[key]) for key in keys[:size]]
        answer = as_json([entry for entry in page if entry])
        if len(keys) > size:
            last, repo_id = keys[size - 1]
            answer.headers["Link"] = next_page(self._endpoint, request, cursor=f"{last!r} {repo_id}")
        return answer

    def _matching(self, request: Request, kind: str) -> list[Repo]:
        """Return the repos that fit all parameters. Git is read only for parameters that ask for something in it."""
        author = request.parameter("author").lower()
        words = [word.lower() for word in request.parameters("search")]
        wanted = {tag for value in request.parameters("filter") for tag in value.split(",") if tag}
        wanted |= {tag for tag in request.parameters("pipeline_tag") if tag}
        linked = {(field, name) for field in ("models", "datasets") for name in request.parameters(field) if name}
        if request.flag("gated"):  # no repo is
            return []
        found = [repo for repo in self._store.repos(kind) if may_see(request.user, repo)]
        if author:
            found = [repo for repo in found if repo.owner.lower() == author]
        found = [repo for repo in found if all(word in repo.id.lower() for word in words)]
        if not wanted and not linked:
            return found
        facts = [(repo, self._describer.newest(repo)) for repo in found]
        return [repo for repo, known in facts if known and wanted <= {*known.tags} and linked <= _links(known)]

    def _entry(self, request: Request, repo: Repo, facts: Facts | None) -> JSON:
        """Return the fields that the request asks for, {} if the repo was deleted meanwhile."""
        facts = facts or self._describer.newest(repo)
        if facts is None:
            return {}
        entry = self._describer.entry(repo, facts)
        expand = request.parameters("expand")
        if request.flag("cardData") or (repo.kind != "model" and request.flag("full")) or "cardData" in expand:
            entry["cardData"] = facts.card
        if request.flag("full") or "siblings" in expand:
            with self._store.listing(repo), self._store.git(repo) as git:
                paths = sorted(gitio.files_of(git, facts.sha.encode()))
                entry["siblings"] = [{"rfilename": path.decode()} for path in paths]
        if "usedStorage" in expand:
            entry["usedStorage"] = self._store.used(repo)
        if expand:
            return {name: value for name, value in entry.items() if name in ("_id", "id", *expand)}
        return entry


def _links(facts: Facts) -> set[tuple[str, str]]:
    return {(field, name) for field in ("models", "datasets") for name in texts(facts.card, field)}


def _key(cursor: str) -> Key | None:
    """Parse the place after which a page begins: no repo is listed twice or left out when others come and go."""
    if not cursor:
        return None
    value, _, repo_id = cursor.partition(" ")
    try:
        return float(value), repo_id
    except ValueError:
        raise Refusal(400, "`cursor` comes from the link to the next page") from None
