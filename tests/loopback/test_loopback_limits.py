"""Requests have limits in memory and time, and their fields accept known values only."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubdpo.config.yaml_file import read_yaml
from hubdpo.errors import ConfigError
from hubdpo.loopback import gitio
from hubdpo.loopback.api.content.card_checks import card_data
from hubdpo.loopback.api.content.files import Files
from hubdpo.loopback.faults import Fault, Faults
from hubdpo.loopback.http.wire import Answer, Request
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.store import Repo
from tests.loopback.ask import Body, ask

LARGE = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path_factory.mktemp("limits") / "hub", tokens=["carol:hf_carol"]) as server:
        assert ask(server, "POST", "/api/repos/create", {"name": "kept"}, token="hf_carol").status == 200
        value = {"path": "n", "content": base64.b64encode(LARGE).decode(), "encoding": "base64"}
        lines = [{"key": "header", "value": {"summary": "s"}}, {"key": "file", "value": value}]
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        assert ask(server, "POST", "/api/models/carol/kept/commit/main", body, token="hf_carol").status == 200
        yield server


def test_a_path_named_many_times_is_read_once(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    find = gitio.find
    monkeypatch.setattr(gitio, "find", lambda *a: (read.append(a), find(*a))[1])
    answer = ask(hub, "POST", "/api/models/carol/kept/paths-info/main", {"paths": ["n", "/n", "n//"] * 9000})
    assert (len(read), [entry["path"] for entry in json.loads(answer.body)]) == (1, ["n"])


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("paths-info", {"paths": [str(number) for number in range(1001)]}),
        ("preupload", {"files": [], "gitIgnore": "\n".join(map(str, range(1001)))}),
        ("preupload", {"files": [], "gitIgnore": "a" * 257}),
        ("preupload", {"files": [{"path": "a"}] * 1001}),
    ],
)
def test_a_question_names_a_thousand_things_at_most(hub: LoopbackHub, where: str, body: dict[str, Any]) -> None:
    answer = ask(hub, "POST", f"/api/models/carol/kept/{where}/main", body, token="hf_carol")
    assert (answer.status, b"at most" in answer.body) == (413, True)


def test_a_regular_file_waits_for_slow_readers_on_disk(hub: LoopbackHub) -> None:
    path = "/carol/kept/resolve/main/n"
    assert ask(hub, "GET", path).body == LARGE
    assert ask(hub, "GET", path, Range="bytes=70000-300000").body == LARGE[70000:300001]
    files: Files = hub._routes._files
    request = Request("GET", path, "", {}, Body())
    tracemalloc.start()
    try:
        waiting = [files.resolve(request, Repo("model", "carol/kept"), "main", "n").parts(1000) for _ in range(20)]
        assert all(next(parts) == LARGE[:1000] for parts in waiting)
        assert tracemalloc.get_traced_memory()[0] < 10 * len(LARGE)
    finally:
        tracemalloc.stop()


def test_answers_are_remembered_for_a_stale_fault_alone() -> None:
    faults = Faults()
    faults.remember("/a/refs", Answer())
    assert faults.before("/a/refs") is None
    faults.add(Fault("stale", "refs"))
    faults.remember("/a/refs", Answer())
    assert faults.before("/a/refs") == Answer()


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", "!!float ''", "!!int ''"])
def test_a_yaml_tag_on_a_wrong_value_is_refused_in_words(value: str) -> None:
    with pytest.raises(ValueError, match="YAML parse error"):
        card_data(f"---\na: {value}\n---\n")


@pytest.mark.parametrize("body", [{"visibility": "weird"}, {"private": True, "visibility": "public"}])
def test_a_visibility_that_is_none_is_refused(hub: LoopbackHub, body: dict[str, Any]) -> None:
    assert ask(hub, "PUT", "/api/models/carol/kept/settings", body, token="hf_carol").status == 400


@pytest.mark.parametrize(("search", "found"), [("KEP", 1), ("zzz", 0)])
def test_a_search_filters_by_id(hub: LoopbackHub, search: str, found: int) -> None:
    assert len(json.loads(ask(hub, "GET", f"/api/models?search={search}").body)) == found


@pytest.mark.parametrize("value", ["!!bool maybe", "!!timestamp x", "!!float ''"])
def test_a_config_with_a_wrong_tag_is_refused_in_words(tmp_path: Path, value: str) -> None:
    (tmp_path / "c.yaml").write_text(f"output: {value}\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "c.yaml")
