"""Addresses and tokens that the server signs: good for an hour, and only for what they name."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from hubdpo.loopback.wire import Refusal, Request

LIFETIME_S = 3600


@dataclass(frozen=True)
class Grant:
    """What the holder of a Xet token may do: read or write the large files of one repo, as `reader`."""

    scope: str
    kind: str
    repo_id: str
    reader: str
    until: int


class Signer:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def query(self, *parts: str) -> str:
        """Return the query that makes an address good, for what the parts name."""
        until = str(int(time.time()) + LIFETIME_S)
        return f"until={until}&signature={self._signature(*parts, until)}"

    def repo_query(self, kind: str, repo_id: str, reader: str, *parts: str) -> str:
        """Return such a query that names a repo as well, and who read it."""
        named = urlencode({"repo": f"{kind}/{repo_id}", "reader": reader})
        return f"{named}&{self.query(kind, repo_id, reader, *parts)}"

    def check_repo(self, request: Request, *parts: str) -> tuple[str, str, str]:
        """Return reader, kind and repo of an address made with `repo_query`. Raise Refusal 403 as `check` does."""
        kind, _, repo_id = request.parameter("repo").partition("/")
        reader = request.parameter("reader")
        self.check(request, kind, repo_id, reader, *parts)
        return reader, kind, repo_id

    def check(self, request: Request, *parts: str) -> None:
        """Raise Refusal 403 unless the address of the request was signed for these parts, less than an hour ago."""
        until = request.parameter("until", "0")
        good = _same(self._signature(*parts, until), request.parameter("signature"))
        if not good or int(until) < time.time():
            raise Refusal(403, "the address is not signed, or too old")

    def token(self, scope: str, kind: str, repo_id: str, reader: str) -> tuple[str, int]:
        """Return a bearer token and the second of its end."""
        until = int(time.time()) + LIFETIME_S
        claims = base64.urlsafe_b64encode(json.dumps([scope, kind, repo_id, reader, until]).encode()).decode()
        return f"{claims}.{self._signature('xet', claims)}", until

    def granted(self, request: Request, scope: str) -> Grant:
        """Return what a bearer token grants. Raise Refusal 401 for a foreign or old one, 403 for one that may less."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        claims, _, signature = token.partition(".")
        if kind.lower() != "bearer" or not _same(self._signature("xet", claims), signature):
            raise Refusal(401, "the Xet token is not valid")
        try:
            grant = Grant(*json.loads(base64.urlsafe_b64decode(claims)))
        except (binascii.Error, ValueError, TypeError):
            raise Refusal(401, "the Xet token is not valid") from None
        if grant.until < time.time():
            raise Refusal(401, "the Xet token is too old")
        if scope == "write" and grant.scope != "write":
            raise Refusal(403, "this needs a write token")
        if grant.scope == "write":
            request.body.trust()
        return grant

    def key(self, purpose: str) -> bytes:
        """Return a key of 32 bytes that is kept as long as the folder of the server."""
        return hmac.new(self._secret, f"key\n{purpose}".encode(), "sha256").digest()

    def _signature(self, *parts: str) -> str:
        return hmac.new(self._secret, "\n".join(parts).encode(), "sha256").hexdigest()


def _same(good: str, given: str) -> bool:
    return hmac.compare_digest(good.encode(), given.encode())
