"""Users and organisations in the API: who they are, who belongs to whom, and what their repos take on the disk."""

from __future__ import annotations

from hubdpo.loopback import gitio
from hubdpo.loopback.api.access import known_user, may_see
from hubdpo.loopback.api.repos.facts import Describer
from hubdpo.loopback.http.wire import JSON, Answer, Refusal, Request, as_json
from hubdpo.loopback.names import KINDS, identifier
from hubdpo.loopback.storage.store import Store


class Namespaces:
    def __init__(self, store: Store, describer: Describer) -> None:
        self._store, self._describer = store, describer

    def own_repositories(self, request: Request) -> Answer:
        return self._repositories(known_user(request).name)

    def repositories(self, request: Request, org: str) -> Answer:
        """Return the repos of an organisation with their sizes, for its members."""
        user, name = known_user(request), self._org(org)
        if name not in user.orgs:
            raise Refusal(403, f"only members of {name} see what its repos take")
        return self._repositories(name)

    def organization(self, request: Request, org: str) -> Answer:
        name = self._org(org)
        members = self._store.accounts.orgs()[name]
        counts = self._counts(request, name)
        return as_json(_public(name, "org") | counts | {"name": name, "numUsers": len(members), "numFollowers": 0})

    def members(self, request: Request, org: str) -> Answer:
        return as_json([_public(user, "user") for user in self._store.accounts.orgs()[self._org(org)]])

    def user(self, request: Request, name: str) -> Answer:
        found = _same(name, self._store.accounts.users())
        if found is None:
            raise Refusal(404, f"This user does not exist: {name}")
        orgs = [_public(org, "org") | {"name": org} for org in sorted(self._store.accounts.orgs_of(found))]
        nobody = {"isFollowing": False, "isPro": False, "numLikes": 0, "numFollowers": 0, "numFollowing": 0}
        return as_json(_public(found, "user") | nobody | self._counts(request, found) | {"orgs": orgs})

    def nobody(self, request: Request, kind: str, name: str) -> Answer:
        """Return an empty list of followers: nobody follows anybody here."""
        if kind == "organizations":
            self._org(name)
        else:
            self.user(request, name)
        return as_json([])

    def _org(self, name: str) -> str:
        found = _same(name, self._store.accounts.orgs())
        if found is None:
            raise Refusal(404, f"This organization does not exist: {name}")
        return found

    def _counts(self, request: Request, owner: str) -> JSON:
        return {
            f"num{kinds.capitalize()}": sum(
                repo.owner == owner and may_see(request.user, repo) for repo in self._store.repos(kind)
            )
            for kinds, kind in KINDS.items()
        }

    def _repositories(self, owner: str) -> Answer:
        repos = [repo for kind in KINDS.values() for repo in self._store.repos(kind) if repo.owner == owner]
        rows = [(repo, facts, self._store.used(repo)) for repo in repos if (facts := self._describer.newest(repo))]
        total = sum(used for _, _, used in rows) or 1
        return as_json(
            [
                {
                    "id": repo.id, "type": repo.kind, "updatedAt": gitio.iso(facts.modified),
                    "visibility": "private" if repo.private else "public", "storage": used,
                    "storagePercent": round(100 * used / total, 2),
                }
                for repo, facts, used in rows
            ]
        )  # fmt: skip


def _public(name: str, kind: str) -> JSON:
    return {"_id": identifier(name), "user": name, "fullname": name, "avatarUrl": "", "type": kind}


def _same(name: str, names: list[str] | dict[str, list[str]]) -> str | None:
    return next((each for each in names if each.lower() == name.lower()), None)
