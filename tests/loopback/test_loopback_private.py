"""Private and deleted repos are in no list, and their signed URLs stop working."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hubdpo.loopback.limits import LARGEST_FILE
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.xet import shards, xorbs
from tests.loopback.ask import Answered, ask

LARGE = bytes(range(256)) * 40


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "dave:hf_dave", "eve:hf_eve:read"]) as made:
        yield made


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    made = HfApi(endpoint=hub.endpoint, token="hf_carol")
    made.create_repo("carol/x")
    made.upload_file(repo_id="carol/x", path_in_repo="w.bin", path_or_fileobj=LARGE)
    return made


def test_a_private_repo_is_named_in_no_list(hub: LoopbackHub, api: HfApi) -> None:
    collection = api.create_collection("mine")
    api.add_collection_item(collection.slug, "carol/x", "model")
    api.create_discussion("carol/x", "a title")
    paths = ["/api/models", "/api/models?author=carol", "/api/collections", f"/api/collections/{collection.slug}"]
    assert all(b"carol/x" in ask(hub, "GET", path).body for path in paths)
    api.update_repo_settings("carol/x", private=True)
    for token in ("", "hf_dave", "hf_eve"):
        answers = [ask(hub, "GET", path, token=token) for path in [*paths, "/api/models/carol/x/discussions"]]
        assert [answer.status for answer in answers[:4]] == [200] * 4 and answers[4].status in (401, 404)
        assert not [answer for answer in answers if b"carol/x" in answer.body]
    assert all(b"carol/x" in ask(hub, "GET", path, token="hf_carol").body for path in paths)


def download(hub: LoopbackHub, token: str) -> Callable[[], Answered]:
    """The signed URL of the large file for this user."""
    there = ask(hub, "HEAD", "/carol/x/resolve/main/w.bin", token=token).headers["location"]
    return lambda: ask(hub, "GET", there.partition("/_cdn")[1] + there.partition("/_cdn")[2])


def upload(hub: LoopbackHub, token: str) -> Callable[[], Answered]:
    asked = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 3}]}
    answer = ask(hub, "POST", "/carol/x.git/info/lfs/objects/batch", asked, token=token)
    (shown,) = json.loads(answer.body)["objects"]
    there = shown["actions"]["upload"]["href"].partition("/_lfs")
    return lambda: ask(hub, "PUT", there[1] + there[2], b"abc")


def by_xet_token(hub: LoopbackHub, token: str) -> Callable[[], Answered]:
    given = json.loads(ask(hub, "GET", "/api/models/carol/x/xet-read-token/main", token=token).body)
    return lambda: ask(hub, "GET", f"/_xet/v1/chunks/default/{'0' * 64}", token=given["accessToken"])


@pytest.mark.parametrize(("signed", "good"), [(download, 200), (upload, 400), (by_xet_token, 404)])
def test_a_signed_url_ends_when_its_repo_is_private_or_gone(
    hub: LoopbackHub, api: HfApi, signed: Callable[[LoopbackHub, str], Callable[[], Answered]], good: int
) -> None:
    others, own = signed(hub, "hf_dave"), signed(hub, "hf_carol")
    assert (others().status, own().status) == (good, good)
    api.update_repo_settings("carol/x", private=True)
    assert others().status == 403
    owner = signed(hub, "hf_carol")
    assert owner().status == good
    api.update_repo_settings("carol/x", private=False)
    assert (others().status, owner().status) == (good, good)
    api.delete_repo("carol/x")
    assert (others().status, own().status, owner().status) == (403, 403, 403)


def test_an_address_says_no_more_than_it_was_signed_for(hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo("carol/secret", private=True)
    there = ask(hub, "HEAD", "/carol/x/resolve/main/w.bin").headers["location"]
    path = "/_cdn" + there.partition("/_cdn")[2]
    for old, new in (("carol%2Fx", "carol%2Fsecret"), ("reader=", "reader=carol"), ("until=1", "until=2")):
        assert old in path and ask(hub, "GET", path.replace(old, new)).status == 403


def batch(hub: LoopbackHub, token: str, *sizes: Any) -> Answered:
    objects = [{"oid": f"{number:064}", "size": size} for number, size in enumerate(sizes)]
    asked = {"operation": "upload", "objects": objects}
    return ask(hub, "POST", "/carol/x.git/info/lfs/objects/batch", asked, token=token)


@pytest.mark.parametrize(
    ("sizes", "status"),
    [([2**50], 413), ([LARGEST_FILE + 1], 413), ([2**80], 413), ([-1], 400), (["9"], 400), ([10**9], 507),
     ([4 * 10**8] * 3, 507), ([4 * 10**8], 200)],
)  # fmt: skip
def test_an_upload_that_the_disk_has_no_room_for_is_refused_before_it_is_signed(
    hub: LoopbackHub, api: HfApi, sizes: list[Any], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("hubdpo.loopback.limits.shutil.disk_usage", lambda _: usage._replace(free=10**9))
    answer = batch(hub, "hf_carol", *sizes)
    assert answer.status == status and (status == 200) == (b"signature" in answer.body)


@pytest.mark.parametrize("token", ["", "hf_eve"])
def test_no_upload_url_without_a_write_token(hub: LoopbackHub, api: HfApi, token: str) -> None:
    assert batch(hub, token, 3).status in (401, 403)


def test_a_xorb_that_unpacks_to_more_than_one_may_hold_is_refused() -> None:
    from hubdpo.loopback.http.wire import Refusal

    piece = bytes([0]) + (16).to_bytes(3, "little") + b"\0" + (16).to_bytes(3, "little") + bytes(16)
    assert len(xorbs.read_chunks(io.BytesIO(piece * 3))) == 3
    with pytest.raises(Refusal, match="unpacks to too many bytes"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(xorbs, "LARGEST_CONTENT", 40)
        xorbs.read_chunks(io.BytesIO(piece * 3))


def test_a_shard_that_makes_up_an_absurd_file_is_refused() -> None:
    from hubdpo.loopback.http.wire import Refusal

    term = shards.TERM.pack(bytes(32), 0, 2**32 - 1, 0, 1)
    count = LARGEST_FILE // (2**32 - 1) + 1
    data = shards.HEADER.pack(shards.TAG, 2, 0) + shards.FILE.pack(bytes(32), 0, count) + term * count + shards.END
    with pytest.raises(Refusal) as problem:
        shards.read_files(data)
    assert problem.value.status == 413


def test_a_diff_of_files_that_would_take_for_ever_names_them_alone(hub: LoopbackHub, api: HfApi) -> None:
    import random
    import time

    words = random.Random(1).choices(["a\n", "b\n"], k=200_000)
    api.upload_file(repo_id="carol/x", path_in_repo="long.txt", path_or_fileobj="".join(words).encode())
    words = random.Random(2).choices(["a\n", "b\n"], k=200_000)
    api.upload_file(repo_id="carol/x", path_in_repo="long.txt", path_or_fileobj="".join(words).encode(), create_pr=True)
    started = time.process_time()
    shown = json.loads(ask(hub, "GET", "/api/models/carol/x/discussions/1?diff=1").body)["diff"]
    assert "a file of 400,000 bytes" in shown and time.process_time() - started < 10
