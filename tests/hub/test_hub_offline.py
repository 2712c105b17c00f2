"""With all of it in the cache nothing needs the Hub: what is pinned is never asked for, names are read from `refs/`."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi, constants

import hubdpo
from hubdpo import push
from hubdpo.config import MergeConfig
from hubdpo.data.load import look_at_dataset
from hubdpo.data.raw.sources.find import find_sources
from hubdpo.data.tokens.tokenizer import encoder_of, find_model
from hubdpo.errors import HubError, NoSuchRevision
from hubdpo.hub.client import cache_of, download, resolve, resolve_address
from hubdpo.hub.open import find_types, open_snapshot
from hubdpo.hub.reference import RepoRef
from hubdpo.loopback.faults import Fault, Faults, Kind
from hubdpo.model.bases.find import find_base
from hubdpo.model.merge import sources as merging
from hubdpo.release.diff.diff import diff
from hubdpo.release.inspect import inspect

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.conftest import Hub

TAG = "v1.0.0"


@pytest.fixture(scope="module")
def published(hub: Hub, dataset_dir: Path, run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A dataset and an adapter on the Hub; no test has them in its cache yet."""
    folder = tmp_path_factory.mktemp("published")
    names = {"data": f"{hub.user}/cached-data", "adapter": f"{hub.user}/cached-adapter"}
    for kind, made in (("data", dataset_dir), ("adapter", run_dir)):
        copy = shutil.copytree(made, folder / kind, ignore=shutil.ignore_patterns("release.json", "checkpoint-*"))
        push(folder=copy, repo=names[kind], version="1.0.0", check="hashes")
    return names


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    encoder_of.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> Iterator[Callable[[], None]]:
    """Turns offline mode on; the Hub would break any connection besides."""

    def turn_on() -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        faults.add(Fault("reset-before", "", times=1_000))

    yield turn_on
    faults.clear()


USES: dict[str, Callable[[dict[str, str], str, Path], object]] = {
    "load_preferences": lambda names, base, out: hubdpo.load_preferences(names["data"])["train"].to_list(),
    "load_preferences at": lambda names, base, out: hubdpo.load_preferences(f"{names['data']}@{TAG}")["test"].to_list(),
    "load_preferences revision": lambda names, base, out: hubdpo.load_preferences(names["data"], revision=TAG).num_rows,
    "load_adapter": lambda names, base, out: hubdpo.load_adapter(names["adapter"], revision=TAG).revision,
    "prepare --model": lambda names, base, out: encoder_of(find_model(base)).prompt([{"role": "user", "content": "x"}]),
    "prepare": lambda names, base, out: [
        file.name for file in find_sources([f"hf://datasets/{names['data']}@{TAG}/data"], str(out))
    ],
    "base of train": lambda names, base, out: find_base(base).ref,
    "merge": lambda names, base, out: merging.find_sources(
        MergeConfig.build({"adapter": f"{names['adapter']}@{TAG}", "output_dir": str(out / "merged")})
    )[0].ref,
    "diff": lambda names, base, out: diff(f"{names['data']}@{TAG}", names["data"]).summary,
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("cache")
def test_what_was_loaded_once_loads_offline(
    use: str, published: dict[str, str], tiny_base_repo: str, offline: Callable[[], None], tmp_path: Path
) -> None:
    before = USES[use](published, tiny_base_repo, tmp_path)
    encoder_of.cache_clear()
    offline()
    assert USES[use](published, tiny_base_repo, tmp_path) == before


@pytest.mark.usefixtures("cache")
def test_inspect_works_offline_on_what_was_downloaded(published: dict[str, str], offline: Callable[[], None]) -> None:
    name = f"{published['adapter']}@{TAG}"
    download(published["adapter"], resolve(published["adapter"], TAG))
    before = inspect(name)
    offline()
    after = inspect(name)
    assert (after.facts, after.kind) == (before.facts, before.kind)


@pytest.mark.usefixtures("cache")
def test_a_cache_that_others_filled_is_enough(
    published: dict[str, str], offline: Callable[[], None], tmp_path: Path
) -> None:
    HfApi().snapshot_download(published["data"], repo_type="dataset", revision=TAG)
    offline()
    assert hubdpo.load_preferences(published["data"], revision=TAG)["train"].num_rows > 0


@pytest.mark.usefixtures("cache")
def test_a_commit_is_never_asked_for(published: dict[str, str], faults: Faults) -> None:
    sha = resolve(published["data"], TAG, repo_type="dataset")
    rows = hubdpo.load_preferences(f"{published['data']}@{sha}")["train"].num_rows
    faults.add(Fault("reset-before", "", times=1_000))
    assert resolve("nobody/nothing", "0" * 40) == "0" * 40
    assert hubdpo.load_preferences(f"{published['data']}@{sha}")["train"].num_rows == rows


@pytest.mark.usefixtures("cache")
def test_a_commit_alone_tells_the_type_of_its_repo(published: dict[str, str], faults: Faults) -> None:
    sha = resolve(published["data"], repo_type="dataset")
    assert open_snapshot(f"{published['data']}@{sha}", repo_type="dataset").fetch()
    faults.add(refused := Fault("reset-before", "", times=1_000))
    assert open_snapshot(f"{published['data']}@{sha}").repo_type == "dataset"
    assert refused.times == 1_000


@pytest.mark.usefixtures("cache")
def test_a_base_that_other_tools_cached_is_left_at_once_by_a_dead_hub(
    tiny_base_repo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        HfApi().hf_hub_download(tiny_base_repo, name)
    sha = resolve(tiny_base_repo)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: pytest.fail("it waits in silence"))
    monkeypatch.setattr("hubdpo.hub.retry.pause", lambda seconds: None)
    assert find_base(tiny_base_repo, sha).ref.revision == sha
    said = capsys.readouterr().err
    assert f"http://127.0.0.1:9 does not answer (ConnectError); the files of `{tiny_base_repo}@{sha[:12]}` are" in said


@pytest.mark.usefixtures("cache")
def test_evaluate_of_what_is_pinned_asks_nothing(
    published: dict[str, str], tiny_base_repo: str, run_dir: Path, tmp_path: Path, faults: Faults
) -> None:
    from hubdpo.artefacts.manifests.manifest import RUN_FILE
    from hubdpo.artefacts.manifests.run import RunManifest

    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    made = RunManifest.read(run / RUN_FILE)
    sha = resolve(published["data"], TAG, repo_type="dataset")
    data = made.dataset.model_copy(update={"repo_id": published["data"], "revision": sha})
    made.model_copy(update={"dataset": data}).write(run / RUN_FILE)
    download(published["data"], sha, repo_type="dataset")
    find_base(tiny_base_repo)
    faults.add(Fault("reset-before", "", times=1_000))
    assert hubdpo.evaluate(model=run, max_pairs=2, max_answers=0).pairs == 2


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("reset-before", 0, "does not answer (RemoteProtocolError)"),
        ("status", 503, "answered 503"),
        ("status", 429, "answered 429"),
    ],
)
def test_when_no_answer_comes_the_cached_commit_is_used_and_told(
    published: dict[str, str], faults: Faults, kind: Kind, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = resolve(published["data"], repo_type="dataset")
    capsys.readouterr()
    faults.add(Fault(kind, "", status=status, times=1_000))
    assert resolve(published["data"], repo_type="dataset") == sha
    said = f"warning: {constants.ENDPOINT} {words}; `{published['data']}` is {sha[:12]}, from the cache\n"
    assert capsys.readouterr().err == said


class LoginPage(BaseHTTPRequestHandler):
    """What a network answers in place of the Hub, before one has logged in to it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome to our Wi-Fi</html>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def login_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), LoginPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def turn_on() -> str:
            monkeypatch.setenv("HF_ENDPOINT", address := f"http://127.0.0.1:{server.server_port}")
            return address

        yield turn_on
        server.shutdown()


@pytest.mark.usefixtures("cache")
def test_a_page_in_place_of_an_answer_is_none(
    published: dict[str, str], login_page: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    hubdpo.load_preferences(published["data"])
    capsys.readouterr()
    address = login_page()
    assert hubdpo.load_preferences(published["data"])["train"].num_rows > 0
    said = f"warning: {address} answered something that is not JSON; `{published['data']}` is "
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.usefixtures("cache")
def test_a_hub_that_did_not_answer_is_not_asked_once_more(
    published: dict[str, str], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_snapshot(published["data"]).fetch()
    monkeypatch.setattr("hubdpo.hub.transport.GET_S", 0.2)
    faults.add(asked := Fault("sleep", "", seconds=0.5, times=1_000))
    assert open_snapshot(published["data"]).files
    assert asked.times == 999


@pytest.mark.usefixtures("cache")
def test_when_no_answer_comes_and_nothing_is_cached_that_is_told(faults: Faults) -> None:
    faults.add(Fault("reset-before", "", times=1_000))
    with pytest.raises(HubError, match="no answer from http"):
        resolve("alice/never")


@pytest.mark.usefixtures("cache")
def test_an_answer_that_there_is_no_such_revision_is_believed(published: dict[str, str]) -> None:
    refs = cache_of(published["data"], "dataset") / "refs"
    refs.mkdir(parents=True)
    (refs / "gone").write_text("0" * 40)
    with pytest.raises(NoSuchRevision):
        resolve(published["data"], "gone", repo_type="dataset")


@pytest.mark.usefixtures("cache")
def test_a_branch_with_a_slash_is_known_offline(
    published: dict[str, str], offline: Callable[[], None], tmp_path: Path
) -> None:
    HfApi().create_branch(published["data"], branch="feature/x", repo_type="dataset", exist_ok=True)
    address = f"hf://datasets/{published['data']}@feature/x/data"
    before = resolve_address(address)
    offline()
    assert resolve_address(address) == before


@pytest.mark.parametrize(
    ("take", "message", "command"),
    [
        (lambda: resolve("a/b"), "`a/b` is not in the cache", "hf download a/b"),
        (lambda: resolve("a/b", "refs/pr/1"), "`a/b@refs/pr/1` is not", "hf download a/b --revision refs/pr/1"),
        (
            lambda: resolve("a/b", TAG, repo_type="dataset"),
            "`a/b@v1.0.0` is not",
            "hf download a/b --repo-type dataset --revision v1.0.0",
        ),
        (lambda: download("a/b", "1" * 40), "`a/b@1111", f"hf download a/b --revision {'1' * 40}"),
        (lambda: find_types(RepoRef("a/b")), "`a/b` is not in the cache", "hf download a/b"),
        (lambda: open_snapshot("a/b@v1"), "`a/b@v1` is not in the cache", "hf download a/b --revision v1"),
    ],
    ids=["base", "pull request", "data", "commit", "kind", "inspect"],
)
@pytest.mark.usefixtures("cache")
def test_what_was_never_cached_is_named_with_the_command_that_fetches_it(
    offline: Callable[[], None], take: Callable[[], object], message: str, command: str
) -> None:
    offline()
    with pytest.raises(NoSuchRevision, match="offline mode is on") as caught:
        take()
    assert message in caught.value.message
    assert caught.value.hint == f"HF_HUB_OFFLINE=0 {command}"


@pytest.mark.usefixtures("cache")
def test_a_model_in_the_cache_without_the_revision_is_told_so(tiny_base_repo: str, offline: Callable[[], None]) -> None:
    resolve(tiny_base_repo)
    offline()
    with pytest.raises(NoSuchRevision, match="`alice/tiny-qwen2@v7` is not in the cache"):
        open_snapshot(f"{tiny_base_repo}@v7")


PARTIAL: dict[str, Callable[[dict[str, str], Path], object]] = {
    "load_preferences": lambda names, out: hubdpo.load_preferences(names["data"]),
    "train --dataset": lambda names, out: look_at_dataset(names["data"]),
    "load_adapter": lambda names, out: hubdpo.load_adapter(names["adapter"]),
    "merge": lambda names, out: hubdpo.merge(adapter=names["adapter"], output_dir=out / "merged"),
    "diff": lambda names, out: diff(names["adapter"], names["adapter"]),
    "diff of datasets": lambda names, out: diff(names["data"], names["data"]),
    "inspect": lambda names, out: inspect(names["adapter"]),
}


@pytest.mark.parametrize("reason", ["offline mode is on", "does not answer"])
@pytest.mark.parametrize("use", PARTIAL)
@pytest.mark.usefixtures("cache")
def test_a_repo_of_which_one_file_is_cached_is_not_judged_by_that_file(
    use: str, reason: str, published: dict[str, str], offline: Callable[[], None], faults: Faults, tmp_path: Path
) -> None:
    for kind, repo_type in (("data", "dataset"), ("adapter", "model")):
        HfApi().hf_hub_download(published[kind], "README.md", repo_type=repo_type)
    if reason == "offline mode is on":
        offline()
    else:
        faults.add(Fault("reset-before", "", times=1_000))
    with pytest.raises(NoSuchRevision, match=f"is not in the cache with all its files, and .*{reason}"):
        PARTIAL[use](published, tmp_path)


@pytest.mark.usefixtures("cache")
def test_a_commit_in_part_cached_is_asked_for(published: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    HfApi().hf_hub_download(published["data"], "README.md", repo_type="dataset")
    sha = resolve(published["data"], repo_type="dataset")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="no server runs at http"):
        look_at_dataset(f"{published['data']}@{sha}")


@pytest.mark.usefixtures("cache")
def test_files_that_another_tool_cached_are_enough_for_a_base(tiny_base_repo: str, offline: Callable[[], None]) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        HfApi().hf_hub_download(tiny_base_repo, name)
    offline()
    assert find_base(tiny_base_repo).ref.repo_id == tiny_base_repo


@pytest.mark.usefixtures("cache")
def test_a_part_of_a_repo_in_the_cache_is_told_as_a_part(tiny_base_repo: str, offline: Callable[[], None]) -> None:
    encoder_of(find_model(tiny_base_repo))
    offline()
    with pytest.raises(HubError, match="not in the cache with all its files"):
        find_base(tiny_base_repo)


@pytest.mark.parametrize(
    "command", [["verify", f"a/b@{TAG}"], ["versions", "a/b"], ["push", "{data}", "a/b", "--version", "1.0.0"]]
)
def test_what_must_ask_says_so_in_one_line(
    data: Path, offline: Callable[[], None], run_cli: Callable[..., Result], command: list[str]
) -> None:
    offline()
    done = run_cli(*(part.format(data=data) for part in command))
    assert done.exit_code == 4
    assert done.stderr.strip().splitlines() == [
        f"error: `{command[0]}` must ask the Hub, and offline mode is on", "hint: export HF_HUB_OFFLINE=0",
    ]  # fmt: skip


@pytest.mark.usefixtures("cache")
def test_a_cache_that_cannot_be_written_is_no_error(
    published: dict[str, str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file where the folder would be")
    assert len(resolve(published["data"], TAG, repo_type="dataset")) == 40
    assert "does not keep which commit" in capsys.readouterr().err
