"""huggingface_hub 1.x speaks through httpx, 2.x through httpx2; whichever it is, we speak through the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from huggingface_hub import errors, hf_api

from hubdpo.errors import HubError
from hubdpo.hub import client, transport


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    transport.http.cache_clear()
    yield
    transport.http.cache_clear()


def test_the_library_is_that_of_the_installed_client() -> None:
    assert transport.http() in (getattr(hf_api, name, None) for name in ("httpx", "httpx2"))


@pytest.mark.parametrize("used", ["httpx", "httpx2"])
def test_with_both_installed_the_clients_own_is_taken(used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(errors, "HTTPError", type("HTTPError", (Exception,), {"__module__": f"{used}._exceptions"}))
    assert transport.http() is sys.modules[used]


def test_a_lost_connection_of_that_library_is_a_hub_error() -> None:
    with pytest.raises(HubError, match="no answer"), client.translate_errors("alice/x"):
        raise transport.http().ConnectError("refused")
