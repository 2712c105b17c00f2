"""Pull requests and collections of the loopback Hub, through the public client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

if TYPE_CHECKING:
    from tests.conftest import Hub

LARGE = b"\0" * 3000


@pytest.fixture
def bob(hub: Hub) -> HfApi:
    return HfApi(token=hub.other_token)


@pytest.fixture
def repo(repo_id: str) -> str:
    HfApi().create_repo(repo_id)
    HfApi().upload_file(repo_id=repo_id, path_in_repo="a.txt", path_or_fileobj=b"one\n")
    return repo_id


def propose(api: HfApi, repo: str, files: dict[str, bytes], **options: Any) -> Any:
    operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=data) for path, data in files.items()]
    return api.create_commit(
        repo, operations, commit_message="Change a few", commit_description="Why: because", create_pr=True, **options
    )


def text(repo: str, path: str, revision: str) -> str:
    from pathlib import Path

    return Path(HfApi().hf_hub_download(repo, path, revision=revision)).read_text()


def status(problem: Any) -> int:
    return int(problem.value.response.status_code)


def test_anybody_may_propose_and_main_stays(repo: str, bob: HfApi) -> None:
    head = HfApi().model_info(repo).sha
    made = propose(bob, repo, {"a.txt": b"two\n", "weights.bin": LARGE}, parent_commit=head)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    refs = HfApi().list_repo_refs(repo, include_pull_requests=True)
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests or []] == [("refs/pr/1", made.oid)]
    assert [branch.target_commit for branch in refs.branches] == [head]
    assert text(repo, "a.txt", "refs/pr/1") == "two\n"
    assert text(repo, "a.txt", made.oid) == "two\n"
    assert text(repo, "a.txt", "main") == "one\n"


def test_the_page_of_a_pull_request_has_title_description_and_diff(repo: str, bob: HfApi) -> None:
    propose(bob, repo, {"a.txt": b"two\n"})
    found = HfApi().get_discussion_details(repo, 1)
    assert (found.title, found.author, found.status, found.target_branch) == (
        "Change a few", "bob", "open", "refs/heads/main",
    )  # fmt: skip
    assert found.events[0].content == "Why: because"  # type: ignore[attr-defined]
    assert "-one\n+two" in (found.diff or "")
    assert found.conflicting_files == []


def test_the_owner_merges_and_nobody_else(repo: str, bob: HfApi) -> None:
    propose(bob, repo, {"a.txt": b"two\n"})
    HfApi().upload_file(repo_id=repo, path_in_repo="b.txt", path_or_fileobj=b"meanwhile\n")
    with pytest.raises(HfHubHTTPError) as problem:
        bob.merge_pull_request(repo, 1)
    assert status(problem) == 403
    HfApi().merge_pull_request(repo, 1)
    assert (text(repo, "a.txt", "main"), text(repo, "b.txt", "main")) == ("two\n", "meanwhile\n")
    assert HfApi().get_discussion_details(repo, 1).status == "merged"
    assert HfApi().list_repo_commits(repo)[0].title == "Change a few (#1)"


def test_a_conflict_with_main_is_not_merged(repo: str, bob: HfApi) -> None:
    propose(bob, repo, {"a.txt": b"two\n"})
    HfApi().upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"three\n")
    assert HfApi().get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().merge_pull_request(repo, 1)
    assert status(problem) == 409
    assert text(repo, "a.txt", "main") == "three\n"


def test_an_old_parent_is_refused(repo: str, bob: HfApi) -> None:
    head = HfApi().model_info(repo).sha
    HfApi().upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"three\n")
    with pytest.raises(HfHubHTTPError) as problem:
        propose(bob, repo, {"b.txt": b"two\n"}, parent_commit=head)
    assert status(problem) == 412
    assert not list(HfApi().get_repo_discussions(repo))


def test_they_are_listed_by_kind_author_and_state(repo: str, bob: HfApi) -> None:
    propose(bob, repo, {"a.txt": b"two\n"})
    propose(HfApi(), repo, {"a.txt": b"three\n"})
    bob.create_discussion(repo, "A question")
    HfApi().change_discussion_status(repo, 2, "closed")

    def numbers(**filters: Any) -> list[int]:
        return [one.num for one in HfApi().get_repo_discussions(repo, **filters)]

    assert numbers() == [3, 2, 1]
    assert numbers(discussion_type="pull_request") == [2, 1]
    assert numbers(author="bob") == [3, 1]
    assert numbers(discussion_type="pull_request", discussion_status="open") == [1]


def test_the_author_adds_commits_to_a_pull_request(repo: str, bob: HfApi) -> None:
    made = bob.create_pull_request(repo, "Step by step")
    bob.upload_file(repo_id=repo, path_in_repo="c.txt", path_or_fileobj=b"more\n", revision="refs/pr/1")
    bob.comment_discussion(repo, made.num, "Ready")
    assert text(repo, "c.txt", "refs/pr/1") == "more\n"
    assert [event.content for event in HfApi().get_discussion_details(repo, 1).events][1:] == ["Ready"]  # type: ignore[attr-defined]
    with pytest.raises(HfHubHTTPError):
        bob.upload_file(repo_id=repo, path_in_repo="c.txt", path_or_fileobj=b"more\n")


def test_a_private_repo_takes_no_proposals_of_others(repo_id: str, bob: HfApi) -> None:
    HfApi().create_repo(repo_id, private=True)
    with pytest.raises(RepositoryNotFoundError):
        propose(bob, repo_id, {"a.txt": b"two\n"})


def test_a_collection_is_made_once_and_takes_an_item_once(repo: str, hub: Hub) -> None:
    api = HfApi()
    made = api.create_collection(f"Mine {repo}"[:50], description="All of mine")
    assert api.create_collection(made.title, exists_ok=True).slug == made.slug
    with pytest.raises(HfHubHTTPError) as problem:
        api.create_collection(made.title)
    assert status(problem) == 409
    api.add_collection_item(made.slug, repo, "model", note="the first")
    api.add_collection_item(made.slug, repo, "model", exists_ok=True)
    with pytest.raises(HfHubHTTPError) as problem:
        api.add_collection_item(made.slug, repo, "model")
    assert status(problem) == 409
    (item,) = api.get_collection(made.slug).items
    assert (item.item_id, item.item_type, item.note) == (repo, "model", "the first")
    assert made.slug in [one.slug for one in api.list_collections(owner=hub.user)]
    api.delete_collection_item(made.slug, item.item_object_id)
    assert api.get_collection(made.slug).items == []
    api.delete_collection(made.slug)
    with pytest.raises(HfHubHTTPError):
        api.get_collection(made.slug)


def test_a_collection_takes_what_exists_and_from_its_owner_alone(repo: str, bob: HfApi) -> None:
    made = HfApi().create_collection(f"Own {repo}"[:50])
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().add_collection_item(made.slug, "alice/no-such-model", "model")
    assert status(problem) == 404
    with pytest.raises(HfHubHTTPError) as problem:
        bob.add_collection_item(made.slug, repo, "model")
    assert status(problem) == 403


def first_comment(repo: str, number: int) -> Any:
    return HfApi().get_discussion_details(repo, number).events[0]


def test_its_author_edits_a_comment(repo: str, bob: HfApi) -> None:
    made = bob.create_discussion(repo, "A question", description="Why")
    edited = bob.edit_discussion_comment(repo, made.num, first_comment(repo, made.num).id, new_content="Why not?")
    assert (edited.content, edited.edited) == ("Why not?", True)
    assert first_comment(repo, made.num) == edited
    with pytest.raises(HfHubHTTPError) as problem:
        HfApi().edit_discussion_comment(repo, made.num, edited.id, new_content="Nothing")
    assert status(problem) == 403
    with pytest.raises(HfHubHTTPError) as problem:
        bob.edit_discussion_comment(repo, made.num, "abc", new_content="Nothing")
    assert status(problem) == 404


@pytest.mark.filterwarnings("ignore:Hidden comments")
def test_a_hidden_comment_is_gone(repo: str, bob: HfApi, hub: Hub) -> None:
    made = bob.create_discussion(repo, "A question", description="a-secret")
    owner = HfApi()
    owner.hide_discussion_comment(repo, made.num, first_comment(repo, made.num).id)  # the owner of the repo may, too
    assert first_comment(repo, made.num).hidden
    assert "secret" not in first_comment(repo, made.num).content
    with pytest.raises(HfHubHTTPError) as problem:
        bob.edit_discussion_comment(repo, made.num, first_comment(repo, made.num).id, new_content="Again")
    assert status(problem) == 409
    mine = owner.comment_discussion(repo, made.num, "An answer")
    with pytest.raises(HfHubHTTPError) as problem:
        bob.hide_discussion_comment(repo, made.num, mine.id)
    assert status(problem) == 403
    assert b"a-secret" not in b"".join(path.read_bytes() for path in hub.root.rglob("discussions.json"))


@pytest.mark.filterwarnings("ignore:Hidden comments")
def test_the_text_of_a_hidden_description_is_not_committed(repo: str, bob: HfApi) -> None:
    propose(bob, repo, {"a.txt": b"two\n"})
    bob.hide_discussion_comment(repo, 1, first_comment(repo, 1).id)
    HfApi().merge_pull_request(repo, 1)
    assert HfApi().list_repo_commits(repo)[0].message == ""


def test_a_closed_or_merged_discussion_keeps_the_last_word(repo: str, bob: HfApi) -> None:
    made = bob.create_discussion(repo, "A question")
    HfApi().change_discussion_status(repo, made.num, "closed", comment="Answered elsewhere")
    assert [event.type for event in HfApi().get_discussion_details(repo, made.num).events][1:] == [
        "comment", "status-change",
    ]  # fmt: skip
    propose(bob, repo, {"a.txt": b"two\n"})
    HfApi().merge_pull_request(repo, 2, comment="Thanks")
    assert "Thanks" in [getattr(event, "content", "") for event in HfApi().get_discussion_details(repo, 2).events]


def test_a_title_has_200_characters_at_most(repo: str, hub: Hub) -> None:
    api = HfApi()
    number = api.create_discussion(repo, title="t" * 200).num
    with pytest.raises(HfHubHTTPError, match="3 to 200 characters, not 201"):
        api.create_discussion(repo, title="t" * 201)
    with pytest.raises(HfHubHTTPError, match="3 to 200 characters, not 201"):
        api.rename_discussion(repo, number, new_title="t" * 201)
    add = CommitOperationAdd("long.txt", b"1")
    proposed = api.create_commit(repo, [add], commit_message="m" * 999, create_pr=True)
    assert proposed.pr_num
    details = api.get_discussion_details(repo, proposed.pr_num)
    assert details.title.startswith("m" * 100) and len(details.title) <= 200
    assert api.list_repo_commits(repo, revision=f"refs/pr/{proposed.pr_num}")[0].title == "m" * 999
