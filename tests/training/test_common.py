"""Runs that share a base and its preparation end as they would alone, and leave the base as it was loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import TrainingError
from hubdpo.model.bases.as_loaded import AsLoaded
from hubdpo.model.bases.load import load_base
from hubdpo.training.common import Common
from hubdpo.training.start import check_start, run_in
from hubdpo.training.step.trainer import Measured

OPTIONS = {
    "max_steps": 3, "max_length": 128, "learning_rate": 1e-3, "gradient_accumulation_steps": 1, "save_steps": 2,
    "eval_steps": 2, "reference": "cached",
}  # fmt: skip
KINDS: tuple[dict[str, Any], ...] = (
    {"beta": 0.5, "lora_r": 4, "checkpoint_layers": 1},
    {"use_dora": True, "lora_dropout": 0.1, "seed": 7},
    {"loss_type": ["simpo"], "beta": 2.0, "reference": "online", "lora_target_modules": ["q_proj", "v_proj"]},
    {"shared_prefix": False, "use_rslora": True},
)
"""Options of one run after another, which wrap and patch the base in different ways."""


def seen(model: torch.nn.Module) -> list[Any]:
    """What a model is made of: its classes, forward passes, hooks, flags, configs, and the bits of its tensors."""
    modules = [
        (name, type(part), vars(part).get("forward"), len(part._forward_hooks), len(part._forward_pre_hooks),
         set(vars(part)), part.training, getattr(part, "gradient_checkpointing", None))
        for name, part in model.named_modules()
    ]  # fmt: skip
    weights = [
        (name, weight.dtype, weight.requires_grad, weight.grad, weight.detach().cpu().contiguous().view(torch.uint8))
        for name, weight in [*model.named_parameters(), *model.named_buffers()]
    ]
    told = [(*rest, bits.numpy().tobytes()) for *rest, bits in weights]
    return [modules, told, model.config.to_dict(), model.generation_config.to_dict(), model.config._attn_implementation]


@pytest.mark.parametrize("nf4", [False, True], ids=["float32", "NF4"])
def test_runs_on_one_base_end_as_they_would_alone(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nf4: bool
) -> None:
    common = Common()
    places = {"model_name_or_path": str(tiny_base), "dataset": str(dataset_dir), "load_in_4bit": nf4}
    before = None
    for number, kind in enumerate(KINDS if not nf4 else KINDS[:1]):
        options = {**OPTIONS, **places, **kind}
        monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "together"))
        config = TrainConfig.build({**options, "output_dir": tmp_path / f"{number}"})
        run_in(config, common, check_start)
        common.put_back()
        model = common.base(config, "cpu")
        before = before or seen(load_base(tiny_base, device="cpu", load_in_4bit=nf4))
        assert seen(model) == before
        monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / f"alone-{number}"))
        train(**options, output_dir=tmp_path / f"{number}-alone")
        assert_same_run(tmp_path / f"{number}", tmp_path / f"{number}-alone")


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("adapter_model.safetensors", "adapter_config.json", "eval.json", "probes.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    clocks = {"seconds", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
    clocks |= {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    logs = [
        [{key: value for key, value in json.loads(line).items() if key not in clocks} for line in text.splitlines()]
        for text in ((folder / "metrics.jsonl").read_text() for folder in (one, other))
    ]
    assert logs[0] == logs[1]
    facts = {"metrics", "train_seconds", "tokens_per_second", "peak_memory_bytes", "files", "selection"}
    runs = [RunManifest.read(folder / "run.json").model_dump(exclude=facts) for folder in (one, other)]
    assert runs[0] == runs[1]


def test_a_run_that_fails_leaves_the_base_as_it_was(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = Common()
    options = {**OPTIONS, "model_name_or_path": str(tiny_base), "dataset": str(dataset_dir), "load_in_4bit": False}
    config = TrainConfig.build({**options, "output_dir": tmp_path / "run", "reference": "online"})

    def failing(*args: object) -> None:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr("hubdpo.training.train.choose_forward", failing)
    with pytest.raises(TrainingError, match="nan"):
        run_in(config, common, check_start)
    common.put_back()
    assert seen(common.base(config, "cpu")) == seen(load_base(tiny_base, device="cpu", load_in_4bit=False))


def test_what_a_base_was_loaded_with_is_put_back(tiny_base: Path) -> None:
    model = load_base(tiny_base, device="cpu", load_in_4bit=False)
    before, loaded = seen(model), AsLoaded(model)
    model.model.norm.forward = lambda states: states
    model.model.register_forward_hook(lambda *args: None)
    model.model.layers.append(torch.nn.Identity())
    model.config.use_cache = not model.config.use_cache
    model.generation_config.eos_token_id = [1, 2]
    model.lm_head.weight.requires_grad_(False)
    model.eval() if model.training else model.train()
    assert seen(model) != before
    loaded.put_back()
    assert seen(model) == before


@pytest.mark.parametrize(
    ("other", "again"), [({"beta": 0.5, "learning_rate": 1e-4}, False), ({"lora_r": 4}, True)], ids=str
)
def test_the_preflight_runs_once_for_steps_of_the_same_memory(
    tiny_base: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Any, again: bool
) -> None:
    ran: list[int] = []
    monkeypatch.setattr(
        "hubdpo.training.train.preflight", lambda *args, **_: ran.append(1) or Measured(None, None, None)
    )
    common, places = Common(), {"model_name_or_path": str(tiny_base), "dataset": str(dataset_dir), "dry_run": True}
    for number, options in enumerate(({}, other)):
        run_in(
            TrainConfig.build({**OPTIONS, **places, **options, "output_dir": tmp_path / f"{number}"}),
            common,
            check_start,
        )
        common.put_back()
    assert len(ran) == 1 + again
