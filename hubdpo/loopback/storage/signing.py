"""Signed URLs and Xet tokens: valid for an hour, and only for what they name."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from typing import NamedTuple
from urllib.parse import urlencode

from hubdpo.loopback.http.wire import Refusal, Request

LIFETIME_S = 3600


class Signed(NamedTuple):
    """The reader and repo that a signed URL or a Xet token names."""

    reader: str
    kind: str
    repo_id: str


class Signer:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def query(self, kind: str, repo_id: str, reader: str, *parts: str) -> str:
        """Return the query string of a URL signed for a repo, a reader and `parts`."""
        until = str(int(time.time()) + LIFETIME_S)
        signature = self._signature(kind, repo_id, reader, *parts, until)
        named = urlencode({"repo": f"{kind}/{repo_id}", "reader": reader})
        return f"{named}&until={until}&signature={signature}"

    def check(self, request: Request, *parts: str) -> Signed:
        """Return the reader and repo of a signed URL. Raise Refusal 403 for a wrong or expired signature."""
        kind, _, repo_id = request.parameter("repo").partition("/")
        reader, until = request.parameter("reader"), request.parameter("until", "0")
        signature = self._signature(kind, repo_id, reader, *parts, until)
        if not _same(signature, request.parameter("signature")) or int(until) < time.time():
            raise Refusal(403, "the URL is not signed, or has expired")
        return Signed(reader, kind, repo_id)

    def token(self, scope: str, kind: str, repo_id: str, reader: str) -> tuple[str, int]:
        """Return a Xet token for the scope `read` or `write` of a repo, and its expiry, in seconds since the epoch."""
        until = int(time.time()) + LIFETIME_S
        claims = base64.urlsafe_b64encode(json.dumps([scope, kind, repo_id, reader, until]).encode()).decode()
        return f"{claims}.{self._signature('xet', claims)}", until

    def granted(self, request: Request, needed: str) -> Signed:
        """Return what a bearer token names. Raise Refusal 401 if it is invalid or expired, 403 if it may only read."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims, _, signature = token.partition(".")
        if scheme.lower() != "bearer" or not _same(self._signature("xet", claims), signature):
            raise Refusal(401, "the Xet token is not valid")
        try:
            scope, kind, repo_id, reader, until = json.loads(base64.urlsafe_b64decode(claims))
        except (binascii.Error, ValueError, TypeError):
            raise Refusal(401, "the Xet token is not valid") from None
        if until < time.time():
            raise Refusal(401, "the Xet token has expired")
        if scope == "write":
            request.body.trust()
        elif needed == "write":
            raise Refusal(403, "this needs a write token")
        return Signed(reader, kind, repo_id)

    def key(self, purpose: str) -> bytes:
        """Derive a 32-byte key that lasts as long as the secret."""
        return hmac.new(self._secret, f"key\n{purpose}".encode(), "sha256").digest()

    def _signature(self, *parts: str) -> str:
        return hmac.new(self._secret, "\n".join(parts).encode(), "sha256").hexdigest()


def _same(expected: str, received: str) -> bool:
    return hmac.compare_digest(expected.encode(), received.encode())
