"""The HTTP library is that of huggingface_hub (httpx for 1.x, httpx2 for 2.x); the Hub is the one set at each call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from huggingface_hub import HfApi, errors, hf_api

from hubdpo import push, verify
from hubdpo.errors import HubError, VerificationFailed
from hubdpo.hub import retry, transport
from hubdpo.hub.client import resolve
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.loopback.faults import Fault, Faults
from hubdpo.loopback.server import LoopbackHub


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
    with pytest.raises(HubError, match="no answer"), translate_errors("alice/x"):
        raise transport.http().ConnectError("refused")


def test_one_process_publishes_on_two_hubs(
    data: Path, repo_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = push(folder=data, repo=repo_id, version="1.0.0", check="hashes")
    with LoopbackHub(tmp_path / "hub", tokens=["alice:hf_elsewhere:write"]) as elsewhere:
        monkeypatch.setenv("HF_ENDPOINT", elsewhere.endpoint)
        with pytest.raises(HubError):
            push(folder=data, repo=repo_id, version="2.0.0", check="hashes")  # with the token of the first
        monkeypatch.setenv("HF_TOKEN", "hf_elsewhere")
        there = push(folder=data, repo=repo_id, version="2.0.0", check="hashes")
        assert there.url == f"{elsewhere.endpoint}/datasets/{repo_id}/tree/v2.0.0"
        assert verify(f"{repo_id}@v2.0.0", check="hashes").endpoint == elsewhere.endpoint
        monkeypatch.undo()
    assert verify(f"{repo_id}@v1.0.0", check="hashes").commit == here.commit
    with pytest.raises(HubError):
        resolve(repo_id, "v2.0.0", repo_type="dataset")


def test_a_file_that_arrives_damaged_is_read_again(
    repo_id: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "pause", lambda seconds: None)
    HfApi().create_repo(repo_id)
    done = HfApi().upload_file(repo_id=repo_id, path_in_repo="notes.md", path_or_fileobj=b"as it was written")
    faults.add(Fault("corrupt", "/notes.md", method="GET", times=2))
    assert RepoSnapshot(repo_id, "model", done.oid, fresh=True).read("notes.md") == b"as it was written"
    faults.add(Fault("corrupt", "/notes.md", method="GET", times=100))
    with pytest.raises(VerificationFailed, match="`notes.md` of .* arrives damaged"):
        RepoSnapshot(repo_id, "model", done.oid, fresh=True).read("notes.md")


@pytest.mark.parametrize(
    ("address", "hint"),
    [("127.0.0.1:8800", "http://127.0.0.1:8800"), ("http://hub.example.org", "https://...")],
)
def test_an_address_that_is_none_or_open_is_refused(address: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubError) as caught:
        transport.endpoint()
    assert caught.value.hint == f"export HF_ENDPOINT={hint}"
