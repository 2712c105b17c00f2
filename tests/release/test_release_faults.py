"""A Hub that fails, lags and is shared: a release is whole and verified, or it is not there, at every moment.

The invariants: I1 a tag never moves; I2 a tag's tree is its manifest; I3 main is the start or one whole bundle; I4 main
is never ahead of the tags; I5 no release is committed twice; I6 at rest, main is the highest tag and no stage is left.
Publishers are processes of their own that send by LFS or by Xet. `HUBDPO_STORM=1` (`make storm`) runs all of it and
writes what it counted to tests/benchmarks/storm.json; the tests run a part.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

import hubdpo
from hubdpo import push
from hubdpo.artefacts.manifests.bundle import Bundle, Release
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, RELEASE_FILE, verify_files
from hubdpo.errors import HubError
from hubdpo.hub import retry, transport
from hubdpo.hub.versions import highest
from hubdpo.loopback.faults import Fault
from tests.release.made import made_base, made_run
from tests.release.publishers import Publisher, Publishers
from tests.storm import Storm

if TYPE_CHECKING:
    from tests.conftest import Hub

pytestmark = pytest.mark.slow
WHOLE = os.environ.get("HUBDPO_STORM") == "1"
RECORD = Path(__file__).parents[1] / "benchmarks" / "storm.json"
MODES = ["lfs", "xet"]
PARTS = [("lfs", 0), ("xet", 0), *((("lfs", part) for part in range(1, 5)) if WHOLE else ())]
"""A hundred publishes each, which may run side by side: most of the time they wait."""
STATES = ["absent", "earlier release", "foreign files"]
STORM = [
    Fault("status", "", status=429, headers={"Retry-After": "0"}),
    *(Fault("status", "", status=status) for status in (500, 502, 503, 504)),
    Fault("reset-before", ""),
    Fault("reset-after", ""),
    Fault("hang-before", ""),
    Fault("hang-after", ""),
    Fault("truncate", "", method="GET"),
    Fault("corrupt", "/_cdn/|/_xet/xorb|/resolve/", method="GET"),
    Fault("slow", "/_cdn/|/_xet/xorb|/resolve/", method="GET", seconds=0.01),
    Fault("sleep", "", seconds=0.05),
]
OLD_REFS = [Fault("stale", "/refs$", method="GET")]
Kind = str  # "dataset" or "model"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Iterator[None]:
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.02)
    yield
    hub.server.faults.clear()


@pytest.fixture(scope="module")
def nurseries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Publishers]]:
    made: dict[str, Publishers] = {}

    def nursery(mode: str) -> Publishers:
        if mode not in made:
            made[mode] = Publishers(mode, tmp_path_factory.mktemp(mode))
        return made[mode]

    yield nursery
    for publishers in made.values():
        publishers.close()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small prepared datasets that differ."""
    folder = tmp_path_factory.mktemp("bundles")
    for number in range(3):
        rows = [{"prompt": f"{i}?", "chosen": f"yes {i} {number}", "rejected": f"no {i}"} for i in range(12)]
        (folder / f"{number}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        hubdpo.prepare(source=[str(folder / f"{number}.jsonl")], output_dir=folder / f"d{number}", license="mit")
    return [folder / f"d{number}" for number in range(3)]


@pytest.fixture(scope="session")
def adapter(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a quarter of a megabyte."""
    base = made_base(f"{hub.user}/storm-base")
    return made_run(tmp_path_factory.mktemp("adapter") / "run", base, megabytes=0.25)


def record(name: str, figures: dict[str, int]) -> None:
    """Keep what a whole run counted; a part of it says nothing."""
    if WHOLE:
        with RECORD.open("a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # parts may run side by side
            stream.seek(0)
            known = json.loads(stream.read() or "{}")
            stream.truncate(0)
            stream.write(json.dumps({**known, name: figures}, indent=2, sort_keys=True) + "\n")


def own(bundle: Path, place: Path) -> str:
    """A folder of a publisher's own: the receipt is written there."""
    return str(shutil.copytree(bundle, place, ignore=shutil.ignore_patterns("release.json")))


def refs(repo: str, kind: Kind) -> tuple[dict[str, str], dict[str, str]]:
    found = HfApi().list_repo_refs(repo, repo_type=kind)
    return {b.name: b.target_commit for b in found.branches}, {t.name: t.target_commit for t in found.tags}


def bundle_at(repo: str, kind: Kind, commit: str, cache: Path) -> Bundle | None:
    """The manifest of a commit whose every file was compared with it; None when it holds no release."""
    folder = Path(snapshot_download(repo, repo_type=kind, revision=commit, cache_dir=cache))
    if not (folder / BUNDLE_FILE).exists():
        return None
    bundle = Bundle.read(folder / BUNDLE_FILE)
    verify_files(folder, bundle.files, hint="")
    return bundle


def assert_invariants(
    repo: str, seen: dict[str, str], cache: Path, *, at_rest: bool, kind: Kind = "dataset"
) -> None:  # fmt: skip
    """Check I1 to I5, and I6 at rest; `seen` keeps the tags from call to call."""
    branches, tags = refs(repo, kind)
    for tag, commit in seen.items():
        assert tags.get(tag) == commit, "I1: a tag moved or vanished"
    seen.update(tags)
    for tag, commit in tags.items():
        bundle = bundle_at(repo, kind, commit, cache)
        assert bundle is not None and f"v{bundle.version}" == tag, "I2"
    on_main = bundle_at(repo, kind, branches["main"], cache)  # I3: compared file by file
    if on_main is not None:
        assert f"v{on_main.version}" in tags, "I4: main holds what no tag has"
    for name in ("main", *tags):
        commits = HfApi().list_repo_commits(repo, repo_type=kind, revision=name)
        ids = Counter(c.message for c in commits if "Hubdpo-Bundle" in c.message)
        assert not ids or max(ids.values()) == 1, "I5: a release was committed twice"
    if at_rest:
        assert set(branches) == {"main"}, "I6: a stage branch is left"
        if tags:
            assert on_main is not None and f"v{on_main.version}" == highest(tags), "I6: main is behind"


def start_repo(state: str, repo: str, kind: Kind, earlier: Path, publishers: Publishers) -> None:
    if state == "earlier release":
        assert publishers.start(str(earlier), repo, "0.9.0").finished() == 0
    if state == "foreign files":
        HfApi().create_repo(repo, repo_type=kind)
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes/mine.txt", repo_id=repo, repo_type=kind)


def kill_everywhere(
    hub: Hub, publishers: Publishers, repo_id: str, tmp_path: Path, folders: tuple[Path, Path], *,
    kind: Kind = "dataset", state: str, moment: Any, numbers: range,
) -> int:  # fmt: skip
    """SIGKILL while the Hub holds the n-th request back, then the same command again, for each n; count the kills."""
    folder = own(folders[0], tmp_path / "data")
    earlier = Path(own(folders[1], tmp_path / "earlier"))
    kills = 0
    for number in numbers:
        repo = f"{repo_id}-{number}"
        start_repo(state, repo, kind, earlier, publishers)
        fault = Fault(moment, "", skip=number)
        hub.server.faults.add(fault)
        publisher = publishers.start(folder, repo, "1.0.0", machine=repo)
        while not fault.reached.wait(0.01) and publisher.poll() is None:
            pass
        if not fault.reached.is_set():  # fewer requests than that
            assert publisher.finished() == 0
            break
        publisher.kill()
        hub.server.faults.clear()
        kills += 1
        seen: dict[str, str] = {}
        if HfApi().repo_exists(repo, repo_type=kind):
            assert_invariants(repo, seen, tmp_path / "cache", at_rest=False, kind=kind)
        assert publishers.start(folder, repo, "1.0.0", machine=repo).finished() == 0
        assert_invariants(repo, seen, tmp_path / "cache", at_rest=True, kind=kind)
        if state == "foreign files":
            assert Path(hf_hub_download(repo, "notes/mine.txt", repo_type=kind)).read_bytes() == b"mine"
        hub.server.requests.clear()
        assert publishers.start(folder, repo, "1.0.0", machine=repo).finished() == 0
        again = list(hub.server.requests)
        assert again and not [r for r in again if r.method in ("PUT", "DELETE") or "/commit/" in r.path], "it wrote"
        assert not [r for r in again if "/_xet/" in r.path], "it sent data"
        hub.server.requests.clear()
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    return kills


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("moment", ["hang-before", "hang-after"])
@pytest.mark.parametrize("state", STATES)
def test_sigkill_at_every_request(
    hub: Hub, nurseries: Any, bundles: list[Path], repo_id: str, tmp_path: Path, state: str, moment: str, mode: str
) -> None:
    """Before or after the Hub's work; in a part of it, each case has another of some twenty requests."""
    one = 1 + 5 * STATES.index(state) + 3 * (moment == "hang-after") + 2 * (mode == "xet")
    kills = kill_everywhere(
        hub, nurseries(mode), repo_id, tmp_path, (bundles[0], bundles[1]), state=state, moment=moment,
        numbers=range(90) if WHOLE else range(one, one + 1),
    )  # fmt: skip
    record(f"SIGKILL, {mode}, {moment}, repo: {state}", {"kills": kills})
    assert kills >= (20 if WHOLE else 1)


@pytest.mark.parametrize("mode", MODES)
def test_sigkill_of_a_publisher_of_an_adapter(
    hub: Hub, nurseries: Any, adapter: Path, repo_id: str, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its verification by hashes alone: that of an adapter that loads takes a base, and is tested elsewhere."""
    monkeypatch.setattr(nurseries(mode), "check", "hashes")
    kills = kill_everywhere(
        hub, nurseries(mode), repo_id, tmp_path, (adapter, adapter), kind="model", state="absent",
        moment="hang-after", numbers=range(90) if WHOLE else range(12, 13),
    )  # fmt: skip
    record(f"SIGKILL, {mode}, hang-after, an adapter", {"kills": kills})
    assert kills >= (20 if WHOLE else 1)


@pytest.mark.parametrize(("mode", "part"), PARTS)
def test_publishes_under_mixed_faults(
    hub: Hub, nurseries: Any, bundles: list[Path], repo_id: str, tmp_path: Path, mode: str, part: int
) -> None:
    """12 % of all requests fail: each publish ends verified, or with the code of the Hub's failure, in bounded time.

    30 % of what is read of the refs is old.
    """
    folder = Path(own(bundles[0], tmp_path / "data"))
    ends: Counter[int] = Counter()
    calm = hub.server.faults
    met: Counter[str] = Counter()
    for number in range(100 * part, 100 * part + (100 if WHOLE else 2)):
        repo = f"{repo_id}-{number}"
        seen: dict[str, str] = {}
        (folder / RELEASE_FILE).unlink(missing_ok=True)
        hub.server.faults = storm = Storm(number, (0.3, OLD_REFS), (0.12, STORM))
        try:
            code = nurseries(mode).start(str(folder), repo, "1.0.0", machine=repo).finished(within=180)
        finally:
            hub.server.faults = calm
        met += storm.met
        ends[code] += 1
        assert code in (0, 4, 6)
        assert (code == 0) == (folder / RELEASE_FILE).exists()
        if HfApi().repo_exists(repo, repo_type="dataset"):
            assert_invariants(repo, seen, tmp_path / "cache", at_rest=code == 0)
        if code == 0:
            assert seen == {"v1.0.0": Release.read(folder / RELEASE_FILE).commit}, "a false `published`"
        assert nurseries(mode).start(str(folder), repo, "1.0.0", machine=repo).finished() == 0
        assert_invariants(repo, seen, tmp_path / "cache", at_rest=True)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    record(f"publishes under 12 % faults, {mode}, part {part}, by exit code", {str(c): n for c, n in ends.items()})
    record(f"faults that they met, {mode}, part {part}", dict(met))
    assert not WHOLE or ends[0] > 0.5 * ends.total()


@pytest.mark.parametrize("kind", ["same version", "different versions", "same bundle", "an edit on the web"])
def test_races(hub: Hub, nurseries: Any, bundles: list[Path], repo_id: str, tmp_path: Path, kind: str) -> None:
    ends: Counter[tuple[int, ...]] = Counter()
    for number in range(38 if WHOLE else 2):
        repo = f"{repo_id}-{number}"
        HfApi().create_repo(repo, repo_type="dataset")
        folders = [own(b, tmp_path / f"{number}-{i}") for i, b in enumerate(bundles)]
        versions = {"different versions": ["1.0.1", "1.1.0", "2.0.0"]}.get(kind, ["1.0.0", "1.0.0"])
        mine = [folders[0]] * 2 if kind == "same bundle" else folders
        if kind == "an edit on the web":
            versions = versions[:1]
        before = {"v1.0.0"} if kind == "different versions" else set()
        if before:  # from which all go on, in whatever order
            assert nurseries("lfs").start(folders[0], repo, "1.0.0").finished() == 0
        begin = time.time() + 0.1
        publishers: list[Publisher] = [
            nurseries("lfs").start(folder, repo, version, at=begin)
            for folder, version in zip(mine, versions, strict=False)
        ]
        if kind == "an edit on the web":
            time.sleep(0.1 + 0.02 * (number if WHOLE else 10 * number))
            edit(repo)
        codes = tuple(sorted(publisher.finished() for publisher in publishers))
        ends[codes] += 1
        seen: dict[str, str] = {}
        assert_invariants(repo, seen, tmp_path / "cache", at_rest=True)
        assert set(seen) == before | {f"v{version}" for version in versions}
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
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ_S", 0.2)
    monkeypatch.setattr(retry, "TRIES", 3)


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("path", ["/refs", "/commit/"])
def test_a_hub_that_never_answers_is_left(
    hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path, path: str
) -> None:  # fmt: skip
    hub.server.faults.add(Fault("hang-before", path, times=10))
    with pytest.raises(HubError) as caught:
        push(folder=Path(own(bundles[0], tmp_path / "data")), repo=repo_id, version="1.0.0")
    assert caught.value.exit_code == 4


def test_a_large_file_that_is_not_taken_by_lfs_is_an_error(
    hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path
) -> None:  # fmt: skip
    hub.server.faults.add(Fault("status", "/_lfs/", status=403, times=20))
    with pytest.raises(HubError, match="the token of `alice` cannot write to"):
        push(folder=Path(own(bundles[0], tmp_path / "data")), repo=repo_id, version="1.0.0")


@pytest.mark.parametrize("path", ["/v1/xorbs/", "/v2/shards", "/_xet/xorb/"])
def test_a_large_file_that_does_not_go_or_come_by_xet_is_an_error(
    hub: Hub, nurseries: Any, repo_id: str, tmp_path: Path, path: str
) -> None:
    rows = [
        {"prompt": f"{i} {repo_id}?", "chosen": "yes", "rejected": "no"} for i in range(12)
    ]  # that no xorb holds yet
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    hubdpo.prepare(source=[str(tmp_path / "rows.jsonl")], output_dir=tmp_path / "data", license="mit")
    hub.server.faults.add(Fault("status", path, status=403, times=1000))
    assert nurseries("xet").start(str(tmp_path / "data"), repo_id, "1.0.0", machine=repo_id).finished() == 4
    assert not HfApi().list_repo_refs(repo_id, repo_type="dataset").tags


def test_a_list_that_never_comes_is_asked_for_again(
    hub: Hub, nurseries: Any, bundles: list[Path], repo_id: str, tmp_path: Path
) -> None:  # fmt: skip
    """huggingface_hub asks for it with a timeout of its own: none at all."""
    hub.server.faults.add(Fault("hang-before", "/tree/"))
    assert nurseries("lfs").start(own(bundles[0], tmp_path / "data"), repo_id, "1.0.0").finished(within=20) == 0


@pytest.mark.usefixtures("short_timeouts")
def test_a_commit_whose_answer_never_comes_is_found(
    hub: Hub, bundles: list[Path], repo_id: str, tmp_path: Path
) -> None:
    hub.server.faults.add(Fault("hang-after", "/commit/", times=1))
    push(folder=Path(own(bundles[0], tmp_path / "data")), repo=repo_id, version="1.0.0")
    assert_invariants(repo_id, {}, tmp_path / "cache", at_rest=True)
