"""Data sets on the Hub: what their card declares is read as it is declared, and sets are not mixed."""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.raw.sources.hub_configs import read_configs
from hubdpo.errors import DataError, HubError
from tests.data.made import lines, rows

FILES = {
    "a/part1.jsonl": rows(30)[:20], "a/part2.jsonl": rows(30)[20:], "b/part1.jsonl": rows(50)[30:],
    "notes.json": [{"x": 1}],
}  # fmt: skip
A = {
    "config_name": "a",
    "data_files": [{"split": "train", "path": "a/part1.jsonl"}, {"split": "test", "path": ["a/part2*"]}],
}
B = {"config_name": "b", "data_dir": "b"}


def publish(repo_id: str, configs: list[dict[str, Any]] | None, files: dict[str, Any] = FILES) -> None:
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset")
    card = f"---\n{yaml.safe_dump({'configs': configs})}---\n" if configs else "---\nlicense: mit\n---\n"
    for name, data in {**{name: lines(values) for name, values in files.items()}, "README.md": card.encode()}.items():
        api.upload_file(path_or_fileobj=data, path_in_repo=name, repo_id=repo_id, repo_type="dataset")


def prompts(folder: Path) -> dict[str, int]:
    return {name: len(table) for name, table in load_preferences(folder).items()}


def names(manifest: PrepareManifest) -> list[str]:
    return [source.name.split("/", 5)[-1] for source in manifest.sources]


@pytest.mark.parametrize("path", ["", "/a"])
def test_the_files_and_splits_of_a_configuration_are_read_as_declared(path: str, repo_id: str, tmp_path: Path) -> None:
    publish(repo_id, [A] if not path else [A, B])
    manifest = prepare(source=f"hf://datasets/{repo_id}{path}", output_dir=tmp_path / "out")
    assert names(manifest) == ["a/part1.jsonl", "a/part2.jsonl"]
    assert prompts(tmp_path / "out") == {"train": 20, "test": 10}


def test_one_of_several_configurations_must_be_named(repo_id: str, tmp_path: Path) -> None:
    publish(repo_id, [A, B])
    with pytest.raises(DataError, match="has 2 configurations, which are different datasets: `a`, `b`") as caught:
        prepare(source=f"hf://datasets/{repo_id}", output_dir=tmp_path / "out")
    pasted = (caught.value.hint or "").removeprefix("name one, or several: ").split(" ")
    manifest = prepare(source=pasted, output_dir=tmp_path / "out")
    assert names(manifest) == ["a/part1.jsonl", "a/part2.jsonl", "b/part1.jsonl"]


@pytest.mark.parametrize("mark", [{"default": True}, {"config_name": "default"}])
def test_the_default_configuration_is_taken_and_the_others_are_named(
    mark: dict[str, Any], repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(repo_id, [A, {**B, **mark}])
    manifest = prepare(source=f"hf://datasets/{repo_id}", output_dir=tmp_path / "out")
    assert names(manifest) == ["b/part1.jsonl"]
    assert (
        f"not read: hf://datasets/{repo_id}@{manifest.sources[0].name.split('@')[1][:40]}/a" in capsys.readouterr().err
    )


def test_a_path_is_a_path_where_no_configuration_has_its_name(repo_id: str, tmp_path: Path) -> None:
    publish(repo_id, [A, B])
    manifest = prepare(source=f"hf://datasets/{repo_id}/b/part1.jsonl", output_dir=tmp_path / "out")
    assert names(manifest) == ["b/part1.jsonl"]
    with pytest.raises(DataError, match="source not found"):
        prepare(source=f"hf://datasets/{repo_id}/c", output_dir=tmp_path / "out")


def again(folder: Path) -> list[str]:
    """Return the sources of the command that the card of a dataset folder shows."""
    command = (folder / "README.md").read_text().partition("hubdpo prepare ")[2].partition("```")[0]
    words = shlex.split(command.replace("\\\n", " "))
    return words[: words.index("-o")]


@pytest.mark.parametrize("sources", [[""], ["/a"], ["/a", "/b"], ["/a/part1.jsonl", "/a/part2.jsonl"]])
@pytest.mark.parametrize("count", [2, 12])
def test_the_command_of_the_card_gives_the_same_rows_and_splits(
    sources: list[str], count: int, repo_id: str, tmp_path: Path
) -> None:
    more = {f"a/part2-{number:02d}.jsonl": [row] for number, row in enumerate(rows(60)[50 : 50 + count - 2])}
    publish(repo_id, [{**A, "default": True}, B], {**FILES, **more})
    manifest = prepare(source=[f"hf://datasets/{repo_id}{path}" for path in sources], output_dir=tmp_path / "out")
    assert manifest.published_split
    sources_again = again(tmp_path / "out")
    assert len(sources_again) == len(sources)
    assert prepare(source=sources_again, output_dir=tmp_path / "again") == manifest
    for name in ("train", "test"):
        parts = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob(f"{name}*.parquet")]
        assert parts
        for part in parts:
            assert (tmp_path / "again" / part).read_bytes() == (tmp_path / "out" / part).read_bytes()


def test_many_files_of_a_repo_are_not_told_as_all_of_it(repo_id: str, tmp_path: Path) -> None:
    publish(repo_id, None, {f"{number:02d}.jsonl": [row] for number, row in enumerate(rows(13))})
    files = [f"hf://datasets/{repo_id}/{number:02d}.jsonl" for number in range(11)]
    prepare(source=files, output_dir=tmp_path / "out")
    assert again(tmp_path / "out") == ["SOURCES"]


@pytest.mark.parametrize(("split", "test"), [("test", 10), ("train", None)])
def test_a_file_that_is_named_is_in_the_split_that_all_configurations_declare(
    split: str, test: int | None, repo_id: str, tmp_path: Path
) -> None:
    other = {"config_name": "c", "data_files": {split: "a/part2.jsonl"}}
    publish(repo_id, [A, other])
    files = [f"hf://datasets/{repo_id}/a/part{number}.jsonl" for number in (1, 2)]
    manifest = prepare(source=files, output_dir=tmp_path / "out")
    assert manifest.published_split == (test is not None)
    assert test is None or manifest.splits["test"] == test


def test_the_published_split_of_a_repo_without_a_declaration_stays(repo_id: str, tmp_path: Path) -> None:
    publish(repo_id, None, {"data/train-0.jsonl": rows(30)[:20], "data/test-0.jsonl": rows(30)[20:]})
    prepare(source=f"hf://datasets/{repo_id}", output_dir=tmp_path / "out")
    assert prompts(tmp_path / "out") == {"train": 20, "test": 10}


@pytest.mark.parametrize(
    ("configs", "found"),
    [
        ({"config_name": "x", "data_files": "a*.jsonl"}, [("a*.jsonl", None)]),
        ({"config_name": "x", "data_files": ["train.csv", "dev.csv"]}, [("train.csv", "train"), ("dev.csv", "test")]),
        ({"config_name": "x", "data_files": {"validation": "v/*"}}, [("v/*", "test")]),
        ({"config_name": "x", "data_dir": "./d/", "data_files": "*.csv"}, [("d/*.csv", None)]),
        ({"config_name": "x"}, [("**", None)]),
        ("no mapping", None), ({"data_files": "a"}, None),
    ],
)  # fmt: skip
def test_forms_of_a_declaration(configs: Any, found: Any, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': [configs]})}---\n")
    read = read_configs(tmp_path / "README.md")
    assert [list(one.files) for one in read] == ([found] if found else [])


@pytest.mark.parametrize("card", ["", "---\n{broken\n---\n", "---\nconfigs: 3\n---\n"])
def test_a_card_that_declares_nothing_leaves_all_files(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert read_configs(tmp_path / "README.md") == []


@pytest.mark.parametrize("named", ["/**", "../*", "/etc/host*", "a/../../**"])
def test_a_pattern_that_leads_out_of_the_repo_is_named_and_not_walked(
    tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (tmp_path / "secret.jsonl").write_text("{}")
    (repo / "a.jsonl").write_text("{}")
    (repo / "README.md").write_text(f"---\nconfigs: [{{config_name: x, data_files: [{named!r}, a.jsonl]}}]\n---\n")
    (config,) = read_configs(repo / "README.md")
    assert list(config.splits(repo)) == ["a.jsonl"]
    assert f"the card names `{named}`, which is outside the repo" in capsys.readouterr().err


def test_many_stars_walk_a_folder_once(tmp_path: Path) -> None:
    stars = "**/" * 50
    (tmp_path / "README.md").write_text(f"---\nconfigs: [{{config_name: x, data_files: '{stars}*.json'}}]\n---\n")
    (config,) = read_configs(tmp_path / "README.md")
    assert config.patterns() == ["**/*.json", "*.json"]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".jsonl.gz"])
def test_files_of_a_model_repo_are_read(ending: str, repo_id: str, tmp_path: Path) -> None:
    HfApi().create_repo(repo_id)
    data = gzip.compress(lines(rows(9))) if ending.endswith(".gz") else lines(rows(9))
    HfApi().upload_file(path_or_fileobj=data, path_in_repo=f"extra/pairs{ending}", repo_id=repo_id)
    manifest = prepare(source=f"hf://{repo_id}/extra/pairs{ending}", output_dir=tmp_path / "out")
    assert manifest.funnel.kept == 9


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("hf://{}", "`{}` is a dataset", "hf://datasets/{}"),
        ("hf://models/{}/a/part1.jsonl", "`{}` is a dataset", "hf://datasets/{}/a/part1.jsonl"),
        ("hf://{}x/a.jsonl", "`{}x` is not on", "hf models ls --author"),
    ],
)
def test_an_address_of_no_model_is_explained(
    source: str, message: str, hint: str, repo_id: str, tmp_path: Path
) -> None:
    publish(repo_id, None)
    with pytest.raises(HubError) as caught:
        prepare(source=source.format(repo_id), output_dir=tmp_path / "out")
    assert message.format(repo_id) in caught.value.message and hint.format(repo_id) in str(caught.value.hint)


def test_a_repo_of_another_type_that_is_not_there_is_no_source(repo_id: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source not found: hf://spaces/"):
        prepare(source=f"hf://spaces/{repo_id}", output_dir=tmp_path / "out")


def test_an_address_with_models_is_read(repo_id: str, tmp_path: Path) -> None:
    HfApi().create_repo(repo_id)
    HfApi().upload_file(path_or_fileobj=lines(rows(9)), path_in_repo="a.jsonl", repo_id=repo_id)
    assert prepare(source=f"hf://models/{repo_id}", output_dir=tmp_path / "out").funnel.kept == 9


def clone(folder: Path, configs: list[dict[str, Any]]) -> Path:
    """Write the files as a clone of the repo has them."""
    for name, values in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(lines(values))
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


@pytest.mark.parametrize("path", ["", "/a"])
def test_a_clone_is_read_as_its_card_declares(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clone(tmp_path / "repo", [A] if not path else [A, B])
    prepare(source=f"{folder}{path}", output_dir=tmp_path / "out")
    assert prompts(tmp_path / "out") == {"train": 20, "test": 10}
    assert "as `a` does not declare them: b/part1.jsonl, notes.json" in capsys.readouterr().err


def test_one_of_several_configurations_of_a_clone_must_be_named(tmp_path: Path) -> None:
    folder = clone(tmp_path / "repo", [A, B])
    with pytest.raises(DataError, match="`repo` has 2 configurations") as caught:
        prepare(source=str(folder), output_dir=tmp_path / "out")
    pasted = (caught.value.hint or "").removeprefix("name one, or several: ").split(" ")
    assert pasted == [f"{folder}/a", f"{folder}/b"]
    assert prepare(source=pasted[1], output_dir=tmp_path / "out").funnel.read == 20


def test_a_card_whose_files_are_not_there_declares_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clone(tmp_path / "repo", [{"config_name": "c", "data_files": "gone/*"}])
    (folder / "notes.json").unlink()
    assert prepare(source=str(folder), output_dir=tmp_path / "out").funnel.read == 50
    assert "no file that its README.md declares" in capsys.readouterr().err
