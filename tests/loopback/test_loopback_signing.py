"""Signed URLs and Xet tokens are valid for an hour, and for what they name."""

from __future__ import annotations

import time

import pytest

from hubdpo.loopback.http.wire import Refusal, Request
from hubdpo.loopback.storage.tokens import LIFETIME_S, Signed, Signer
from tests.loopback.ask import Body

SIGNER = Signer(b"0" * 32)
URL = ("dataset", "carol/x", "dave", "cdn", "0" * 64)


def request(query: str = "", **headers: str) -> Request:
    return Request("GET", "/", query, headers, Body())


def after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + LIFETIME_S + 1
    monkeypatch.setattr(time, "time", lambda: later)


def test_a_signed_url_names_reader_and_repo_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = request(SIGNER.query(*URL))
    assert SIGNER.check(sent, "cdn", "0" * 64) == Signed("dave", "dataset", "carol/x")
    after_an_hour(monkeypatch)
    with pytest.raises(Refusal, match="expired"):
        SIGNER.check(sent, "cdn", "0" * 64)


@pytest.mark.parametrize(
    ("old", "new"), [("dave", "erin"), ("dataset", "model"), ("carol", "dave"), ("until=", "until=9"), ("e=", "e=0")]
)
def test_a_changed_url_is_refused(old: str, new: str) -> None:
    with pytest.raises(Refusal) as caught:
        SIGNER.check(request(SIGNER.query(*URL).replace(old, new)), "cdn", "0" * 64)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("scope", "needed", "status"), [("read", "read", 0), ("write", "read", 0), ("read", "write", 403)]
)
def test_a_token_grants_its_scope_for_an_hour(
    scope: str, needed: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, until = SIGNER.token(scope, "model", "carol/x", "dave")
    sent = request(authorization=f"Bearer {token}")
    if status:
        with pytest.raises(Refusal) as caught:
            SIGNER.granted(sent, needed)
        assert caught.value.status == status
        return
    assert SIGNER.granted(sent, needed) == Signed("dave", "model", "carol/x")
    assert 0 <= time.time() + LIFETIME_S - until < 60
    after_an_hour(monkeypatch)
    with pytest.raises(Refusal) as caught:
        SIGNER.granted(sent, needed)
    assert caught.value.status == 401
