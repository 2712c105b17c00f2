"""How to get hubdpo, as it was installed: what is recorded, and what cards say of it."""

from __future__ import annotations

import email.message
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from hubdpo import version
from hubdpo.artefacts.formats.kept_sections import loading_here, loading_release
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.getting import in_words, name_and_version, pip_line
from hubdpo.version import SOURCE, __version__, requirement
from tests.cards.made import adapter_card, run_manifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = f"hubdpo @ git+https://example.org/a/hubdpo.git@{COMMIT}"
WHEEL = "https://example.org/hubdpo-0.4.0-py3-none-any.whl"
DIRECT: dict[str, tuple[dict[str, Any] | None, str]] = {
    "an index": (None, f"hubdpo=={__version__}"),
    "git": ({"url": "https://example.org/a/hubdpo.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, GIT),
    "git with a token": (
        {"url": "https://me:hf_x@example.org/a/hubdpo.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, GIT,
    ),
    "git by ssh": (
        {"url": "ssh://git@example.org/a/hubdpo", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
        f"hubdpo @ git+ssh://git@example.org/a/hubdpo@{COMMIT}",
    ),
    "a folder in git": (
        {"url": "https://example.org/a/b", "vcs_info": {"vcs": "git", "commit_id": COMMIT}, "subdirectory": "py"},
        f"hubdpo @ git+https://example.org/a/b@{COMMIT}#subdirectory=py",
    ),
    "a wheel": ({"url": WHEEL, "archive_info": {}}, f"hubdpo @ {WHEEL}"),
    "a wheel with its hash": (
        {"url": f"{WHEEL}?signature=abc", "archive_info": {"hashes": {"sha256": "f" * 64}}},
        f"hubdpo @ {WHEEL}#sha256={'f' * 64}",
    ),
    "a wheel with the hash of older installers": (
        {"url": WHEEL, "archive_info": {"hash": f"sha256={'e' * 64}"}}, f"hubdpo @ {WHEEL}#sha256={'e' * 64}",
    ),
    "a folder": ({"url": "file:///home/me/hubdpo", "dir_info": {"editable": True}}, SOURCE),
    "a wheel on this machine": ({"url": "file:///home/me/hubdpo-0.4.0-py3-none-any.whl", "archive_info": {}}, SOURCE),
    "git on this machine": ({"url": "file:///home/me/x", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, SOURCE),
    "a server on this machine": ({"url": "http://localhost:8000/hubdpo.whl", "archive_info": {}}, SOURCE),
    "an address that a shell would read": ({"url": "https://example.org/$(id)/x.whl", "archive_info": {}}, SOURCE),
}  # fmt: skip


def install(where: Path, direct: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hubdpo be the package that was installed at `where`, as its metadata there tell."""
    facts = where / "hubdpo.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.4\nName: hubdpo\nVersion: {__version__}\n", encoding="utf-8")
    if direct is not None:
        (facts / "direct_url.json").write_text(json.dumps(direct), encoding="utf-8")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: importlib.metadata.PathDistribution(facts))
    monkeypatch.setattr(version, "__file__", str(where / "hubdpo" / "version.py"))


@pytest.mark.parametrize(("direct", "expected"), DIRECT.values(), ids=list(DIRECT))
def test_what_is_recorded_is_where_hubdpo_was_installed_from(
    direct: dict[str, Any] | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, direct, monkeypatch)
    assert requirement() == expected


def test_a_copy_beside_the_installed_package_is_from_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, None, monkeypatch)
    monkeypatch.setattr(version, "__file__", str(tmp_path / "elsewhere" / "version.py"))
    assert requirement() == SOURCE


def test_the_card_of_a_run_tells_how_to_get_the_hubdpo_that_made_it() -> None:
    card = adapter_card(run_manifest(hubdpo_from=GIT))
    assert f'```bash\npip install "{GIT}"\nhubdpo train ' in card
    assert "| software | [hubdpo](https://example.org/a/hubdpo) 0.1.0, " in card


def test_a_hubdpo_from_its_source_is_not_looked_for_on_an_index() -> None:
    card = adapter_card(run_manifest(hubdpo_from=SOURCE))
    assert 'pip install "' not in card
    assert "Use hubdpo 0.1.0; it was installed from its source, not from a package index." in card


def test_a_run_of_an_earlier_version_names_no_package() -> None:
    assert 'pip install "' not in adapter_card(run_manifest())
    assert (pip_line(None), in_words("0.3.0", None).endswith("is not recorded.")) == ("", True)


def test_the_name_links_to_the_address_in_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    message = email.message.Message()
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: message)
    assert name_and_version("1.0", SOURCE) == "hubdpo 1.0"
    message["Project-URL"] = "Source, https://example.org/hubdpo"
    assert name_and_version("1.0", SOURCE) == "[hubdpo](https://example.org/hubdpo) 1.0"


@pytest.mark.parametrize(
    "hostile", ['hubdpo"; rm -rf ~', "hubdpo @ https://x/`id`", "hubdpo @ file:///home/me", "x==1"]
)
def test_a_manifest_cannot_put_another_command_into_a_card(hostile: str) -> None:
    run = run_manifest().model_dump(mode="json") | {"hubdpo_from": hostile}
    with pytest.raises(pydantic.ValidationError, match="hubdpo_from"):
        RunManifest.model_validate(run)


def test_a_dataset_card_gets_the_command_when_it_is_published_and_loses_it_again() -> None:
    folder = "```bash\n# made with hubdpo 0.4.0\nhubdpo prepare x -o data\n```\n"
    published = loading_release(folder, "a/b", "v1.0.0", pip_line(GIT))
    assert f'pip install "{GIT}"  # made with hubdpo 0.4.0\n' in published
    assert loading_here(published) == folder == loading_release(published, "a/b", "v1.0.1")
