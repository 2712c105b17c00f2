"""What the API says about a repo at a commit: metadata of the card, tags, dates. A commit never changes: cached."""

from __future__ import annotations

from dataclasses import dataclass

from dulwich.repo import Repo as GitRepo

from hubdpo.loopback import gitio
from hubdpo.loopback.api.content.card_checks import card_data
from hubdpo.loopback.http.wire import JSON, Refusal
from hubdpo.loopback.storage.store import Repo, Store

CACHED, LARGEST_CACHED = 20_000, 16_384
"""Most commits in the cache, and the largest card in it, in bytes."""
PREFIXED = (
    "task_categories", "task_ids", "annotations_creators", "language_creators", "language", "multilinguality",
    "size_categories", "license",
)  # fmt: skip
TAGGED = {
    "model": {
        "library_name": "", "tags": "", "pipeline_tag": "", "language": "", "datasets": "dataset:",
        "base_model": "base_model:", "license": "license:",
    },
    "dataset": {**{field: f"{field}:" for field in PREFIXED}, "tags": ""},
}  # fmt: skip
"""The fields of a card that become tags by which lists are filtered, as on huggingface.co, with what is put before."""
TAGGED_ELSE = {"sdk": "", "tags": "", "license": "license:"}


@dataclass(frozen=True)
class Facts:
    sha: str
    modified: float
    card: JSON
    tags: tuple[str, ...]


class Describer:
    """Describe repos in the terms of the API."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: dict[tuple[str, str], Facts] = {}

    def newest(self, repo: Repo) -> Facts | None:
        """Return the facts of a repo's main branch, None if the repo was deleted meanwhile."""
        with self._store.listing(repo):
            head = self._store.head(repo)
            if known := self._cache.get((repo.kind, head)):
                return known
            with self._store.git(repo) as git:
                return self.at(git, repo, head)
        return None

    def at(self, git: GitRepo, repo: Repo, sha: str) -> Facts:
        """Return the facts of a commit."""
        if known := self._cache.get((repo.kind, sha)):
            return known
        commit = git.object_store[sha.encode()]
        try:
            text = gitio.read(git, sha.encode(), "README.md")[1]
            card = card_data(text.decode("utf-8", "replace"))
        except (Refusal, ValueError):  # no card, or one that an older version let pass
            text, card = b"", {}
        facts = Facts(sha, commit.commit_time, card, tuple(tags_of(repo.kind, card)))
        if len(text) <= LARGEST_CACHED:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[repo.kind, sha] = facts
        return facts

    def entry(self, repo: Repo, facts: Facts) -> JSON:
        """Return the fields of a repo that need no further reading. Downloads and likes are 0: nobody counts them."""
        entry: JSON = {
            "_id": repo.key, "id": repo.id, "author": repo.owner, "sha": facts.sha,
            "lastModified": gitio.iso(facts.modified), "private": repo.private, "gated": False, "disabled": False,
            "downloads": 0, "likes": 0, "trendingScore": 0, "tags": list(facts.tags),
            "createdAt": gitio.iso(repo.created),
        }  # fmt: skip
        if repo.kind == "model":
            entry |= {"modelId": repo.id}
            entry |= {name: facts.card[name] for name in ("library_name", "pipeline_tag") if facts.card.get(name)}
        if repo.kind == "space" and facts.card.get("sdk"):
            entry["sdk"] = facts.card["sdk"]
        return entry


def tags_of(kind: str, card: JSON) -> list[str]:
    """Return the tags by which lists are filtered: those of the card and, as on huggingface.co, of its other fields."""
    fields = TAGGED.get(kind, TAGGED_ELSE).items()
    return list(dict.fromkeys(prefix + value for field, prefix in fields for value in texts(card, field)))


def texts(card: JSON, field: str) -> list[str]:
    value = card.get(field)
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
