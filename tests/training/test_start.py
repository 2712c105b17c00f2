"""What needs no weights is refused in seconds, before torch is imported and before anything is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from families import QWEN2_PROJECTIONS

from hubdpo import prepare, train
from hubdpo.artefacts.manifests.manifest import LOCAL_FILE
from hubdpo.config import TrainConfig
from hubdpo.data.load import look_at_dataset
from hubdpo.errors import ArtefactError, ConfigError, HubError, UnsupportedBase
from hubdpo.hub.open import open_snapshot
from hubdpo.model.bases.files import check_base
from hubdpo.model.bases.find import check_targets, look_at_base
from hubdpo.model.bases.tensors import BaseFacts
from hubdpo.model.device import cuda_is_possible
from hubdpo.training.run.output_folder import check_output_folder
from hubdpo.training.start import check_start

COMMANDS = """
import json, sys, time
from hubdpo.cli.app import app
for words in json.loads(sys.argv[1]):
    began = time.monotonic()
    try: app(words)
    except SystemExit as end: code = end.code
    heavy = sorted({'torch', 'transformers', 'datasets', 'trl', 'peft'} & set(sys.modules))
    print(json.dumps([code, time.monotonic() - began, heavy]))
"""


def assert_told_early(mistakes: list[tuple[int, list[str], str]], folder: Path) -> None:
    """Run commands, one after another in one process: each ends with its code, its words and no heavy import."""
    lines = json.dumps([words for _, words, _ in mistakes])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, lines], capture_output=True, text=True, cwd=folder, check=True
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for code, _, _ in ends] == [code for code, _, _ in mistakes], done.stderr
    assert [heavy for _, _, heavy in ends] == [[]] * len(mistakes)
    assert "Traceback" not in done.stderr
    told = " ".join(done.stderr.split())
    for _, _, words in mistakes:
        assert words in told
    assert told.count("hint: ") == len(mistakes)


def options(base: Any, data: Any, out: Path, **more: Any) -> dict[str, Any]:
    return {"model_name_or_path": str(base), "dataset": str(data), "output_dir": out, **more}


def config(base: Any, data: Any, out: Path, **more: Any) -> TrainConfig:
    return TrainConfig.build(options(base, data, out, **more))


@pytest.fixture(scope="module")
def facts(tiny_base: Path) -> BaseFacts:
    return check_base(open_snapshot(str(tiny_base)))


def test_mistakes_are_refused_before_torch_is_imported(tiny_base: Path, dataset_dir: Path, tmp_path: Path) -> None:
    raw = tmp_path / "pairs.jsonl"
    raw.write_text("{}\n")
    (tmp_path / "empty").mkdir()
    cut = Path(shutil.copytree(tiny_base, tmp_path / "cut"))
    (cut / "model.safetensors").write_bytes((tiny_base / "model.safetensors").read_bytes()[:-1])
    good = ["--model-name-or-path", str(tiny_base), "--dataset", str(dataset_dir)]
    mistakes = [
        (2, [*good, "--lr-scheduler-type", "cosin"], "--lr-scheduler-type cosine"),
        (2, [*good, "--lora-target-modules", "c_attn"], "no linear layer `c_attn`"),
        (2, [*good, "--lora-target-modules", "lm_head", "--dry-run"], "lm_head"),
        (2, [*good, "--checkpoint-layers", "3"], "more than the 2 layers"),
        (2, [*good, "--device", "cuda"], "no CUDA device"),
        (3, ["--model-name-or-path", str(tiny_base), "--dataset", "nodata"], "hubdpo prepare pairs.jsonl -o nodata"),
        (3, ["--model-name-or-path", str(tiny_base), "--dataset", str(raw)], f"hubdpo prepare {raw} -o data"),
        (2, ["--model-name-or-path", str(cut), "--dataset", str(dataset_dir)], "truncated"),
        (2, ["--model-name-or-path", "nowhere", "--dataset", str(dataset_dir)], "base model not found"),
        (4, ["--model-name-or-path", "alice/nothing", "--dataset", str(dataset_dir)], "there is no folder `alice/n"),
        (4, ["--model-name-or-path", str(tiny_base), "--dataset", "mistyped/d"], "there is no folder `mistyped/d`"),
        (3, ["--model-name-or-path", str(tiny_base), "--dataset", "empty"], "hubdpo prepare pairs.jsonl -o data"),
    ]
    if cuda_is_possible():
        mistakes = [mistake for mistake in mistakes if "cuda" not in mistake[1]]
    began = time.monotonic()
    assert_told_early(
        [(code, ["train", "-o", str(tmp_path / "run"), *words], said) for code, words, said in mistakes], tmp_path
    )
    assert not (tmp_path / "run").exists()
    assert time.monotonic() - began < 3 * len(mistakes)


def test_the_output_folder_is_checked_before_torch_is_imported(
    tiny_base: Path, dataset_dir: Path, run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    (tmp_path / "blocked").touch()
    (tmp_path / "empty").mkdir()
    train = ["train", "--model-name-or-path", str(tiny_base), "--dataset", str(dataset_dir), "-o"]
    mistakes = [
        (2, [*train, "other"], "`other` holds files that are not a run"),
        (2, [*train, "other", "--dry-run"], "`other` holds files that are not a run"),
        (2, [*train, str(run_dir), "--dry-run"], "holds a finished run"),
        (2, [*train, "blocked/run"], "is a file, not a folder"),
        (2, [*train, "run", "--extend"], "there is no run in `run` to extend"),
        (2, [*train, "rum", "--resume"], "there is no run in `rum` to resume"),
        (2, [*train, "empty", "--resume"], "there is no run in `empty` to resume"),
    ]
    assert_told_early(mistakes, tmp_path)


def test_a_run_that_saved_nothing_starts_again_with_one_message(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = options(tiny_base, dataset_dir, tmp_path / "run", max_steps=1, max_length=64, load_in_4bit=False)
    train(**chosen).model_copy(update={"status": "running"}).write(tmp_path / "run" / "run.json")
    shutil.rmtree(tmp_path / "run" / "checkpoint-1")
    capsys.readouterr()
    train(**chosen)
    assert capsys.readouterr().err.count("it starts again") == 1


@pytest.mark.parametrize("way", ["resume", "extend"])
def test_a_dry_run_with_resume_needs_no_run(tmp_path: Path, way: str) -> None:
    assert check_output_folder(config("base", "data", tmp_path / "run", dry_run=True, **{way: True})) is None


def test_what_cannot_be_evaluated_is_refused_before_torch_is_imported(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "moved")
    (tmp_path / "moved" / LOCAL_FILE).unlink()
    (tmp_path / "all.jsonl").write_text('{"prompt": "p", "chosen": "good", "rejected": "bad"}\n')
    prepare(source=[str(tmp_path / "all.jsonl")], output_dir=str(tmp_path / "all"), test_size=0)
    mistakes = [
        (3, ["evaluate", "nowhere"], "nowhere"),
        (3, ["evaluate", "all"], "`all` is a dataset, not a run"),
        (3, ["evaluate", "."], "`.` is not a run folder"),
        (3, ["evaluate", str(run_dir), "--dataset", "moved"], "`moved` is a run, not a dataset"),
        (3, ["inspect", "all.jsonl"], "`all.jsonl` is a file, not a folder"),
        (2, ["evaluate", "moved"], "is gone"),
        (2, ["evaluate", "moved", "--dataset", "all", "--against", "moved"], "is the adapter that is evaluated"),
        (4, ["evaluate", "moved", "--dataset", "mistyped/all"], "there is no folder `mistyped/all` here"),
    ]
    assert_told_early(mistakes, tmp_path)


@pytest.mark.parametrize(
    ("targets", "message", "hint"),
    [
        (["c_attn"], "no linear layer `c_attn`", "--lora-target-modules all-linear"),
        (["q_prj"], "no linear layer `q_prj`", "--lora-target-modules q_proj"),
        (["all"], "no linear layer `all`", "--lora-target-modules all-linear"),
        (["q_proj,v_proj"], "no linear layer", "--lora-target-modules q_proj --lora-target-modules v_proj"),
        (["self_attn"], "no linear layer `self_attn`", "all-linear"),
        (["input_layernorm"], "no linear layer `input_layernorm`", "all-linear"),
        (["proj"], "no linear layer `proj`", "--lora-target-modules v_proj"),
        ([".*_proj"], "no linear layer", "all-linear"),
        (["q_proj", "lm_head"], "never be trained", "--lora-target-modules q_proj"),
        (["q_proj", "embed_tokens"], "is its output head as well", "--lora-target-modules q_proj"),
    ],
)
def test_layers_that_the_base_does_not_have_are_refused_with_those_it_has(
    facts: BaseFacts, targets: list[str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_targets(targets, facts)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "targets", [["all-linear"], list(QWEN2_PROJECTIONS), ["self_attn.q_proj"], ["model.layers.0.mlp.up_proj"]]
)
def test_target_modules_are_matched_as_in_peft(facts: BaseFacts, targets: list[str]) -> None:
    check_targets(targets, facts)


def test_an_embedding_of_its_own_may_have_an_adapter(facts: BaseFacts) -> None:
    check_targets(["embed_tokens"], BaseFacts(facts.name, {"tie_word_embeddings": False}, facts.linear_layers))


def test_all_linear_is_what_peft_makes_of_it(tiny_base: Path, facts: BaseFacts) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from hubdpo.training.step.adapters import adapter_config

    def adapted(made: LoraConfig) -> set[str]:
        return {name for name, _ in get_peft_model(model(), made).named_parameters() if "lora_" in name}

    def model() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_base)

    asked = config("a/b", "data", Path("run"), lora_target_modules=["all-linear"])
    made = adapter_config(asked, model(), None)
    assert made.target_modules == set(QWEN2_PROJECTIONS)
    assert adapted(made) == adapted(LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert {layer.rpartition(".")[2] for layer in facts.linear_layers} == set(QWEN2_PROJECTIONS)


def test_a_base_on_the_hub_is_looked_at_without_its_weights(
    tiny_base: Path, tmp_path: Path, repo_id: str, fresh_cache: Path
) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=tiny_base)
    look_at_base(config(repo_id, "data", tmp_path / "run"))
    with pytest.raises(ConfigError, match="no linear layer `c_attn`"):
        look_at_base(config(repo_id, "data", tmp_path / "run", lora_target_modules=["c_attn"]))
    assert not list(fresh_cache.rglob("*.safetensors"))


@pytest.mark.parametrize("broken", ["pickle", "pointer", "quantised"])
def test_a_base_on_the_hub_that_cannot_be_trained_on_is_refused_without_its_weights(
    tiny_base: Path, tmp_path: Path, repo_id: str, fresh_cache: Path, broken: str
) -> None:
    from huggingface_hub import HfApi

    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    if broken == "pickle":
        (base / "model.safetensors").rename(base / "pytorch_model.bin")
    elif broken == "pointer":
        (base / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        settings = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**settings, "quantization_config": {"quant_method": "gptq"}}))
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=base)
    with pytest.raises(UnsupportedBase, match=repo_id) as caught:
        look_at_base(config(repo_id, "data", tmp_path / "run"))
    assert caught.value.hint
    assert not [path for kind in ("*.safetensors", "*.bin") for path in fresh_cache.rglob(kind)]


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub's files, in this process."""
    place = tmp_path / f"cache-{uuid.uuid4().hex}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    return place


def test_raw_data_gets_the_prepare_command_as_hint(tmp_path: Path) -> None:
    raw = tmp_path / "pairs.csv"
    raw.write_text("prompt,chosen,rejected\n")
    for ref, state in ((str(raw), "is raw data"), ("missing.jsonl.gz", "is not there")):
        with pytest.raises(ArtefactError, match=state) as caught:
            look_at_dataset(ref)
        assert (caught.value.hint or "").startswith(f"hubdpo prepare {ref} -o data")


def test_a_folder_of_raw_data_gets_the_prepare_command_as_hint(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ArtefactError, match="was not made by `hubdpo prepare`") as caught:
        look_at_dataset(str(tmp_path))
    assert f"hubdpo prepare {tmp_path} -o data" in (caught.value.hint or "")


def test_an_unprepared_hub_dataset_gets_the_prepare_command_as_hint(repo_id: str) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(repo_id, repo_type="dataset")
    with pytest.raises(ArtefactError, match="was not made by `hubdpo prepare`") as caught:
        look_at_dataset(repo_id)
    assert f"hubdpo prepare hf://datasets/{repo_id} -o data" in (caught.value.hint or "")
    with pytest.raises(HubError, match="alice/nothing"):
        look_at_dataset("alice/nothing")


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
def test_a_schedule_that_follows_the_test_split_needs_one(tiny_base: Path, tmp_path: Path, schedule: str) -> None:
    from hubdpo import prepare

    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(f'{{"prompt": "p{i}", "chosen": "good {i}", "rejected": "bad"}}\n' for i in range(8)))
    prepare(source=[str(raw)], output_dir=tmp_path / "data", test_size=0)
    with pytest.raises(ConfigError, match=f"`{schedule}` follows the loss on a test split"):
        check_start(config(tiny_base, tmp_path / "data", tmp_path / "run", lr_scheduler_type=schedule))


def test_no_driver_or_no_build_for_it_leaves_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        assert not cuda_is_possible()
    if torch.cuda.is_available():
        assert cuda_is_possible()
