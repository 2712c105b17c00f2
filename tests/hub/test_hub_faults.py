"""A Hub that fails, lags and is shared: a release is whole and verified, or it is not there, at every moment.

The invariants: I1 a tag never moves; I2 a tag's tree is its manifest; I3 main is the start or one whole bundle; I4 main
is never ahead of the tags; I5 no release is committed twice; I6 at rest, main is the highest tag and no stage is left.
`HUBDPO_STORM=1` (`make storm`) runs all of it; the tests run a part.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

import hubdpo
from hubdpo import push
from hubdpo.errors import HubdpoError, HubError
from hubdpo.hub import remote
from hubdpo.hub.versions import highest
from hubdpo.loopback.faults import Fault
from hubdpo.manifest import BUNDLE_FILE, Bundle, verify_files

if TYPE_CHECKING:
    from tests.conftest import Hub

pytestmark = pytest.mark.slow
WHOLE = os.environ.get("HUBDPO_STORM") == "1"
RECORD = Path(__file__).parents[1] / "benchmarks" / "storm.json"
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["hubdpo.hub.publish", "huggingface_hub", "httpx2", "pyarrow.parquet"])
STORM = [
    Fault("status", "", status=429, headers={"Retry-After": "0"}),
    *(Fault("status", "", status=status) for status in (500, 502, 503, 504)),
    Fault("reset-before", ""),
    Fault("reset-after", ""),
    Fault("truncate", "", method="GET"),
    Fault("corrupt", "/_cdn/|/resolve/", method="GET"),
    Fault("slow", "/_cdn/|/resolve/", method="GET", seconds=0.01),
    Fault("sleep", "", seconds=0.05),
    Fault("stale", "/refs$", method="GET"),
    Fault("stale", "/refs$", method="GET"),
]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Iterator[None]:
    monkeypatch.setattr(remote, "LONGEST_WAIT_S", 0.02)
    yield
    hub.server.faults.clear()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small prepared datasets that differ."""
    folder = tmp_path_factory.mktemp("bundles")
    for number in range(3):
        rows = [{"prompt": f"{i}?", "chosen": f"yes {i} {number}", "rejected": f"no {i}"} for i in range(12)]
        (folder / f"{number}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        hubdpo.prepare(source=[str(folder / f"{number}.jsonl")], output_dir=folder / f"d{number}", license="mit")
    return [folder / f"d{number}" for number in range(3)]


def record(name: str, figures: dict[str, int]) -> None:
    """Keep what a whole run counted; a part of it says nothing."""
    if WHOLE:
        known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        RECORD.write_text(json.dumps({**known, name: figures}, indent=2, sort_keys=True) + "\n")


def own(bundle: Path, place: Path) -> str:
    """A folder of a publisher's own: the receipt is written there."""
    return str(shutil.copytree(bundle, place, ignore=shutil.ignore_patterns("release.json")))


def refs(repo: str) -> tuple[dict[str, str], dict[str, str]]:
    found = HfApi().list_repo_refs(repo, repo_type="dataset")
    return {b.name: b.target_commit for b in found.branches}, {t.name: t.target_commit for t in found.tags}


def bundle_at(repo: str, commit: str, cache: Path) -> Bundle | None:
    """The manifest of a commit whose every file was compared with it; None when it holds no release."""
    folder = Path(snapshot_download(repo, repo_type="dataset", revision=commit, cache_dir=cache))
    if not (folder / BUNDLE_FILE).exists():
        return None
    bundle = Bundle.read(folder / BUNDLE_FILE)
    verify_files(folder, bundle.files, hint="")
    return bundle


def assert_invariants(repo: str, seen: dict[str, str], cache: Path, *, at_rest: bool) -> None:
    """Check I1 to I5, and I6 at rest; `seen` keeps the tags from call to call."""
    branches, tags = refs(repo)
    for tag, commit in seen.items():
        assert tags.get(tag) == commit, "I1: a tag moved or vanished"
    seen.update(tags)
    for tag, commit in tags.items():
        bundle = bundle_at(repo, commit, cache)
        assert bundle is not None and f"v{bundle.version}" == tag, "I2"
    on_main = bundle_at(repo, branches["main"], cache)  # I3: compared file by file
    if on_main is not None:
        assert f"v{on_main.version}" in tags, "I4: main holds what no tag has"
    for name in ("main", *tags):
        commits = HfApi().list_repo_commits(repo, repo_type="dataset", revision=name)
        ids = Counter(c.message for c in commits if "Hubdpo-Bundle" in c.message)
        assert not ids or max(ids.values()) == 1, "I5: a release was committed twice"
    if at_rest:
        assert set(branches) == {"main"}, "I6: a stage branch is left"
        if tags:
            assert on_main is not None and f"v{on_main.version}" == highest(tags), "I6: main is behind"


def publish(folder: str, repo: str, version: str, start: Any = None, wait: float = 0.02) -> None:
    """One publisher: a process whose exit code is that of the command line."""
    remote.LONGEST_WAIT_S = wait
    if start is not None:
        start.wait()
    try:
        push(folder=Path(folder), repo=repo, version=version)
    except HubdpoError as problem:
        raise SystemExit(problem.exit_code) from None


def publisher(*given: Any) -> Any:
    process = FORK.Process(target=publish, args=given, daemon=True)
    process.start()
    return process


def finished(process: Any) -> int:
    process.join(60)
    assert process.exitcode is not None, "the publisher hangs"
    return int(process.exitcode)


def start_repo(state: str, repo: str, bundles: list[Path], place: Path) -> None:
    if state == "earlier release":
        push(folder=Path(own(bundles[1], place)), repo=repo, version="0.9.0")
    if state == "foreign files":
        HfApi().create_repo(repo, repo_type="dataset")
        HfApi().upload_file(
            path_or_fileobj=b"mine", path_in_repo="notes/mine.txt", repo_id=repo, repo_type="dataset"
        )  # fmt: skip


@pytest.mark.parametrize("moment", ["hang-before", "hang-after"])
@pytest.mark.parametrize("state", ["absent", "earlier release", "foreign files"])
def test_sigkill_at_every_request(
    hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path, state: str, moment: Any
) -> None:
    """SIGKILL while the Hub holds the n-th request back, before or after its work; then the same command again."""
    folder = own(bundles[0], tmp_path / "data")
    seen: dict[str, str] = {}
    kills = 0
    for number in range(0, 60, 1 if WHOLE else 9):
        repo = f"{repo_id}-{number}"
        start_repo(state, repo, bundles, tmp_path / f"earlier-{number}")
        fault = Fault(moment, "", skip=number)
        hub.server.faults.add(fault)
        process = publisher(folder, repo, "1.0.0")
        while not fault.reached.wait(0.02) and process.is_alive():
            pass
        if not fault.reached.is_set():  # fewer requests than that
            assert finished(process) == 0
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        hub.server.faults.clear()
        kills += 1
        seen = {}
        if HfApi().repo_exists(repo, repo_type="dataset"):
            assert_invariants(repo, seen, tmp_path / "cache", at_rest=False)
        assert finished(publisher(folder, repo, "1.0.0")) == 0
        assert_invariants(repo, seen, tmp_path / "cache", at_rest=True)
        if state == "foreign files":
            assert Path(hf_hub_download(repo, "notes/mine.txt", repo_type="dataset")).read_bytes() == b"mine"
        asked = len(hub.server.requests)
        assert finished(publisher(folder, repo, "1.0.0")) == 0
        again = [r for r in list(hub.server.requests)[asked:] if r.method in ("PUT", "DELETE") or "/commit/" in r.path]
        assert not again, "a third run wrote"
    record(f"SIGKILL, {moment}, repo: {state}", {"kills": kills})
    assert kills >= (20 if WHOLE else 3)


def test_publishes_under_mixed_faults(hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path) -> None:
    """12 % of all requests fail: each publish ends verified, or with the code of the Hub's failure, in bounded time."""
    folder = Path(own(bundles[0], tmp_path / "data"))
    ends: Counter[int] = Counter()
    for number in range(500 if WHOLE else 6):
        repo = f"{repo_id}-{number}"
        seen: dict[str, str] = {}
        hub.server.faults.storm(0.12, number, STORM)
        begun = time.monotonic()
        try:
            release = push(folder=folder, repo=repo, version="1.0.0")
            code = 0
        except HubdpoError as problem:
            code = problem.exit_code
        assert time.monotonic() - begun < 60
        hub.server.faults.clear()
        ends[code] += 1
        assert code in (0, 4, 6)
        if HfApi().repo_exists(repo, repo_type="dataset"):
            assert_invariants(repo, seen, tmp_path / "cache", at_rest=code == 0)
        if code == 0:
            assert seen == {"v1.0.0": release.commit}, "a false `published`"
        push(folder=folder, repo=repo, version="1.0.0")
        assert_invariants(repo, seen, tmp_path / "cache", at_rest=True)
    record("publishes under 12 % faults, by exit code", {str(code): n for code, n in ends.items()})
    assert ends[0] > 0.5 * ends.total()


@pytest.mark.parametrize("kind", ["same version", "different versions", "same bundle", "an edit on the web"])
def test_races(hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path, kind: str) -> None:
    ends: Counter[tuple[int, ...]] = Counter()
    for number in range(38 if WHOLE else 4):
        repo, start = f"{repo_id}-{number}", FORK.Event()
        HfApi().create_repo(repo, repo_type="dataset")
        folders = [own(b, tmp_path / f"{number}-{i}") for i, b in enumerate(bundles)]
        versions = {"different versions": ["1.0.0", "1.1.0", "2.0.0"]}.get(kind, ["1.0.0", "1.0.0"])
        mine = [folders[0]] * 2 if kind == "same bundle" else folders
        if kind == "an edit on the web":
            versions = versions[:1]
        processes = [publisher(folder, repo, version, start) for folder, version in zip(mine, versions, strict=False)]
        start.set()
        if kind == "an edit on the web":
            time.sleep(0.02 * number)
            edit(repo)
        codes = tuple(sorted(finished(process) for process in processes))
        ends[codes] += 1
        seen: dict[str, str] = {}
        assert_invariants(repo, seen, tmp_path / "cache", at_rest=True)
        assert set(seen) == {f"v{version}" for version in versions}
        assert codes == {"same version": (0, 5)}.get(kind, (0,) * len(versions))
        if kind == "an edit on the web":
            assert Path(hf_hub_download(repo, "web.txt", repo_type="dataset")).read_bytes() == b"typed"
    record(f"races, {kind}, by exit codes", {str(codes): n for codes, n in ends.items()})


def edit(repo: str) -> None:
    """Do as a person in the web editor: try until the commit is taken."""
    for _ in range(20):
        try:
            HfApi().upload_file(
                path_or_fileobj=b"typed", path_in_repo="web.txt", repo_id=repo, repo_type="dataset"
            )  # fmt: skip
            return
        except Exception:
            time.sleep(0.02)


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import close_session

    from hubdpo.hub import client

    monkeypatch.setattr(client, "READ_S", 0.2)
    monkeypatch.setattr(remote, "TRIES", 3)
    client.api.cache_clear()
    close_session()
    yield
    client.api.cache_clear()
    close_session()
    monkeypatch.undo()
    client.api()


@pytest.mark.usefixtures("short_timeouts")
def test_a_hub_that_never_answers_is_left(hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path) -> None:
    hub.server.faults.add(Fault("hang-before", "/commit/", times=10))
    with pytest.raises(HubError) as caught:
        push(folder=Path(own(bundles[0], tmp_path / "data")), repo=repo_id, version="1.0.0")
    assert caught.value.exit_code == 4


@pytest.mark.usefixtures("short_timeouts")
def test_a_commit_whose_answer_never_comes_is_found(
    hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path
) -> None:
    hub.server.faults.add(Fault("hang-after", "/commit/", times=1))
    push(folder=Path(own(bundles[0], tmp_path / "data")), repo=repo_id, version="1.0.0")
    assert_invariants(repo_id, {}, tmp_path / "cache", at_rest=True)
