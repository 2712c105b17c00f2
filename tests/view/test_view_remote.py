"""Pages of repos that are on a Hub, read as they are shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hubdpo import push
from hubdpo.errors import HubError
from hubdpo.loopback.faults import Fault
from hubdpo.view.open import open_thing
from hubdpo.view.thing import Thing
from tests.view.ask import ask, page, words

if TYPE_CHECKING:
    from tests.conftest import Hub


@pytest.fixture
def thing(dataset_dir: Path, repo_id: str, fresh_hf_home: dict[str, str]) -> Thing:
    push(folder=dataset_dir, repo=repo_id, version="1.0.0")
    return open_thing([f"{repo_id}@v1.0.0"])


def test_a_dataset_of_a_hub_is_read_from_there(thing: Thing, repo_id: str) -> None:
    assert (thing.kind, thing.title, thing.revision) == ("dataset", repo_id, "v1.0.0")
    assert page(thing).count("<article") == 20
    until = time.monotonic() + 60
    html = page(thing, "/viewer?q=no+idea+about+1")
    while "looked at so far" in html and time.monotonic() < until:
        html = page(thing, "/viewer?q=no+idea+about+1")
    assert "No idea about" in html.replace('<mark class=" found">', "").replace("</mark>", "")
    assert "stays on the machine that prepared" in words(page(thing, "/dropped")) or "Every row" in page(
        thing, "/dropped"
    )
    assert ask(thing, "/numbers").status == 200


def test_a_hub_that_stops_answering_is_said_on_the_page(thing: Thing, hub: Hub) -> None:
    assert ask(thing, "/viewer").status == 200
    hub.server.faults.add(Fault("status", "", times=1_000, status=404))
    try:
        answer = ask(thing, "/viewer?row=3")
        assert answer.status == 500
        assert thing.title in words(answer.content.decode().partition("<main")[2])
    finally:
        hub.server.faults.clear()
    assert ask(thing, "/viewer").status == 200


def test_a_repo_that_is_not_there_is_told(repo_id: str) -> None:
    with pytest.raises(HubError, match=repo_id):
        open_thing([repo_id])
