"""What differs between two releases: rows, options, numbers, weights and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file
from typer.testing import CliRunner

import hubdpo
from hubdpo import console, prepare, push
from hubdpo.artefacts.manifests.evaluation import EvalReport, EvaluatedDataset
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.manifest import EVAL_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cli.app import app
from hubdpo.errors import ArtefactError, ConfigError, HubError
from hubdpo.release.diff import rows
from hubdpo.release.diff.diff import diff
from hubdpo.release.diff.weights import compare_weights
from tests.near import assert_near
from tests.release.made import record_files, scale_adapter

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def other_run(run: Path, tmp_path: Path) -> Path:
    """The same run with other options, other numbers, and weights that add twice as much."""
    folder = Path(shutil.copytree(run, tmp_path / "other"))
    scale_adapter(folder, 2)
    manifest, report = RunManifest.read(folder / "run.json"), EvalReport.read(folder / EVAL_FILE)
    manifest.model_copy(update={"config": {**manifest.config, "beta": 0.3}}).write(folder / "run.json")
    report.model_copy(update={"adapter_accuracy": Accuracy.of(9, 12)}).write(folder / EVAL_FILE)
    record_files(folder)
    return folder


def prepared(place: Path, numbers: range) -> Path:
    rows = [{"prompt": f"{i // 2}?", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in numbers]
    place.mkdir()
    (place / "raw.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    hubdpo.prepare(source=[str(place / "raw.jsonl")], output_dir=place / "data", test_size=0)
    return place / "data"


def lora(place: Path, *, rank: int, alpha: int = 16, seed: int = 0, **config: Any) -> tuple[Path, np.ndarray]:
    """An adapter of one module, and what it adds."""
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, 24, generator=draw), torch.randn(40, rank, generator=draw)
    place.mkdir()
    save_file({f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}, place / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "lora_alpha": alpha, **config}
    (place / "adapter_config.json").write_text(json.dumps(settings))
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return place, scale * (b.double() @ a.double()).numpy()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"rank": 4}, {"rank": 4, "seed": 1}), ({"rank": 4}, {"rank": 8, "seed": 1}),
        ({"rank": 2, "alpha": 32}, {"rank": 16, "use_rslora": True}), ({"rank": 4}, {"rank": 4, "alpha": 17}),
    ],
)  # fmt: skip
def test_distances_are_those_of_the_products(one: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    (before, old), (after, new) = lora(tmp_path / "a", **one), lora(tmp_path / "b", **other)
    found = compare_weights(before, after).modules[MODULE]
    norms = [float(np.linalg.norm(x)) for x in (old, new, new - old)]
    # the squared difference is summed from the squares of both
    assert_near((found.before, found.after, found.difference), norms, share=1e-9)
    assert found.cosine == pytest.approx(float((old * new).sum() / (norms[0] * norms[1])), abs=1e-9)


def test_an_own_alpha_of_a_module_counts(tmp_path: Path) -> None:
    before, _ = lora(tmp_path / "a", rank=4)
    after, _ = lora(tmp_path / "b", rank=4, alpha_pattern={"q_proj": 48})
    assert compare_weights(before, after).total.relative == pytest.approx(2)


def test_equal_weights_are_exactly_equal(tmp_path: Path) -> None:
    found = compare_weights(lora(tmp_path / "a", rank=4)[0], lora(tmp_path / "b", rank=4)[0]).total
    assert (found.difference, found.relative, found.cosine) == (0, 0, 1)


def test_dora_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="plain LoRA"):
        compare_weights(lora(tmp_path / "a", rank=4)[0], lora(tmp_path / "b", rank=4, use_dora=True)[0])


def test_runs_of_dora_are_compared_but_for_the_distance_of_their_weights(run: Path, other_run: Path) -> None:
    config = json.loads((other_run / "adapter_config.json").read_text())
    (other_run / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    record_files(other_run)
    shown = CliRunner().invoke(app, ["diff", str(run), str(other_run)])
    assert shown.exit_code == 0
    assert "beta" in shown.output
    assert "the weights differ" in shown.output
    assert "identical" not in shown.output.partition("files are identical")[0]


@pytest.mark.parametrize("most", [2**24, 3])
def test_rows_are_told_apart(most: int, tmp_path: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_HASHES", most)
    push(folder=prepared(tmp_path / "a", range(0, 20)), repo=repo_id, version="1.0.0")
    push(folder=prepared(tmp_path / "b", range(6, 31)), repo=repo_id, version="1.1.0")
    found = diff(f"{repo_id}@v1.0.0", f"{repo_id}@v1.1.0")
    assert found.rows == rows.RowChanges(
        pairs_added=11, pairs_removed=6, pairs_kept=14, prompts_added=6, prompts_removed=3, prompts_kept=7
    )
    assert (found.data["split train"].before, found.data["split train"].difference) == (20, 5)
    assert found.files["data/train-00000-of-00001.parquet"].before
    assert found.summary == "train 20 → 25 pairs; other sources"


def test_a_folder_is_what_was_published_from_it(tmp_path: Path, repo_id: str) -> None:
    data = prepared(tmp_path / "a", range(4))
    push(folder=data, repo=repo_id, version="1.0.0")
    found = diff(str(data), f"{repo_id}@v1.0.0")
    assert (found.files, found.rows, found.config, found.summary) == ({}, None, {}, "the same data")


def test_descriptions_that_differ_behind_what_is_shown_are_called_others(tmp_path: Path) -> None:
    raw = tmp_path / "a-name-that-alone-fills-the-line-of-a-summary.jsonl"
    raw.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    for weight in (2, 3):
        source = {"path": str(raw), "weight": weight}
        prepare(sources=[source], output_dir=tmp_path / str(weight), test_size=0)
    assert diff(str(tmp_path / "2"), str(tmp_path / "3")).summary == "train 2 → 3 pairs; other `sources`"


def test_adapters_are_compared_in_options_numbers_and_weights(run: Path, other_run: Path, repo_id: str) -> None:
    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    push(folder=other_run, repo=repo_id, version="2.0.0", check="hashes")
    found = diff(f"{repo_id}@v1.0.0", f"{repo_id}@v2.0.0")
    assert {name: (c.before, c.after) for name, c in found.config.items()} == {"beta": (0.1, 0.3)}
    accuracy = found.metrics["adapter_accuracy"]
    assert accuracy.difference == pytest.approx(0.75 - EvalReport.read(run / EVAL_FILE).adapter_accuracy.value)
    assert accuracy.low is not None and accuracy.high is not None
    assert accuracy.low < accuracy.difference < accuracy.high
    assert found.same_test_data is True
    assert found.weights is not None
    assert found.weights.total.relative == pytest.approx(1)
    assert found.weights.total.cosine == pytest.approx(1)
    assert len(found.weights.modules) == 14
    assert {"adapter_model.safetensors", "README.md", "eval.json", "run.json"} <= set(found.files)
    assert found.lineage == {}


def test_only_what_differs_is_downloaded(hub: Any, run: Path, repo_id: str) -> None:
    push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    hub.server.requests.clear()
    diff(f"{repo_id}@v1.0.0", str(run))
    names = [r.path for r in list(hub.server.requests)]
    assert not [name for name in names if "tokenizer" in name or name.endswith(".png")]


def test_the_interval_of_a_difference_is_newcombes() -> None:
    # Newcombe 1998, table II (a): 56/70 and 48/80, method 10: 0.0524 to 0.3339
    found = Accuracy.of(56, 70).minus(Accuracy.of(48, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_a_dataset_is_not_compared_with_an_adapter(run: Path, dataset_dir: Path) -> None:
    with pytest.raises(ConfigError, match="a dataset, and .* an adapter"):
        diff(str(dataset_dir), str(run))


def test_what_is_no_release_is_told(repo_id: str, dataset_dir: Path, tmp_path: Path) -> None:
    HfApi().create_repo(repo_id)
    with pytest.raises(ArtefactError, match="no release of hubdpo"):
        diff(str(dataset_dir), repo_id)
    with pytest.raises(HubError, match="has no revision `v9.9.9`"):
        diff(str(dataset_dir), f"{repo_id}@v9.9.9")
    with pytest.raises(ArtefactError, match="is no dataset, run or merged model"):
        diff(str(tmp_path), repo_id)


def test_the_command_shows_tables_and_writes_one_object(
    run: Path, other_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.output, "format", console.Format.human)
    shown = CliRunner().invoke(app, ["diff", str(run), str(other_run)])
    assert shown.exit_code == 0
    assert "`beta` 0.1 → 0.3" in shown.stdout
    for words in ("layers.0.self_attn.q_proj", "adapter accuracy", "cosine 1", "files are identical"):
        assert words in shown.stderr
    written = CliRunner().invoke(app, ["diff", str(run), str(other_run), "--json"])
    assert json.loads(written.stdout)["weights"]["total"]["relative"] == pytest.approx(1)


def test_figures_of_other_weights_or_data_are_not_compared(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run, measured on the original weights of its base, and on other data."""
    report = EvalReport.read(run_dir / "eval.json")
    other_data = EvaluatedDataset(name="other", fingerprint="f" * 64)
    assert report.original is not None
    for name, changes in (("weights", {**dict(report.original), "original": None}), ("data", {"dataset": other_data})):
        folder = Path(shutil.copytree(run_dir, tmp_path / name))
        report.model_copy(update=changes).write(folder / "eval.json")
        record_files(folder)
    assert (diff(run_dir, tmp_path / "weights").same_weights, diff(run_dir, tmp_path / "data").same_weights) == (
        False, True,
    )  # fmt: skip
    assert diff(run_dir, tmp_path / "weights").same_test_data is True
    assert diff(run_dir, tmp_path / "data").same_test_data is False
    for name in ("weights", "data"):
        assert "held-out accuracy" not in diff(run_dir, tmp_path / name).summary
    assert "adapter_accuracy, original weights" in diff(run_dir, tmp_path / "data").metrics


def test_a_card_without_results_on_what_its_code_loads_is_said(
    run_dir: Path, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    push(folder=folder, repo=repo_id, version="1.0.0", dry_run=True)
    assert "original weights" not in capsys.readouterr().err
    EvalReport.read(folder / "eval.json").model_copy(update={"original": None}).write(folder / "eval.json")
    record_files(folder)
    push(folder=folder, repo=repo_id, version="1.0.0", dry_run=True)
    assert f"which its code loads; `hubdpo evaluate {folder}` measures them" in capsys.readouterr().err
