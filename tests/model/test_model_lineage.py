"""Training on from a merge: what it was made of stays known, and nothing of it is rounded away unseen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file, save_file

from hubdpo import push, train, verify
from hubdpo.artefacts.folders.lineage import check_not_rounded_away
from hubdpo.artefacts.manifests.run import AdapterRef, Ancestor, BaseRef, RunManifest
from hubdpo.errors import ArtefactError, ConfigError, UnsupportedBase
from hubdpo.model.merge.merge import merge
from hubdpo.release.diff.diff import diff
from tests.release.made import record_files

SHORT = {"max_steps": 1, "max_length": 64, "gradient_accumulation_steps": 1, "per_device_train_batch_size": 1}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, run_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("lineage") / "merged"
    merge(adapter=str(run_dir), output_dir=folder, dtype="float32")
    return folder


@pytest.fixture
def foreign(run_dir: Path, tmp_path: Path) -> Path:
    """An adapter as another tool leaves it, with a config.json beside it, as some do."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(run_dir / name, folder / name)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    return folder


def test_a_merge_into_dequantised_weights_is_not_made_nf4_again(
    merged: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="would lose most of that adapter") as caught:
        train(model_name_or_path=str(merged), dataset=str(dataset_dir), output_dir=tmp_path / "run")
    assert caught.value.hint == "--no-load-in-4bit"
    assert list(tmp_path.iterdir()) == []


def test_all_adapters_are_named_that_nf4_would_round_away() -> None:
    other = AdapterRef(name="me/two", sha256="0" * 64)
    merge = Ancestor(adapter="me/one", base="me/base", dequantised=True, others=[other], weights=[0.5, 0.5])
    with pytest.raises(ConfigError, match="with the adapters me/one and me/two merged in; .* most of those adapters"):
        check_not_rounded_away(BaseRef(name="m", made_by=[merge]), load_in_4bit=True)


@pytest.mark.slow
def test_the_chain_of_merges_is_kept_in_the_run_and_its_card(
    merged: Path,
    dataset_dir: Path,
    repo_id: str,
    tiny_base_repo: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = Path(shutil.copytree(merged, tmp_path / "merged"))
    release = push(folder=mine, repo=repo_id, version="1.0.0", check="hashes")
    folder = tmp_path / "run"
    options = {**SHORT, "load_in_4bit": False, "model_revision": release.tag}
    train(model_name_or_path=repo_id, dataset=str(dataset_dir), output_dir=folder, **options)
    (made,) = RunManifest.read(folder / "run.json").base.made_by
    assert (made.base, made.dequantised) == (tiny_base_repo, True)

    weights = load_file(folder / "adapter_model.safetensors")  # one step at rate 0 leaves lora_B as it was
    save_file({name: value + 1e-3 for name, value in weights.items()}, folder / "adapter_model.safetensors")
    record_files(folder)
    capsys.readouterr()
    push(folder=folder, repo=f"{repo_id}-next", version="1.0.0", check="hashes")
    card = ModelCard.load(f"{repo_id}-next").text
    history = f"`{made.adapter}` merged into `{tiny_base_repo}` at `{made.base_revision}` (NF4, "
    assert f"| base model history | {history}" in card
    assert "has moved on" not in capsys.readouterr().err

    HfApi().upload_file(repo_id=repo_id, path_in_repo="README.md", path_or_fileobj=b"---\nlicense: apache-2.0\n---\n")
    state = verify(f"{repo_id}-next@v1.0.0", check="hashes").base
    assert state is not None and (state.main != state.revision, state.moved) == (True, False)
    HfApi().upload_file(repo_id=repo_id, path_in_repo="generation_config.json", path_or_fileobj=b"{}")
    state = verify(f"{repo_id}-next@v1.0.0", check="hashes").base
    assert state is not None and state.moved


def test_quantising_such_a_merge_again_does_lose_the_adapter(merged: Path, tiny_base: Path, run_dir: Path) -> None:
    """What the refusal says, measured: as NF4 the merge is the base that the adapter was trained on."""
    from hubdpo.model.adapters.load import load_on_base
    from hubdpo.model.bases.load import load_base

    ids = torch.arange(40)[None]

    def logits(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(input_ids=ids).logits.log_softmax(-1)

    adapter, _ = load_on_base(run_dir, tiny_base, device="cpu", load_in_4bit=True)
    wanted = logits(adapter)
    with adapter.disable_adapter():
        before = logits(adapter)
    again = logits(load_base(merged, device="cpu", load_in_4bit=True))
    effect, kept = (wanted - before).flatten(), (again - before).flatten()
    assert torch.dot(kept, effect) / torch.dot(effect, effect) < 0.5


def test_an_adapter_is_no_base(foreign: Path, dataset_dir: Path, tmp_path: Path, repo_id: str) -> None:
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=foreign)
    for name in (str(foreign), repo_id):
        with pytest.raises(UnsupportedBase, match="is an adapter of .*, not a base model"):
            train(model_name_or_path=name, dataset=str(dataset_dir), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_adapter_of_another_tool_is_called_that(foreign: Path, run_dir: Path, tmp_path: Path) -> None:
    asks = [
        lambda: push(folder=foreign, repo="alice/foreign", version="0.1.0"),
        lambda: merge(adapter=str(foreign), output_dir=tmp_path / "m"),
        lambda: diff(str(foreign), str(run_dir)),
    ]
    for ask in asks:
        with pytest.raises(ArtefactError, match="is an adapter of another tool"):
            ask()


def test_a_merge_json_of_another_tool_says_nothing(tiny_base: Path, tmp_path: Path) -> None:
    from hubdpo.artefacts.folders.lineage import ancestors

    (tmp_path / "merge.json").write_text(json.dumps({"method": "ties"}))
    assert ancestors(tmp_path) == ancestors(tiny_base) == []
