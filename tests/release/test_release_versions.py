"""Versions counted on from the newest release, and the list of releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hubdpo import push
from hubdpo.errors import ConfigError, HubError
from hubdpo.hub.versions import bump
from hubdpo.loopback.faults import Fault
from hubdpo.release.list import releases


def tags(repo_id: str) -> set[str]:
    return {tag.name for tag in HfApi().list_repo_refs(repo_id, repo_type="dataset").tags}


@pytest.mark.parametrize(
    ("newest", "part", "after"),
    [
        (None, "patch", "0.0.1"), (None, "minor", "0.1.0"), (None, "major", "1.0.0"),
        ("v1.2.3", "patch", "1.2.4"), ("v1.2.3", "minor", "1.3.0"), ("v1.2.3", "major", "2.0.0"),
    ],
)  # fmt: skip
def test_the_next_version(newest: str | None, part: str, after: str) -> None:
    assert bump(newest, part) == after


def test_a_word_counts_on_from_the_newest_release(data: Path, other: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.9.0")
    assert push(folder=other, repo=repo_id, version="minor").version == "1.10.0"
    assert tags(repo_id) == {"v1.9.0", "v1.10.0"}


def test_a_word_makes_no_second_release_of_the_same_files(data: Path, repo_id: str) -> None:
    first = push(folder=data, repo=repo_id, version="minor")
    assert first.version == "0.1.0"
    assert push(folder=data, repo=repo_id, version="minor") == first
    assert tags(repo_id) == {"v0.1.0"}


def test_a_word_goes_on_with_what_was_cut_off(data: Path, repo_id: str, faults: Any) -> None:
    faults.add(Fault("status", "/tag/", status=403))
    with pytest.raises(HubError):
        push(folder=data, repo=repo_id, version="major")
    push(folder=data, repo=repo_id, version="major")
    assert tags(repo_id) == {"v1.0.0"}
    assert [b.name for b in HfApi().list_repo_refs(repo_id, repo_type="dataset").branches] == ["main"]


def test_a_version_below_the_newest_is_published_only_after_a_release_before_it(
    data: Path, other: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    push(folder=data, repo=repo_id, version="1.0.0")  # the same once more is no new version
    with pytest.raises(ConfigError, match=r"has v1\.0\.0 already, and v0\.9\.0 goes on from no release") as caught:
        push(folder=other, repo=repo_id, version="0.9.0")
    assert caught.value.hint == "--version 1.0.1"
    assert tags(repo_id) == {"v1.0.0"}
    push(folder=other, repo=repo_id, version="2.0.0")
    capsys.readouterr()
    push(folder=other, repo=repo_id, version="1.0.1")
    assert "v1.0.1 goes on from v1.0.0, below v2.0.0, where main stays" in capsys.readouterr().err
    assert tags(repo_id) == {"v1.0.0", "v1.0.1", "v2.0.0"}


def test_another_word_is_refused(data: Path, repo_id: str) -> None:
    with pytest.raises(ConfigError, match="patch, minor or major"):
        push(folder=data, repo=repo_id, version="next")


def test_releases_are_listed_newest_first(data: Path, other: Path, repo_id: str) -> None:
    push(folder=other, repo=repo_id, version="1.2.0")
    newest = push(folder=data, repo=repo_id, version="1.10.0")
    HfApi().create_tag(repo_id, tag="v0.0.1", repo_type="dataset", revision=newest.commit)
    HfApi().create_tag(repo_id, tag="nightly", repo_type="dataset")
    found = releases(repo_id)
    assert [one.tag for one in found] == ["v1.10.0", "v1.2.0", "v0.0.1"]
    assert [one.on_main for one in found] == [True, False, False]
    assert [one.kind for one in found] == ["dataset", "dataset", None]
    assert found[0].commit == newest.commit
    assert found[0].bytes and found[0].bytes > (data / "README.md").stat().st_size


def test_a_tag_of_somebody_else_is_listed_as_such(repo_id: str) -> None:
    HfApi().create_repo(repo_id)
    HfApi().create_tag(repo_id, tag="v3.0.0")
    (one,) = releases(repo_id)
    assert (one.kind, one.files, one.on_main) == (None, None, False)
