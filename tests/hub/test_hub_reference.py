"""How a repo is named on the command line and in Python: every form is read alike, wherever one is taken."""

from __future__ import annotations

import random
import string
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from huggingface_hub import HfApi

import hubdpo
from hubdpo.data.raw.sources.find import find_sources
from hubdpo.data.tokens.tokenizer import find_model
from hubdpo.errors import ArtefactError, ConfigError, DataError, HubdpoError, NoSuchRevision
from hubdpo.hub.client import resolve_address
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import RepoRef, checked_revision, parse_address, parse_ref, parse_unless_folder
from hubdpo.model.merge.merge import merge
from hubdpo.release.diff.diff import open_release

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.conftest import Hub

NO_REVISIONS = [
    "", "../x", "a/../b", "..", "a..b", "/etc", "a//b", "a/", "-x", ".hidden", "a/.b", "a b", "a\tb", "a\0b", "a~1",
    "a^", "a:b", "a?", "a*", "[a", "a\\b", "@{1}", "x.lock", "x.lock/y", "v1.",
]  # fmt: skip
SLASHED = ["refs/pr/1", "feature/clean"]


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("a/b", "a/b", None),
        ("a/b@v1.0.0", "a/b", "v1.0.0"),
        ("a/b@refs/pr/12", "a/b", "refs/pr/12"),
        ("a/b@refs%2Fpr%2F12", "a/b", "refs/pr/12"),
        ("a/b@refs/convert/parquet", "a/b", "refs/convert/parquet"),
        ("a/b@feature/x/y", "a/b", "feature/x/y"),
        ("a/b@user@home", "a/b", "user@home"),
        ("a/b@" + "0" * 40, "a/b", "0" * 40),
    ],
)
def test_a_reference_is_parted_at_its_first_at(text: str, repo: str, revision: str | None) -> None:
    assert parse_ref(text) == parse_unless_folder(text) == RepoRef(repo, revision)


def test_any_reference_reads_back_as_it_was_written() -> None:
    draw = random.Random(5)
    letters = string.ascii_letters + string.digits + "-_.@é"
    seen = 0
    for _ in range(2_000):
        revision = "/".join("".join(draw.choices(letters, k=draw.randint(1, 6))) for _ in range(draw.randint(1, 4)))
        try:
            checked_revision(revision)
        except ConfigError:
            continue
        seen += 1
        ref = RepoRef("user/name", revision)
        assert parse_ref(str(ref)) == parse_ref(f"user/name@{urllib.parse.quote(revision, safe='')}") == ref
    assert seen > 1_000


@pytest.mark.parametrize("revision", NO_REVISIONS)
def test_what_git_takes_for_no_name_is_refused(revision: str) -> None:
    with pytest.raises(ConfigError, match="not a revision"):
        parse_ref(f"a/b@{revision}")
    with pytest.raises(ConfigError, match="not a revision"):
        RepoRef("a/b").at(revision)


@pytest.mark.parametrize("text", ["a/b/c@v1", "./a/b", "/a/b", "~/a", "a", "a/b/c"])
def test_what_was_meant_as_a_folder_is_told_as_one(text: str) -> None:
    with pytest.raises(ArtefactError, match="folder not found"):
        parse_unless_folder(text)


def test_two_revisions_that_differ_are_refused() -> None:
    assert parse_ref("a/b@v1").at("v1") == parse_ref("a/b@v1").at(None) == RepoRef("a/b", "v1")
    with pytest.raises(ConfigError, match="two revisions"):
        parse_ref("a/b@v1").at("v2")


@pytest.mark.parametrize(
    ("rest", "ways"),
    [
        ("", [(None, "")]),
        ("/data/x.jsonl", [(None, "data/x.jsonl")]),
        ("/data/@v1.jsonl", [(None, "data/@v1.jsonl")]),
        ("@v1/x.jsonl", [("v1", "x.jsonl"), ("v1/x.jsonl", "")]),
        ("@refs/pr/3/x.jsonl", [("refs/pr/3", "x.jsonl")]),
        ("@refs%2Fpr%2F3/x.jsonl", [("refs/pr/3", "x.jsonl")]),
        ("@refs/convert/parquet", [("refs/convert/parquet", "")]),
        ("@feature%2Fx/y", [("feature/x", "y")]),
        ("@f/x/y", [("f", "x/y"), ("f/x", "y"), ("f/x/y", "")]),
        ("@f/x y/z", [("f", "x y/z")]),
    ],
)
def test_an_address_gives_every_way_to_part_revision_and_path(rest: str, ways: list[tuple[str | None, str]]) -> None:
    found = parse_address(f"hf://datasets/a/b{rest}")
    assert [(way.repo.revision, way.path) for way in found] == ways
    assert {way.repo.repo_id for way in found} == {"a/b"}


@pytest.mark.parametrize("address", ["hf://datasets/a", "hf://datasets/", "hf://datasets/a/b--c", "hf://datasets/a/b@"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(DataError, match="hf://"):
        parse_address(address)


@pytest.fixture(scope="module")
def slashed(hub: Hub, dataset_dir: Path, run_dir: Path) -> dict[str, str]:
    """A dataset and an adapter, each with a branch and a pull request whose files are not on main."""
    api = HfApi()
    names = {"dataset": f"{hub.user}/slashed-data", "model": f"{hub.user}/slashed-adapter"}
    for kind, folder in (("dataset", dataset_dir), ("model", run_dir)):
        named = {"repo_id": names[kind], "repo_type": kind}
        api.create_repo(**named)
        api.create_branch(**named, branch="feature/clean")
        upload = {**named, "folder_path": str(folder), "ignore_patterns": ["checkpoint-*"]}
        api.upload_folder(**upload, revision="feature/clean")
        done = api.upload_folder(**upload, create_pr=True)
        assert done.pr_revision == "refs/pr/1"
    api.create_branch(repo_id=names["dataset"], repo_type="dataset", branch="raw/more")
    rows = b"".join(orjson.dumps({"prompt": f"{i}?", "chosen": "yes", "rejected": "no"}) + b"\n" for i in range(4))
    for path in ("train.jsonl", "deep/er/test.jsonl"):
        api.upload_file(
            repo_id=names["dataset"], repo_type="dataset", revision="raw/more", path_in_repo=path, path_or_fileobj=rows
        )
    return names


@pytest.mark.parametrize("revision", [*SLASHED, "refs%2Fpr%2F1"])
def test_data_of_a_branch_or_a_pull_request_are_loaded(
    slashed: dict[str, str], dataset_dir: Path, revision: str
) -> None:
    rows = hubdpo.load_preferences(dataset_dir)["train"].to_list()
    assert hubdpo.load_preferences(f"{slashed['dataset']}@{revision}")["train"].to_list() == rows
    plain = urllib.parse.unquote(revision)
    assert hubdpo.load_preferences(slashed["dataset"], revision=plain)["train"].to_list() == rows


@pytest.mark.parametrize("revision", SLASHED)
@pytest.mark.parametrize(
    "take",
    [
        lambda names, at: open_snapshot(f"{names['model']}@{at}").commit,
        lambda names, at: open_snapshot(f"{names['dataset']}@{at}").commit,
        lambda names, at: find_model(f"{names['model']}@{at}").revision,
        lambda names, at: resolve_address(f"hf://datasets/{names['dataset']}@{at}").repo.revision,
        lambda names, at: resolve_address(f"hf://datasets/{names['dataset']}@{at}/data/x").repo.revision,
        lambda names, at: (
            resolve_address(f"hf://datasets/{names['dataset']}@{urllib.parse.quote(at, safe='')}/data").repo.revision
        ),
    ],
    ids=["inspect adapter", "inspect data", "prepare --model", "prepare", "prepare path", "prepare quoted"],
)
def test_every_reader_finds_it(
    slashed: dict[str, str], revision: str, take: Callable[[dict[str, str], str], str | None]
) -> None:
    refs = {HfApi().repo_info(name, repo_type=kind, revision=revision).sha for kind, name in slashed.items()}
    assert take(slashed, revision) in refs


def test_a_commit_tells_a_dataset_from_a_model_of_its_name(slashed: dict[str, str]) -> None:
    api, name = HfApi(), slashed["dataset"]
    sha = api.repo_info(name, repo_type="dataset", revision="feature/clean").sha
    api.create_repo(name, exist_ok=True)
    try:
        assert open_snapshot(f"{name}@{sha}").repo_type == "dataset"
        with pytest.raises(NoSuchRevision):
            open_snapshot(f"{name}@{'0' * 40}")
    finally:
        api.delete_repo(name)


def test_the_repo_tells_where_the_branch_ends_and_the_path_begins(slashed: dict[str, str], tmp_path: Path) -> None:
    address = f"hf://datasets/{slashed['dataset']}@raw/more"
    found = [
        {file.name.rpartition("@")[2].partition("/")[2] for file in find_sources([f"{address}{path}"], str(tmp_path))}
        for path in ("", "/deep/er/test.jsonl", "/deep", "/train.jsonl")
    ]
    deep, top = "deep/er/test.jsonl", "train.jsonl"
    assert found == [{deep, top}, {deep}, {deep}, {top}]


def test_an_address_whose_revision_is_missing_names_what_was_tried(slashed: dict[str, str]) -> None:
    with pytest.raises(NoSuchRevision, match="`raw` or `raw/less`"):
        resolve_address(f"hf://datasets/{slashed['dataset']}@raw/less")


@pytest.mark.parametrize("revision", SLASHED)
def test_an_adapter_of_a_branch_or_a_pull_request_is_taken(
    slashed: dict[str, str], tmp_path: Path, revision: str
) -> None:
    ref = f"{slashed['model']}@{revision}"
    assert hubdpo.load_adapter(ref).revision == hubdpo.load_adapter(slashed["model"], revision=revision).revision
    assert merge(adapter=ref, output_dir=tmp_path / "merged", dtype="float32").adapter.repo_id == slashed["model"]


def test_a_branch_that_is_no_release_is_told_as_one_in_diff(slashed: dict[str, str]) -> None:
    with pytest.raises(ArtefactError, match=r"@feature/clean` is no release"):
        open_release(f"{slashed['dataset']}@feature/clean")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["verify", "{dataset}@refs/pr/1"], "has no release yet"),
        (["versions", "{dataset}@feature/clean"], "not `feature/clean`"),
        (["inspect", "{dataset}@feature/none"], "`alice/slashed-data` has no revision `feature/none`"),
        (["load", "{model}@feature/none"], "`alice/slashed-adapter` has no revision `feature/none`"),
    ],
)
def test_commands_say_what_they_cannot_do_with_it(
    slashed: dict[str, str], run_cli: Callable[..., Result], command: list[str], word: str
) -> None:
    done = run_cli(*(part.format(**slashed) for part in command))
    assert done.exit_code in (2, 4)
    assert word in done.stderr.replace("\n", " ")


def test_the_hint_for_a_missing_revision_names_the_kind_of_repo(slashed: dict[str, str]) -> None:
    for load, kind, options in (
        (hubdpo.load_preferences, "dataset", " --type dataset"),
        (hubdpo.load_adapter, "model", ""),
    ):
        with pytest.raises(NoSuchRevision) as raised:
            load(f"{slashed[kind]}@feature/none")
        assert raised.value.hint == f"hf repos tag list {slashed[kind]}{options}"


def test_train_takes_a_base_and_data_with_their_revisions(
    slashed: dict[str, str], tiny_base_repo: str, run_cli: Callable[..., Result], tmp_path: Path
) -> None:
    done = run_cli(
        "train", "--model-name-or-path", f"{tiny_base_repo}@main", "--dataset", f"{slashed['dataset']}@refs/pr/1",
        "-o", str(tmp_path / "run"), "--dry-run",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr


def test_a_base_with_two_revisions_is_refused(tiny_base_repo: str) -> None:
    from hubdpo.model.bases.find import find_base

    with pytest.raises(HubdpoError, match="two revisions"):
        find_base(f"{tiny_base_repo}@main", "v1")
