"""The loopback Hub with the unmodified Xet client, in processes of its own.

Which transport huggingface_hub takes is read at import, and the tests themselves run with Xet off: they are the other
mode, and read what came by Xet over plain HTTP.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lz4.frame
import pytest
from huggingface_hub import HfApi

from hubdpo.loopback import gitio, limits
from hubdpo.loopback.api.routes import Routes
from hubdpo.loopback.http.server import Logged
from hubdpo.loopback.http.wire import Answer, Refusal, Request
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.store import Repo, Store
from hubdpo.loopback.storage.tokens import Signer, Token
from hubdpo.loopback.xet import shards, xorbs
from hubdpo.loopback.xet.store import XetStore
from tests.loopback.ask import Body

if TYPE_CHECKING:
    from tests.conftest import Hub

pytestmark = pytest.mark.slow
JSON = {"Content-Type": "application/json"}
CONTENT = bytes(range(256)) * 8000 + os.urandom(1_500_000) + b"".join(struct.pack("<f", i / 7) for i in range(200_000))
SEND_AND_READ = """
import hashlib, sys
from huggingface_hub import HfApi, hf_hub_download
api, (source, repo, *names) = HfApi(), sys.argv[1:]
api.create_repo(repo, exist_ok=True)
for name in names:
    api.upload_file(path_or_fileobj=source, path_in_repo=name, repo_id=repo)
    print(hashlib.sha256(open(hf_hub_download(repo, name), "rb").read()).hexdigest())
"""


def by_xet(endpoint: str, home: Path, code: str, *given: str, token: str = "hf_carol") -> list[str]:
    """Run Python with Xet enabled and its own HF_HOME. Return the lines it printed."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HOME": str(home)}
    environment.pop("HF_HUB_DISABLE_XET")
    done = subprocess.run([sys.executable, "-c", code, *given], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@dataclass
class Sent:
    server: LoopbackHub
    root: Path
    source: Path
    requests: list[Logged]
    printed: list[str]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """A Hub with two uploaded files of some megabytes."""
    folder = tmp_path_factory.mktemp("xet")
    source = folder / "content"
    source.write_bytes(CONTENT)
    with LoopbackHub(folder / "hub", tokens=["carol:hf_carol", "carol:hf_read:read", "dave:hf_dave"]) as server:
        printed = by_xet(server.endpoint, folder / "home", SEND_AND_READ, str(source), "carol/x", "a.bin", "b.bin")
        yield Sent(server, folder / "hub", source, list(server.requests), printed)


@pytest.fixture
def by_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_XET_CLIENT_SHARD_API_VERSION", "1")
    monkeypatch.setenv("HF_XET_CLIENT_RECONSTRUCTION_API_VERSION", "1")


def called(requests: list[Logged], part: str, method: str | None = None) -> list[Logged]:
    """The requests to a path, in which the generation of the xorbs is left out."""
    return [r for r in requests if part in re.sub("/~[0-9a-f]{16}/", "/", r.path) and method in (None, r.method)]


def ask(server: LoopbackHub, path: str, *, token: str | None = None, data: bytes | None = None, **headers: str) -> Any:
    """Return the status and body of a plain request."""
    request = urllib.request.Request(f"{server.endpoint}{path}", data=data, headers=headers)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, problem.read()


def xet_token(server: LoopbackHub, scope: str, *, repo: str = "carol/x", token: str = "hf_carol") -> str:
    status, body = ask(server, f"/api/models/{repo}/xet-{scope}-token/main", token=token)
    assert status == 200
    return str(json.loads(body)["accessToken"])


def a_xorb(sent: Sent) -> tuple[str, bytes]:
    path = max((sent.root / "xorbs").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    return path.name, path.read_bytes()


def test_content_comes_back_as_it_went(sent: Sent) -> None:
    assert sent.printed == [hashlib.sha256(CONTENT).hexdigest()] * 2


def test_the_upload_used_xet_and_not_lfs(sent: Sent) -> None:
    assert called(sent.requests, "/_xet/v1/xorbs/", "POST")
    assert called(sent.requests, "/_xet/xorb/", "GET")
    assert not called(sent.requests, "/_lfs/") and not called(sent.requests, "/info/lfs/")
    assert not called(sent.requests, "/_cdn/")


def test_xorbs_are_read_from_another_origin_without_a_token(sent: Sent) -> None:
    reads = called(sent.requests, "/_xet/xorb/")
    assert all(r.host.startswith("localhost") and not r.sent_token and r.status == 206 for r in reads)


def test_known_content_is_sent_once(sent: Sent) -> None:
    assert sum(r.received for r in called(sent.requests, "/_xet/v1/xorbs/")) < len(CONTENT)
    assert [r.status for r in called(sent.requests, "/_xet/v2/shards", "POST")] == [200, 200]


def test_another_machine_sends_no_content_again(sent: Sent, tmp_path: Path) -> None:
    """The client queries the first chunk and finds the xorb, even one of another user's repo."""
    sent.server.requests.clear()
    code = SEND_AND_READ
    assert by_xet(sent.server.endpoint, tmp_path, code, str(sent.source), "dave/y", "c.bin", token="hf_dave")
    again = list(sent.server.requests)
    assert called(again, "/_xet/v2/shards", "POST")
    assert not called(again, "/_xet/v1/xorbs/")
    assert sum(r.received for r in again) < 0.05 * len(CONTENT)


def test_a_tree_shows_the_hash_of_each_transport(sent: Sent) -> None:
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    (entry,) = api.get_paths_info("carol/x", "a.bin")
    assert entry.lfs.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert len(entry.xet_hash) == 64


def test_a_xet_upload_is_read_over_plain_http(sent: Sent, tmp_path: Path) -> None:
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    path = api.hf_hub_download("carol/x", "a.bin", cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2_000_000, 2_900_000), (len(CONTENT) - 5, len(CONTENT) - 1)])
def test_a_range_of_a_xet_upload_is_read_over_plain_http(sent: Sent, first: int, last: int) -> None:
    path = "/carol/x/resolve/main/a.bin"
    assert ask(sent.server, path, Range=f"bytes={first}-{last}") == (206, CONTENT[first : last + 1])


def test_an_lfs_upload_is_read_by_the_xet_client(sent: Sent, tmp_path: Path) -> None:
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    other = os.urandom(50_000)
    api.create_repo("carol/lfs", exist_ok=True)
    api.upload_file(path_or_fileobj=other, path_in_repo="w.bin", repo_id="carol/lfs")
    code = "import hashlib; from huggingface_hub import hf_hub_download as get\n"
    code += "print(hashlib.sha256(open(get('carol/lfs', 'w.bin'), 'rb').read()).hexdigest())"
    assert by_xet(sent.server.endpoint, tmp_path, code) == [hashlib.sha256(other).hexdigest()]


def test_lfs_does_not_send_a_xet_upload_again(sent: Sent) -> None:
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    sent.server.requests.clear()
    api.upload_file(path_or_fileobj=CONTENT, path_in_repo="by-lfs.bin", repo_id="carol/x")
    assert not called(list(sent.server.requests), "/_lfs/")


@pytest.mark.parametrize("token", ["", "x.y", "hf_carol", "W10=.0"])
def test_an_unknown_xet_token_is_refused(sent: Sent, token: str) -> None:
    name, data = a_xorb(sent)
    assert ask(sent.server, f"/_xet/v1/xorbs/default/{name}", token=token, data=data)[0] == 401
    assert ask(sent.server, f"/_xet/v2/reconstructions/{name}", token=token)[0] == 401


def test_a_xet_token_ends(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdpo.loopback.storage.tokens.LIFETIME_S", -1)
    token = xet_token(sent.server, "write")
    assert ask(sent.server, "/_xet/v1/shards", token=token, data=b"x")[0] == 401


def test_a_read_token_sends_nothing(sent: Sent) -> None:
    name, data = a_xorb(sent)
    for path in (f"/_xet/v1/xorbs/default/{name}", "/_xet/v1/shards"):
        assert ask(sent.server, path, token=xet_token(sent.server, "read"), data=data)[0] == 403


def test_a_read_token_gets_no_write_token(sent: Sent) -> None:
    assert ask(sent.server, "/api/models/carol/x/xet-write-token/main", token="hf_read")[0] == 403


def test_a_token_is_for_the_files_of_its_repo(sent: Sent) -> None:
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    (entry,) = api.get_paths_info("carol/x", "a.bin")
    api.create_repo("carol/empty", exist_ok=True)
    answers = [
        ask(sent.server, f"/_xet/v1/reconstructions/{entry.xet_hash}", token=xet_token(sent.server, "read", repo=repo))
        for repo in ("carol/x", "carol/empty")
    ]
    assert [status for status, _ in answers] == [200, 404]
    first = json.loads(answers[0][1])
    assert sum(term["unpacked_length"] for term in first["terms"]) == len(CONTENT)
    assert set(first["fetch_info"]) == {term["hash"] for term in first["terms"]}


def test_an_address_is_good_for_its_range_alone(sent: Sent) -> None:
    (entry,) = HfApi(endpoint=sent.server.endpoint, token="hf_carol").get_paths_info("carol/x", "a.bin")
    token = xet_token(sent.server, "read")
    _, body = ask(sent.server, f"/_xet/v2/reconstructions/{entry.xet_hash}", token=token)
    address = next(iter(json.loads(body)["xorbs"].values()))[0]
    path = "/_xet/" + address["url"].partition("/_xet/")[2]
    first, last = address["ranges"][0]["bytes"].values()
    assert ask(sent.server, path, Range=f"bytes={first}-{last}")[0] == 206
    assert ask(sent.server, path, Range=f"bytes={first}-{last - 1}")[0] == 403
    assert ask(sent.server, path.replace("signature=", "signature=0"), Range=f"bytes={first}-{last}")[0] == 403


def test_a_commit_that_names_what_another_repo_holds_is_refused(sent: Sent) -> None:
    """Knowing the hash of a file does not prove having the file."""
    HfApi(endpoint=sent.server.endpoint, token="hf_dave").create_repo("dave/z", exist_ok=True)
    value = {"path": "a.bin", "algo": "sha256", "oid": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    lines = [{"key": "header", "value": {"summary": "mine"}}, {"key": "lfsFile", "value": value}]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    status, answer = ask(sent.server, "/api/models/dave/z/commit/main", token="hf_dave", data=body, **JSON)
    assert status == 400 and b"not uploaded" in answer


@pytest.mark.parametrize("place", [0, 4, 5, 900, -1])
def test_a_changed_xorb_is_not_kept(sent: Sent, tmp_path: Path, place: int) -> None:
    name, data = a_xorb(sent)
    changed = bytearray(data)
    changed[place] ^= 1
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as server:
        HfApi(endpoint=server.endpoint, token="hf_carol").create_repo("carol/x")
        path, token = f"/_xet/v1/xorbs/default/{name}", xet_token(server, "write")
        assert ask(server, path, token=token, data=bytes(changed))[0] == 400
        assert not [p for p in (tmp_path / "hub" / "xorbs").rglob("*") if p.is_file()]
        assert ask(server, path, token=token, data=data) == (200, b'{"was_inserted": true}')
        assert ask(server, path, token=token, data=data) == (200, b'{"was_inserted": false}')


def test_content_that_does_not_compress_goes_up_in_full_xorbs(sent: Sent, tmp_path: Path) -> None:
    """Quantised weights, for example: a xorb has 64 MiB of content and its headers on top."""
    source = tmp_path / "noise"
    source.write_bytes(random.Random(5).randbytes(xorbs.LARGEST_CONTENT))
    (printed,) = by_xet(sent.server.endpoint, tmp_path, SEND_AND_READ, str(source), "carol/noise", "w.bin")
    assert printed == hashlib.sha256(source.read_bytes()).hexdigest()
    largest = max(request.received for request in called(list(sent.server.requests), "/_xet/v1/xorbs/", "POST"))
    assert xorbs.LARGEST_CONTENT < largest <= xorbs.LARGEST


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused() -> None:
    packed = lz4.frame.compress(bytes(10**8))
    head = bytes([0]) + len(packed).to_bytes(3, "little") + bytes([xorbs.LZ4]) + (1000).to_bytes(3, "little")
    with pytest.raises(Refusal, match="size of a chunk"):
        xorbs.unpack(head + packed)


def test_another_user_proposes_content_by_xet(sent: Sent, tmp_path: Path) -> None:
    code = """
import sys
import tracemalloc
from huggingface_hub import HfApi
done = HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="d.bin", repo_id="carol/x", create_pr=True)
print(done.pr_revision)
"""
    (revision,) = by_xet(sent.server.endpoint, tmp_path, code, str(sent.source), token="hf_dave")
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    assert api.file_exists("carol/x", "d.bin", revision=revision)
    assert not api.file_exists("carol/x", "d.bin")


def test_an_older_client_sends_its_shards_by_the_first_version(sent: Sent, tmp_path: Path, by_v1: None) -> None:
    code = SEND_AND_READ
    assert by_xet(sent.server.endpoint, tmp_path, code, str(sent.source), "carol/v1", "a.bin") == sent.printed[:1]
    assert called(list(sent.server.requests), "/_xet/v1/shards", "POST")
    assert called(list(sent.server.requests), "/_xet/v1/reconstructions/", "GET")


@pytest.mark.parametrize("data", [b"", b"not a shard", shards.HEADER.pack(shards.TAG, 2, 0) + bytes(50)])
def test_a_malformed_shard_is_refused(sent: Sent, data: bytes) -> None:
    token = xet_token(sent.server, "write")
    assert ask(sent.server, "/_xet/v1/shards", token=token, data=data or b"\0")[0] == 400


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Store, XetStore, shards.SharedFile]]:
    """A store with a xorb of two chunks, and an unregistered file made of them."""
    store = Store(tmp_path / "store")
    files = XetStore(store)
    parts = [b"first" * 100, b"second" * 100]
    leaves = [(xorbs.chunk_hash(part), len(part)) for part in parts]
    xorb = xorbs.to_hex(xorbs.tree_hash(leaves))
    files.add_xorb(xorb, [header(part) + part for part in parts])
    proof = xorbs.range_hash([leaf[0] for leaf in leaves])
    term = shards.Term(xorb, 0, 2, sum(size for _, size in leaves), proof)
    name = xorbs.to_hex(xorbs.file_hash(leaves))
    yield store, files, shards.SharedFile(name, hashlib.sha256(b"".join(parts)).hexdigest(), [term])
    store.close()


def header(part: bytes) -> bytes:
    return b"\0" + len(part).to_bytes(3, "little") + b"\0" + len(part).to_bytes(3, "little")


def test_a_file_is_known_when_all_of_it_fits(kept: tuple[Store, XetStore, shards.SharedFile]) -> None:
    store, files, file = kept
    files.add_file(Repo("model", "carol/x"), file)
    assert store.large_size(Repo("model", "carol/x"), str(file.sha256)) == file.size
    assert b"".join(files.read(str(file.sha256), 498)) == b"st" + b"second" * 100


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": "0" * 64}, "object id"), ({"hash": "0" * 64}, "hash of the file"), ({"proof": None}, "proof"),
        ({"proof": bytes(32)}, "proof"), ({"size": 7}, "does not fit"), ({"stop": 3}, "does not fit"),
        ({"start": 2}, "does not fit"), ({"xorb": "0" * 64}, "not uploaded"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(
    kept: tuple[Store, XetStore, shards.SharedFile], change: dict[str, Any], told: str
) -> None:
    store, files, file = kept
    if not change.keys() & {"sha256", "hash"}:
        change = {"terms": [replace(file.terms[0], **change)]}
    with pytest.raises(Refusal, match=told):
        files.add_file(Repo("model", "carol/x"), replace(file, **change))
    assert store.large_size(Repo("model", "carol/x"), str(file.sha256)) is None


def test_a_shard_of_chunks_shows_their_hashes_to_who_has_them() -> None:
    chunk = xorbs.Chunk(0, 13, 5, xorbs.chunk_hash(b"known"))
    key = Signer(b"secret").key("chunks")
    shard = shards.write_shard("0" * 64, [chunk], key=key)
    assert chunk.hash not in shard and xorbs.keyed(chunk.hash, key) in shard
    assert shards.read_files(shard) == []


def test_a_hash_is_written_as_four_numbers() -> None:
    """The example of the protocol's specification."""
    text = "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    assert xorbs.to_hex(bytes(range(32))) == text
    assert xorbs.from_hex(xorbs.to_hex(bytes(range(32)))) == bytes(range(32))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 4096, 4099])
def test_grouped_bytes_are_put_back(size: int) -> None:
    import lz4.frame

    content = os.urandom(size)
    packed = lz4.frame.compress(b"".join(content[group::4] for group in range(4)))
    chunk = b"\0" + len(packed).to_bytes(3, "little") + b"\2" + size.to_bytes(3, "little") + packed
    assert xorbs.unpack(chunk) == content


def test_a_dataset_is_pushed_verified_and_loaded_by_xet(
    hub: Hub, dataset_dir: Path, repo_id: str, tmp_path: Path
) -> None:
    code = """
import sys
import tracemalloc
import hubdpo
from hubdpo.hub import repo
repo.LARGEST_GET = 1_000  # smaller files are downloaded by plain requests
hubdpo.push(folder=sys.argv[1], repo=sys.argv[2], version="1.0.0")
hubdpo.verify(sys.argv[2] + "@v1.0.0")
from datasets import load_dataset
loaded = load_dataset(sys.argv[2], revision="v1.0.0")
print({name: split.num_rows for name, split in loaded.items()})
"""
    hub.server.requests.clear()
    printed = by_xet(hub.endpoint, tmp_path / "home", code, str(dataset_dir), repo_id, token=hub.token)
    (dataset_dir / "release.json").unlink()
    counts = json.loads((dataset_dir / "prepare.json").read_text())["splits"]
    assert json.loads("".join(printed).replace("'", '"')) == counts
    again = list(hub.server.requests)
    assert called(again, "/_xet/v2/shards", "POST") and called(again, "/_xet/xorb/", "GET")
    assert not called(again, "/_lfs/") and not called(again, "/_cdn/")


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """The server is killed twice during uploads: acknowledged files are complete, and no file is partial."""
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(tmp_path / "hub")]
    code = """
import os, sys, threading
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("carol/x", exist_ok=True)
for number in range(100):
    content = os.urandom(400_000)
    if number == 3:
        threading.Timer(0.07, lambda: os.kill(int(sys.argv[1]), 9)).start()
    api.upload_file(path_or_fileobj=content, path_in_repo=f"{sys.argv[2]}-{number}", repo_id="carol/x")
    import hashlib
    print(f"{sys.argv[2]}-{number}", hashlib.sha256(content).hexdigest(), flush=True)
"""
    acknowledged: dict[str, str] = {}
    for turn in range(2):
        server = subprocess.Popen([*command, "--token", "carol:hf_carol"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        endpoint = server.stdout.readline().strip().partition("=")[2]
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_carol", "HF_HOME": str(tmp_path / "home")}
        environment.pop("HF_HUB_DISABLE_XET")
        given = [sys.executable, "-c", code, str(server.pid), str(turn)]
        sender = subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert server.wait(60) == -signal.SIGKILL
        sender.kill()
        server.communicate()
        acknowledged |= dict(line.split() for line in sender.communicate()[0].splitlines())
    assert len(acknowledged) >= 6
    with LoopbackHub(tmp_path / "hub") as reopened:
        assert not list((tmp_path / "hub" / "incoming").iterdir())
        files = XetStore(reopened._store)
        known = [row[0] for row in reopened._store.query("SELECT hash FROM xorb")]
        for xorb in known:
            chunks = xorbs.read_chunks(io.BytesIO(files.path(xorb).read_bytes()))
            assert xorbs.to_hex(xorbs.tree_hash([(chunk.hash, chunk.size) for chunk in chunks])) == xorb
        for name, sha256 in acknowledged.items():
            status, content = ask(reopened, f"/carol/x/resolve/main/{name}")
            assert status == 200 and hashlib.sha256(content).hexdigest() == sha256


def test_the_address_of_a_xorb_ends_with_its_repo(sent: Sent) -> None:
    api = HfApi(endpoint=sent.server.endpoint, token="hf_carol")
    (entry,) = api.get_paths_info("carol/x", "a.bin")
    token = xet_token(sent.server, "read", token="hf_dave")
    _, body = ask(sent.server, f"/_xet/v2/reconstructions/{entry.xet_hash}", token=token)
    address = next(iter(json.loads(body)["xorbs"].values()))[0]
    path = "/_xet/" + address["url"].partition("/_xet/")[2]
    first, last = address["ranges"][0]["bytes"].values()
    try:
        api.update_repo_settings("carol/x", private=True)
        assert ask(sent.server, path, Range=f"bytes={first}-{last}")[0] == 403
        assert ask(sent.server, f"/_xet/v2/reconstructions/{entry.xet_hash}", token=token)[0] == 403
    finally:
        api.update_repo_settings("carol/x", private=False)
    assert ask(sent.server, path, Range=f"bytes={first}-{last}")[0] == 206


def test_a_small_shard_that_names_millions_of_chunks_is_refused_before_work() -> None:
    """500 terms, each of 8192 one-byte chunks: 24 kB that used to take 0.9 GB."""
    row = shards.TERM.pack(bytes(32), 0, 8192, 0, 8192)
    for count in (1, 500):
        head = shards.HEADER.pack(shards.TAG, 2, 0) + shards.FILE.pack(bytes(32), 0, count)
        with pytest.raises(Refusal, match="cannot have"):
            shards.read_files(head + row * count + shards.END)


def test_the_chunks_of_a_shard_are_counted_over_its_files() -> None:
    row = shards.TERM.pack(bytes(32), 0, 2**26, 0, 8192)
    file = shards.FILE.pack(bytes(32), 0, 1) + row
    head = shards.HEADER.pack(shards.TAG, 2, 0)
    assert len(shards.read_files(head + file * 2048 + shards.END)) == 2048
    with pytest.raises(Refusal, match="the files of a shard"):
        shards.read_files(head + file * 2049 + shards.END)


def test_a_file_is_checked_term_by_term(
    kept: tuple[Store, XetStore, shards.SharedFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checking stops at the first term without a proof, reads no xorb twice, and takes constant memory."""
    _, files, file = kept
    looked: list[str] = []
    real = files.chunks
    monkeypatch.setattr(files, "chunks", lambda xorb: looked.append(xorb) or real(xorb))
    terms = [*file.terms * 20_000, replace(file.terms[0], proof=None)]
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="proof"):
            files.add_file(Repo("model", "carol/x"), replace(file, terms=terms))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert looked == [file.terms[0].xorb]
    with pytest.raises(Refusal, match="proof"):
        files.add_file(
            Repo("model", "carol/x"), replace(file, terms=[terms[-1], replace(file.terms[0], xorb="0" * 64)])
        )


def test_a_pointer_tells_nothing_of_what_another_repo_holds(
    kept: tuple[Store, XetStore, shards.SharedFile], tmp_path: Path
) -> None:
    """Otherwise anyone could test by SHA-256 whether a private repo has a file."""
    store, files, file = kept
    files.add_file(Repo("model", "carol/secret"), file)
    store.accounts.add([Token("dave", "hf_dave", True)])
    routes = Routes(store, "http://127.0.0.1:1")

    def answer(method: str, path: str, data: bytes = b"") -> Answer:
        headers = {"authorization": "Bearer hf_dave", "content-type": "application/json"}
        return routes.answer(Request(method, path, "", headers, Body(data)))

    answer("POST", "/api/repos/create", b'{"name": "probe"}')
    told = []
    for oid in (str(file.sha256), "0" * 64):
        pointer = gitio.pointer(oid, file.size).decode()
        value = {"path": "p.bin", "content": pointer, "encoding": "utf-8"}
        lines = [{"key": "header", "value": {"summary": "p"}}, {"key": "file", "value": value}]
        assert (
            answer("POST", "/api/models/dave/probe/commit/main", "\n".join(map(json.dumps, lines)).encode()).status
            == 200
        )
        (entry,) = json.loads(answer("GET", "/api/models/dave/probe/tree/main/p.bin").content)
        info = answer("POST", "/api/models/dave/probe/paths-info/main", b'{"paths": ["p.bin"]}')
        shown = answer("HEAD", "/dave/probe/resolve/main/p.bin").headers
        told.append((sorted(entry), sorted(json.loads(info.content)[0]), sorted(shown)))
    assert told[0] == told[1] and "X-Xet-Hash" not in told[0][2]


@pytest.mark.parametrize("path", ["xorbs/default/{name}", "shards"])
def test_xet_leaves_the_disk_the_room_that_lfs_leaves(sent: Sent, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    name, data = a_xorb(sent)
    token = xet_token(sent.server, "write")
    monkeypatch.setattr("hubdpo.loopback.limits.KEPT_FREE", 2**62)
    status, said = ask(sent.server, f"/_xet/v1/{path.format(name=name)}", token=token, data=data[:1000])
    assert status == 413 and b"has room for 0 bytes" in said


SEND_OR_TELL = """
import sys, time
from huggingface_hub import HfApi
from hubdpo.hub.failures import translate_errors
began = time.monotonic()
try:
    with translate_errors("carol/x"):
        HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="x.bin", repo_id="carol/x")
except Exception as problem:
    print(type(problem).__name__, problem)
print(time.monotonic() - began)
"""


@pytest.mark.parametrize(
    ("left", "words"),
    [(0, "(507): the disk of this Hub has no room for large"), (10**6, "(413): the disk of this Hub has")],
)
def test_the_client_tells_in_seconds_of_a_hub_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int, words: str
) -> None:
    """hf_xet retries a 507 for minutes."""
    (tmp_path / "content").write_bytes(CONTENT)
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        HfApi(endpoint=hub.endpoint, token="hf_carol").create_repo("carol/x")
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(
            "hubdpo.loopback.limits.shutil.disk_usage",
            lambda _: usage._replace(free=left + limits.KEPT_FREE),
        )
        *told, took = by_xet(hub.endpoint, tmp_path / "home", SEND_OR_TELL, str(tmp_path / "content"))
        assert " ".join(told).startswith(f"HubError {hub.endpoint} has no room for `carol/x` {words}"), told
        assert float(took) < 20
        assert not list((tmp_path / "hub" / "xorbs").rglob("*.xorb"))
        assert [asked.status for asked in called(list(hub.requests), "/xorbs/")] == ([413] if left else [])


def test_files_are_copied_between_repos_by_the_real_client(sent: Sent, tmp_path: Path) -> None:
    code = """
import hashlib
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
api.create_repo("carol/copied", repo_type="dataset")
api.copy_files("hf://carol/x/a.bin", "hf://datasets/carol/copied/there.bin")
print(hashlib.sha256(open(hf_hub_download("carol/copied", "there.bin", repo_type="dataset"), "rb").read()).hexdigest())
"""
    before = sum(each.received for each in called(sent.server.requests, "/_xet/v1/xorbs/"))
    (got,) = by_xet(sent.server.endpoint, tmp_path / "home", code)
    assert got == hashlib.sha256(CONTENT).hexdigest()
    assert sum(each.received for each in called(sent.server.requests, "/_xet/v1/xorbs/")) == before


def test_a_page_reads_any_part_of_a_file_and_unpacks_no_more(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = sent.server._routes._reading
    repo = Repo("model", "carol/x")
    repo = hub._store.repo(repo.kind, repo.id) or repo
    file = hub.files(repo, hub.commit(repo, "main"))["a.bin"]
    unpacked: list[int] = []
    unpack = xorbs.unpack
    monkeypatch.setattr(xorbs, "unpack", lambda packed: unpacked.append(len(packed)) or unpack(packed))  # type: ignore[func-returns-value]
    with hub.open(repo, file) as stream:
        assert stream.seek(-1000, os.SEEK_END) == len(CONTENT) - 1000 and stream.read() == CONTENT[-1000:]
        assert sum(unpacked) < len(CONTENT) / 4
        draw = random.Random(0)
        for _ in range(20):
            start, size = draw.randrange(len(CONTENT)), draw.randrange(300_000)
            stream.seek(start)
            assert stream.read(size) == CONTENT[start : start + size] and stream.tell() == min(
                start + size, len(CONTENT)
            )
        stream.seek(0)
        assert hashlib.sha256(stream.read()).hexdigest() == hashlib.sha256(CONTENT).hexdigest()
        stream.seek(len(CONTENT) + 5)
        assert stream.read() == b""
        with pytest.raises(ValueError, match="before its beginning"):
            stream.seek(-1)


def test_the_page_of_a_folder_names_what_xet_keeps(sent: Sent) -> None:
    from hubdpo.view.hub.pages import HubPages

    page = HubPages()(Request("GET", "/carol/x/tree/main", "", {}, Body()), sent.server._routes._reading)
    assert page is not None
    line = page.content.partition(b">a.bin</a>")[2].partition(b"</td>")[0]
    assert b'<span class="chip">Xet</span>' in line


def test_a_xorb_is_not_held_in_memory(kept: tuple[Store, XetStore, shards.SharedFile]) -> None:
    _, files, _ = kept
    piece = bytes(100_000)
    leaves = [(xorbs.chunk_hash(piece), len(piece))] * 300
    name = xorbs.to_hex(xorbs.tree_hash(leaves))
    tracemalloc.start()
    try:
        files.add_xorb(name, (header(piece) + piece for _ in leaves))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert files.path(name).stat().st_size == 300 * (8 + 100_000)
    assert peak < 3_000_000
