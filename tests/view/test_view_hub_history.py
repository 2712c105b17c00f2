"""Commits, discussions, pull requests, lists and collections of a Hub as pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hubdpo.view.hub import discussions
from hubdpo.view.hub.history import PAGE
from hubdpo.view.kept import Kept
from hubdpo.view.release import changes, places
from tests.view.hosting import CAROL, DAVE, Served, served

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for made in served(tmp_path_factory.mktemp("hub") / "hub"):
        made.api.create_repo("carol/x")
        made.api.create_repo("carol/zeta")
        made.api.create_repo("carol/zeta", repo_type="dataset")
        yield made


def commit(api: HfApi, files: dict[str, bytes], message: str = "Change", deleted: tuple[str, ...] = ()) -> str:
    operations = [CommitOperationAdd(name, data) for name, data in files.items()]
    operations += [CommitOperationDelete(name) for name in deleted]
    return str(api.create_commit("carol/x", operations, commit_message=message).oid)


def test_a_commit_shows_what_it_changed(hub: Served) -> None:
    commit(hub.api, {"a.txt": b"one\ntwo\n", "gone.txt": b"x\n", "b.bin": b"\0\1"})
    sha = commit(hub.api, {"a.txt": b"one\n<b>2</b>\n", "b.bin": b"\0\2"}, HOSTILE, deleted=("gone.txt",))
    text = hub.text(f"/carol/x/commit/{sha}")
    assert '<tr class="removed"><td><code>-two</code>' in text and "<code>+&lt;b&gt;2&lt;/b&gt;</code>" in text
    assert text.count('class="file"') == 3 and "not text" in text and ">removed</span>" in text
    assert "<script>alert" not in text and "<img" not in text and "&lt;script&gt;" in text


def test_the_first_commit_adds_everything(hub: Served) -> None:
    first = hub.api.list_repo_commits("carol/x")[-1].commit_id
    assert ".gitattributes" in hub.text(f"/carol/x/commit/{first}")


def test_a_short_id_names_a_commit(hub: Served) -> None:
    sha = commit(hub.api, {"a.txt": b"short\n"}, "By a short id")
    assert "By a short id" in hub.text(f"/carol/x/commit/{sha[:8]}")


def test_the_history_comes_in_pages(hub: Served) -> None:
    hub.api.create_repo("carol/long")
    for number in range(PAGE + 2):
        hub.api.create_commit(
            "carol/long", [CommitOperationAdd("a", str(number).encode())], commit_message=f"No {number}."
        )
    first, second = hub.text("/carol/long/commits/main"), hub.text("/carol/long/commits/main?p=1")
    assert f"{PAGE + 3} commits" in first and f"No {PAGE + 1}." in first and "No 0." not in first
    assert "No 0." in second and 'rel="next"' in first and 'rel="next"' not in second and 'rel="prev"' in second


def test_a_revision_can_be_chosen(hub: Served) -> None:
    hub.api.create_branch("carol/x", branch="feature/one", exist_ok=True)
    hub.api.create_tag("carol/x", tag="v9.9.9", exist_ok=True)
    text = hub.text("/carol/x/tree/main")
    assert '<option value="feature/one">' in text and '<optgroup label="tags"><option value="v9.9.9">' in text
    assert '<option value="feature/one" selected>' in hub.text("/carol/x/tree?revision=feature%2Fone")


def test_a_discussion_shows_its_comments_and_events(hub: Served) -> None:
    made = hub.api.create_discussion("carol/x", title=HOSTILE, description="Why **this**?\n\n" + HOSTILE)
    hub.api.comment_discussion("carol/x", made.num, comment="- [x] done `code`")
    hub.api.change_discussion_status("carol/x", made.num, "closed")
    hub.api.rename_discussion("carol/x", made.num, new_title="Another title")
    text = hub.text(f"/carol/x/discussions/{made.num}")
    assert "<strong>this</strong>" in text and "☑ done" in text and ": closed" in text and "Another title" in text
    assert "<script>alert" not in text and "<img" not in text
    assert "Another title" in hub.text("/carol/x/discussions?status=closed")
    assert "Another title" not in hub.text("/carol/x/discussions?status=open")


def test_many_comments_are_not_all_formatted(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discussions, "MOST_FORMATTED", 30)
    monkeypatch.setattr(discussions, "MOST_PLAIN", 60)
    monkeypatch.setattr(discussions, "SHORT", 20)
    made = hub.api.create_discussion("carol/x", title="Much text", description="**first**")
    for comment in ("**second** <b>" + "x" * 20, "**third** " + "y" * 60):
        hub.api.comment_discussion("carol/x", made.num, comment=comment)
    text = hub.text(f"/carol/x/discussions/{made.num}")
    assert "<strong>first</strong>" in text and "**second** &lt;b&gt;" + "x" * 20 in text
    assert "**third** …" in text and text.count("not formatted") == 2 and text.count("cut in its middle") == 1


def test_a_text_is_formatted_once_for_a_commit(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hub.api.create_discussion("carol/x", title="Once", description="only **once**")
    count, real = [], places.format_markdown
    monkeypatch.setattr(places, "format_markdown", lambda text, targets: count.append(text) or real(text, targets))
    pages = [hub.text(f"/carol/x/discussions/{made.num}") for _ in range(3)]
    assert count == ["only **once**"] and all("<strong>once</strong>" in page for page in pages)


def test_formatted_texts_are_bounded_in_characters() -> None:
    kept = Kept(10, len)
    for name in "abc":
        kept.take(name, lambda: "12345")
    assert kept.take("a", lambda: "again") == "again" and kept.take("c", lambda: "") == "12345"
    assert kept.take("d", lambda: "longer than all") == "longer than all" and not kept._made


def test_without_versions_there_is_nothing_to_compare(hub: Served) -> None:
    hub.api.create_repo("carol/one")
    hub.api.create_tag("carol/one", tag="same")
    text = hub.text("/carol/one/versions")
    assert "nothing to compare with" in text and "<select" not in text
    hub.api.upload_file(repo_id="carol/one", path_in_repo="f", path_or_fileobj=b"1")
    text = hub.text("/carol/one/versions")
    assert '<option value="same" selected>' in text and '<option value="main" selected>' in text


def test_a_pull_request_shows_its_changes_and_its_files(hub: Served) -> None:
    adds = [CommitOperationAdd("new.py", b"x = 1\n")]
    done = hub.api.create_commit("carol/x", adds, commit_message="Propose it", create_pr=True)
    number = str(done.pr_num)
    text = hub.text(f"/carol/x/discussions/{number}")
    assert "<code>+x = 1</code>" in text and f"/carol/x/tree/refs%2Fpr%2F{number}" in text
    for path in (f"tree/refs/pr/{number}", f"tree/refs%2Fpr%2F{number}", f"blob/refs/pr/{number}/new.py"):
        assert "new.py" in hub.text(f"/carol/x/{path}")
    hub.api.merge_pull_request("carol/x", done.pr_num)
    assert "merged as" in hub.text(f"/carol/x/discussions/{number}")


@pytest.mark.parametrize(
    "path", ["discussions/999", "discussions/x", "discussions/1/2", "commit", "commit/" + "0" * 40]
)
def test_what_is_not_there_is_not_found(hub: Served, path: str) -> None:
    assert hub.get(f"/carol/x/{path}").status == 404


def test_the_front_page_searches_and_sorts(hub: Served) -> None:
    text = hub.text("/?search=ZETA")
    assert 'href="/carol/zeta"' in text and 'href="/datasets/carol/zeta"' in text and 'href="/carol/x"' not in text
    assert "Nothing that you may read" in hub.text("/?search=nothing-has-this")
    newest = hub.text("/models?sort=createdAt")
    assert newest.index("carol/zeta") < newest.index("carol/x<")
    assert hub.get("/models?sort=nope").status == 400


def test_a_kind_comes_in_pages(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from hubdpo.view.hub import lists

    monkeypatch.setattr(lists, "PAGE", 1)
    found, address = set(), "/models"
    for _ in range(10):
        text = hub.text(address)
        found |= set(re.findall(r'<a href="/(carol/\w+)" data-open>', text))
        if not (more := re.search(r'rel="next" href="([^"]*)"', text)):
            break
        address = more[1].replace("&amp;", "&")
    assert {"carol/x", "carol/zeta"} <= found and len(found) == len(list(hub.api.list_models(token=False)))


def test_collections_show_their_items(hub: Served) -> None:
    made = hub.api.create_collection("Things <b>", description="What <i>I</i> like")
    hub.api.add_collection_item(made.slug, "carol/x", "model", note="a <u>note</u>")
    text = hub.text(f"/collections/{made.slug}")
    assert "Things &lt;b&gt;" in text and "a &lt;u&gt;note&lt;/u&gt;" in text and 'href="/carol/x"' in text
    for path in ("/collections", "/", "/carol"):
        assert f'href="/collections/{made.slug}"' in hub.text(path)
    assert hub.get("/collections/carol/nope").status == 404


def test_a_private_repo_and_collection_stay_out_of_collections(hub: Served) -> None:
    hub.api.create_repo("carol/hidden", private=True, exist_ok=True)
    shown = hub.api.create_collection("Mixed")
    hub.api.add_collection_item(shown.slug, "carol/hidden", "model")
    closed = hub.api.create_collection("Closed", private=True)
    for token in ("", DAVE):
        assert "carol/hidden" not in hub.text(f"/collections/{shown.slug}", token)
        assert (
            hub.get(f"/collections/{closed.slug}", token).status
            == hub.get("/collections/carol/nope", token).status
            == 404
        )
        assert "Closed" not in hub.text("/collections", token)
    assert "carol/hidden" in hub.text(f"/collections/{shown.slug}", CAROL)
    assert hub.get(f"/collections/{closed.slug}", CAROL).status == 200


def test_many_changes_are_cut_and_say_so(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_SHOWN", 4)
    monkeypatch.setattr(changes, "MOST_FILES", 2)
    sha = commit(hub.api, {f"many/{n}.txt": b"1\n2\n3\n4\n5\n" for n in range(3)}, "Many files")
    text = hub.text(f"/carol/x/commit/{sha}")
    assert "3 files changed; the first 2 are shown" in text and "cut here: there are many changes" in text


def test_long_files_are_not_compared_by_lines(hub: Served) -> None:
    lines = b"".join(b"%d\n" % n for n in range(changes.MOST_LINES + 1))
    sha = commit(hub.api, {"long.txt": lines, "wide.txt": b"a" * (changes.LARGEST + 1)}, "Long files")
    text = hub.text(f"/carol/x/commit/{sha}")
    assert "more than 2,000 lines" in text and "too large to be compared by lines" in text


def test_a_line_end_that_changed_is_told(hub: Served) -> None:
    commit(hub.api, {"end.txt": b"one"})
    sha = commit(hub.api, {"end.txt": b"one\n"}, "An end")
    assert "the ends of lines differ" in hub.text(f"/carol/x/commit/{sha}")
