"""What the demo prints at its end: links that open again, and the README shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hubdpo.demo import road
from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages
from tests.loopback.ask import ask

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_how_the_demo_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `make demo` starts it by its path, and nothing of .venv is found by name
    monkeypatch.setattr(sys, "argv", [".venv/bin/hubdpo", "demo"])
    monkeypatch.setenv("PATH", "/usr/bin")
    url = "http://127.0.0.1:45299/datasets/demo/preferences/tree/v0.1.0"
    adapter = "http://127.0.0.1:45299/demo/tiny-qwen2-dpo/tree/v0.1.0"
    road._say_how_to_go_on(Path("demo-run"), url, adapter, {"base_accuracy": 0.371, "adapter_accuracy": 1.0})
    look = capsys.readouterr().err.partition("Look around:\n")[2].partition("\n\n")[0]
    assert look.count(".venv/bin/hubdpo") == 3 and look in README


def test_the_demo_names_hubdpo_alone_where_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "hubdpo"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(own), "demo"])
    assert road._program() == str(own)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert road._program() == "hubdpo"


def test_the_links_of_the_demo_open_once_its_hub_serves_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import HfApi

    tokens = [f"{road.USER}:{road.TOKEN}:write"]
    with LoopbackHub(tmp_path / "hub", tokens=tokens, pages=HubPages()) as hub:
        api = HfApi(endpoint=hub.endpoint, token=road.TOKEN)
        urls = []
        for repo, kind in ((road.DATA, "dataset"), (road.ADAPTER, "model")):
            urls.append(f"{api.create_repo(repo, repo_type=kind)}/tree/{road.TAG}")
            api.create_tag(repo, tag=road.TAG, repo_type=kind)
        road._say_how_to_go_on(tmp_path, urls[0], urls[1], {"base_accuracy": 0.5, "adapter_accuracy": 1.0})
    said = capsys.readouterr().err
    port = int(re.search(r"serve-hub .* --port (\d+)", said)[1])  # type: ignore[index]
    with LoopbackHub(tmp_path / "hub", port=port, pages=HubPages()) as again:
        for address in re.findall(r"http://\S+", said):
            assert ask(again, "GET", address.removeprefix(again.endpoint)).status == 200, address
