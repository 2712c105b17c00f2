"""What `push` does beside a release: pull requests, collections, visibility and the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import HfApi

from hubdpo import push, verify
from hubdpo.errors import HubError, VerificationFailed, VersionTaken
from hubdpo.loopback.faults import Fault

if TYPE_CHECKING:
    from tests.conftest import Hub


@pytest.fixture
def repo(repo_id: str) -> str:
    HfApi().create_repo(repo_id, repo_type="dataset")
    return repo_id


def proposals(repo: str) -> list[int]:
    return [one.num for one in HfApi().get_repo_discussions(repo, repo_type="dataset", discussion_type="pull_request")]


def state(repo: str) -> tuple[list[str], list[str]]:
    """Tags, and files on main."""
    tags = HfApi().list_repo_refs(repo, repo_type="dataset").tags
    return [tag.name for tag in tags], sorted(HfApi().list_repo_files(repo, repo_type="dataset"))


def test_a_proposal_is_one_verified_commit_and_no_release(data: Path, repo: str, run_cli: Any) -> None:
    done = run_cli("push", str(data), repo, "--version", "1.0.0", "--create-pr", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["pull_request"] == told["url"] and told["url"].endswith(f"/datasets/{repo}/discussions/1")
    assert state(repo) == ([], [".gitattributes"])
    refs = HfApi().list_repo_refs(repo, repo_type="dataset", include_pull_requests=True)
    assert [ref.target_commit for ref in refs.pull_requests or []] == [told["commit"]]
    assert [branch.name for branch in refs.branches] == ["main"]
    commits = HfApi().list_repo_commits(repo, repo_type="dataset", revision="refs/pr/1")
    assert [commit.title for commit in commits] == ["Release v1.0.0", "initial commit"]
    assert not (data / "release.json").exists()


def test_the_same_files_are_proposed_once(data: Path, other: Path, repo: str) -> None:
    first = push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    assert push(folder=data, repo=repo, version="1.0.0", create_pr=True) == first
    assert proposals(repo) == [1]
    push(folder=other, repo=repo, version="1.0.0", create_pr=True)
    assert proposals(repo) == [2, 1]


def test_a_proposal_whose_answer_was_lost_is_found(data: Path, repo: str, faults: Any) -> None:
    faults.add(Fault("reset-after", "/commit/"))
    push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    assert proposals(repo) == [1]


def test_a_closed_proposal_is_not_taken_up_again(data: Path, repo: str) -> None:
    push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    HfApi().change_discussion_status(repo, 1, "closed", repo_type="dataset")
    assert (push(folder=data, repo=repo, version="1.0.0", create_pr=True).pull_request or "").endswith("/2")


def test_one_proposes_to_a_repo_of_another(data: Path, repo: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.other_token)
    push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    (one,) = HfApi().get_repo_discussions(repo, repo_type="dataset")
    assert one.author == "bob"


def test_a_merged_proposal_is_released_as_it_is(data: Path, repo: str) -> None:
    push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    HfApi().merge_pull_request(repo, 1, repo_type="dataset")
    assert push(folder=data, repo=repo, version="1.0.0", create_pr=True).pull_request is None
    merged = HfApi().dataset_info(repo).sha
    release = push(folder=data, repo=repo, version="1.0.0")
    assert release.commit == merged == verify(f"{repo}@v1.0.0").commit
    assert proposals(repo) == [1]


def test_a_corrupted_proposal_is_told(data: Path, repo: str, faults: Any) -> None:
    faults.add(Fault("corrupt", "/_cdn/", method="GET", times=50))
    with pytest.raises(VerificationFailed):
        push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    faults.clear()
    push(folder=data, repo=repo, version="1.0.0", create_pr=True)
    assert proposals(repo) == [1]


def test_what_cannot_become_a_release_is_not_proposed(data: Path, other: Path, repo_id: str) -> None:
    with pytest.raises(HubError, match="not on the Hub") as caught:
        push(folder=data, repo=repo_id, version="1.0.0", create_pr=True)
    assert "--create-pr" in (caught.value.hint or "")
    assert not HfApi().repo_exists(repo_id, repo_type="dataset")
    push(folder=data, repo=repo_id, version="1.0.0")
    with pytest.raises(VersionTaken):
        push(folder=other, repo=repo_id, version="1.0.0", create_pr=True)
    assert proposals(repo_id) == []


def test_a_release_is_added_to_a_collection_once(data: Path, repo_id: str) -> None:
    title = f"Of {repo_id}"[:50].replace("/", " ")
    for _ in range(2):
        release = push(folder=data, repo=repo_id, version="1.0.0", collection=title)
    (found,) = [one for one in HfApi().list_collections(owner="alice") if one.title == title]
    items = HfApi().get_collection(found.slug).items
    assert [(item.item_id, item.item_type) for item in items] == [(repo_id, "dataset")]
    assert release.collection is not None and release.collection.endswith(f"/collections/{found.slug}")
    push(folder=data, repo=repo_id, version="1.0.0", collection=found.slug)


def test_a_collection_that_is_not_there_stops_before_the_release(data: Path, repo_id: str) -> None:
    with pytest.raises(HubError, match="cannot be found"):
        push(folder=data, repo=repo_id, version="1.0.0", collection="alice/no-such-collection")
    assert not HfApi().repo_exists(repo_id, repo_type="dataset")


def test_a_collection_that_fails_hides_no_release(data: Path, repo_id: str, faults: Any, run_cli: Any) -> None:
    faults.add(Fault("status", "/api/collections$", status=403, method="POST"))
    command = ["push", str(data), repo_id, "--version", "1.0.0", "--collection", "Mine", "--json"]
    done = run_cli(*command)
    assert (done.exit_code, "is released, but not in the collection" in done.stderr) == (4, True)
    told = json.loads(done.stdout)
    assert (told["collection"], told["tag"], told["checked"]) == (None, "v1.0.0", "load")
    assert state(repo_id)[0] == ["v1.0.0"]
    again = run_cli(*command)
    assert again.exit_code == 0 and json.loads(again.stdout)["collection"]


@pytest.mark.parametrize(("is_private", "wanted"), [(False, True), (True, False)])
@pytest.mark.parametrize("dry_run", [False, True])
def test_another_visibility_than_asked_is_refused(
    data: Path, repo_id: str, is_private: bool, wanted: bool, dry_run: bool
) -> None:
    HfApi().create_repo(repo_id, repo_type="dataset", private=is_private)
    with pytest.raises(HubError, match="is private" if is_private else "is public") as caught:
        push(folder=data, repo=repo_id, version="1.0.0", private=wanted, dry_run=dry_run)
    assert f"hf repos settings {repo_id}" in (caught.value.hint or "")
    assert state(repo_id) == ([], [".gitattributes"])


def test_a_private_repo_is_told(data: Path, repo_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    HfApi().create_repo(repo_id, repo_type="dataset", private=True)
    push(folder=data, repo=repo_id, version="1.0.0")
    assert f"{repo_id} is private" in capsys.readouterr().err


def test_the_plan_tells_files_bytes_and_steps(
    data: Path, other: Path, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    HfApi().upload_file(repo_id=repo_id, repo_type="dataset", path_in_repo="NOTES.md", path_or_fileobj=b"mine")
    capsys.readouterr()
    push(folder=other, repo=repo_id, version="1.1.0", dry_run=True)
    told = capsys.readouterr().err
    lines = [line.split() for line in told.splitlines()]
    assert ["data/test-00000-of-00001.parquet", "deleted"] in lines
    assert "left as they are: .gitattributes, NOTES.md" in told
    total = sum(path.stat().st_size for path in other.rglob("*") if path.is_file() and path.name != "rejected.jsonl")
    (summary,) = [line for line in lines if line[1:2] == ["files"]]
    assert int(summary[2].replace(",", "")) > total  # and hubdpo.json
    steps = [line for line in told.splitlines() if line[:1].isdigit() and line[1:3] == ". "]
    assert [step[:1] for step in steps] == list("12345")
    assert "tag v1.1.0" in steps[3] and "hubdpo-stage-1.1.0-" in steps[0]
