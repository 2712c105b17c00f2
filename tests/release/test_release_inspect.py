"""`hubdpo inspect`: adapters and datasets, of hubdpo and of others, on the Hub and in folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from safetensors.numpy import save_file
from typer.testing import Result

from hubdpo import push
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ArtefactError, HubError
from hubdpo.model.tokenizer.load import count_tokens
from hubdpo.release.inspect import inspect

if TYPE_CHECKING:
    from tests.conftest import Hub


def fields(found: object) -> list[str]:
    return [finding.field for finding in found.findings]  # type: ignore[attr-defined]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An adapter as other tools leave it: a path for its base, no task, whole layers, a pickle, a poor card."""
    import numpy as np

    folder = tmp_path / "foreign"
    folder.mkdir()
    zeros = {f"base_model.model.layers.0.q_proj.lora_{side}.weight": np.zeros(shape, "float32")
             for side, shape in (("A", (12, 8)), ("B", (8, 12)))}  # fmt: skip
    save_file(zeros, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 12, "base_model_name_or_path": "/root/Qwen2", "modules_to_save": ["lm_head"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text(
        "---\nbase_model: /root/Qwen2\nlibrary_name: peft\n---\n[More Information Needed]\n"
    )
    return folder


FOREIGN = [
    "base_model_name_or_path", "revision", "task_type", "training_args.bin", "modules_to_save",
    "license", "base_model", "front matter", "body",
]  # fmt: skip


def test_a_foreign_adapter_is_looked_through(foreign: Path) -> None:
    found = inspect(str(foreign))
    assert fields(found) == FOREIGN
    assert (found.kind, found.commit, found.facts["rank"], found.facts["parameters"]) == ("adapter", None, 12, 192)
    assert {way.name: way.works for way in found.ways} == {
        "PEFT": False, "transformers": False, "vLLM": False, "llama.cpp": False, "TGI": False,
        "transformers serve": False, "Ollama": False, "MLX": False,
    }  # fmt: skip


def test_the_same_on_the_hub_without_its_weights(foreign: Path, repo_id: str, hub: Hub) -> None:
    HfApi().create_repo(repo_id)
    # the Hub itself refuses the card
    sha = HfApi().upload_folder(repo_id=repo_id, folder_path=str(foreign), ignore_patterns="README.md").oid
    found = inspect(f"{repo_id}@main")
    assert fields(found) == [*FOREIGN[:5], "README.md"]
    assert (found.commit, found.facts["parameters"]) == (sha, 192)
    assert "--max-lora-rank 16" in {way.name: way.code for way in found.ways}["vLLM"]


def test_a_foreign_dataset_is_read_by_its_footers(tmp_path: Path, repo_id: str) -> None:
    for split, rows in (("train", 5), ("test", 2)):
        pq.write_table(pa.table({"question": ["a"] * rows}), tmp_path / f"{split}-00000.parquet")
    HfApi().create_repo(repo_id, repo_type="dataset")
    HfApi().upload_folder(repo_id=repo_id, repo_type="dataset", folder_path=str(tmp_path))
    for ref in (str(tmp_path), repo_id):
        found = inspect(ref)
        assert (found.kind, found.facts["rows"], found.facts["columns"]) == (
            "dataset", {"test": 2, "train": 5}, ["question"],
        )  # fmt: skip
        assert fields(found) == ["README.md", "columns", "license"]


@pytest.mark.parametrize(
    ("info", "rows"),
    [
        ("{splits: [{name: train, num_examples: 7}], features: [{name: q}]}", 7),
        ("[{splits: [{name: train, num_examples: 7}], features: [{name: q}]}, {splits: [], features: []}]", 7),
        ("{splits: [{name: train}], features: [{name: q}]}", 5),
        ("{splits: [{name: train, num_examples: 7}]}", 5),
        ("[]", 5),
    ],
)
def test_rows_are_those_of_the_card_where_it_states_them(tmp_path: Path, info: str, rows: int) -> None:
    pq.write_table(pa.table({"question": ["a"] * 5}), tmp_path / "train.parquet")
    (tmp_path / "README.md").write_text(f"---\ndataset_info: {info}\n---\n")
    told = inspect(str(tmp_path)).facts
    assert (told["rows"], told["columns"]) == ({"train": rows}, ["q" if rows == 7 else "question"])


def test_of_many_columns_people_see_the_first(tmp_path: Path, run_cli: Callable[..., Result]) -> None:
    pq.write_table(pa.table({f"c{i:04}": ["a"] for i in range(1234)}), tmp_path / "train.parquet")
    told = " ".join(run_cli("inspect", str(tmp_path)).output.split())
    assert "c0039 and 1,194 more" in told and "c0040" not in told
    assert "c1233" in run_cli("inspect", str(tmp_path), "--json").output


def test_a_dataset_folder_has_nothing_wrong_with_it(dataset_dir: Path, repo_id: str) -> None:
    push(folder=dataset_dir, repo=repo_id, version="1.0.0")
    for ref in (str(dataset_dir), f"{repo_id}@v1.0.0"):
        found = inspect(ref)
        assert found.findings == []
        assert (found.facts["rows"], found.facts["read"], found.facts["licence"]) == (
            PrepareManifest.read(dataset_dir / "prepare.json").splits,
            48,
            "mit",
        )
    assert found.facts["release"] == "v1.0.0"


def odd(folder: Path) -> pa.Table:
    rows = pq.read_metadata(next(folder.glob("data/train*"))).num_rows
    return pa.table({"prompt": pa.nulls(rows), "chosen": [1] * rows, "rejected": [b"\xff"] * rows})


@pytest.mark.parametrize("prepared", [True, False])
def test_parquet_that_is_none_and_columns_that_dpo_cannot_take_are_named(
    dataset_dir: Path, tmp_path: Path, repo_id: str, prepared: bool
) -> None:
    folder = Path(shutil.copytree(dataset_dir, tmp_path / "data"))
    train, test = (next(folder.glob(f"data/{split}*")) for split in ("train", "test"))
    pq.write_table(odd(folder), train)
    test.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    for name in () if prepared else ("prepare.json", "README.md"):
        (folder / name).unlink()
    HfApi().create_repo(repo_id, repo_type="dataset")
    HfApi().upload_folder(repo_id=repo_id, repo_type="dataset", folder_path=str(folder))
    for ref in (str(folder), repo_id):
        found = {finding.field: finding.message for finding in inspect(ref).findings}
        assert "is not a Parquet file" in found[f"data/{test.name}"]
        assert f"of `data/{train.name}` cannot be trained on: `prompt` holds null" in found["columns"]


def test_of_several_sets_one_may_be_the_pairs(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"chosen": ["a"], "rejected": ["b"]}), tmp_path / "b.parquet")
    assert "columns" in fields(inspect(str(tmp_path)))
    (tmp_path / "README.md").write_text("---\nconfigs: [{config_name: a}, {config_name: b}]\n---\n")
    found = inspect(str(tmp_path))
    assert "columns" not in fields(found) and found.facts["Parquet files looked at"] == "2 of 2"


def test_of_a_repo_that_tells_its_rows_a_few_footers_are_read(
    dataset_dir: Path, tmp_path: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubdpo.release.inspect.MOST_WHERE_KNOWN", 1)
    push(folder=dataset_dir, repo=repo_id, version="1.0.0")
    assert inspect(repo_id).facts["Parquet files looked at"] == "1 of 2"
    assert inspect(str(dataset_dir)).facts["Parquet files looked at"] == "2 of 2"


@pytest.mark.slow
def test_a_release_of_hubdpo_has_nothing_wrong_with_it(run_dir: Path, repo_id: str) -> None:
    push(folder=run_dir, repo=repo_id, version="1.0.0")
    for ref in (str(run_dir), f"{repo_id}@v1.0.0"):
        found = inspect(ref)
        assert found.findings == []
        assert all(way.works for way in found.ways)
    assert found.facts["release"] == "v1.0.0"


def test_the_command_ends_well_with_findings(foreign: Path) -> None:
    code = (
        "import sys; from hubdpo.cli.app import app\n"
        f"try: app(['inspect', {str(foreign)!r}, '--json'])\n"
        "except SystemExit as end: print(end.code)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    told, ended, torch = done.stdout.splitlines()
    assert [finding["field"] for finding in json.loads(told)["findings"]] == FOREIGN
    assert (ended, torch) == ("0", "False")
    assert "vLLM: blocked by modules_to_save" in done.stderr


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("./nothing-here", ArtefactError, "folder not found"),
        ("one word", ArtefactError, "folder not found"),
        ("alice/never-made", HubError, "alice/never-made"),
    ],
)
def test_what_cannot_be_looked_at_is_said(ref: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        inspect(ref)


@pytest.mark.parametrize("command", ["inspect", "diff", "merge", "load"])
def test_a_folder_that_is_not_there_is_called_so_by_every_command(
    command: str, tmp_path: Path, run_cli: Callable[..., Result]
) -> None:
    missing = str(tmp_path / "missing")
    done = run_cli(command, missing, *{"diff": [missing], "merge": ["-o", str(tmp_path / "out")]}.get(command, []))
    assert (done.exit_code, f"folder not found: {missing}" in done.stderr.replace("\n", "")) == (3, True)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ArtefactError, match="holds no adapter, merged model or dataset"):
        inspect(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"x" * 7, b"\xff" * 16, (3).to_bytes(8, "little") + b"{x}", b"\x02" + b"\0" * 7 + b"[]"]
)
def test_broken_weights_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ArtefactError, match="adapter_model.safetensors"):
        read_shapes(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("tokenizer", "count"),
    [
        ({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 5}]}, 6),
        ({"model": {"vocab": [["a", 0.1], ["b", 0.2]]}}, 2),
        ({"model": {}}, None),
    ],
)
def test_tokens_are_counted(tokenizer: dict[str, object], count: int | None) -> None:
    assert count_tokens(tokenizer) == count
