"""The run folder: what may be started in it, what is resumed from it, and what is left in it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from hubdpo import console
from hubdpo.cards.licences import LICENCE_FILES
from hubdpo.config import TrainConfig
from hubdpo.config.train import Role
from hubdpo.errors import ConfigError, ResumeMismatch
from hubdpo.hub.adapter_config import canonical_adapter_config
from hubdpo.manifest import LOCAL_FILE, RUN_FILE, BaseRef, DatasetRef, RunManifest, canonical_json, write_atomic
from hubdpo.training.base import Base
from hubdpo.training.model import TOKENIZER_FILES

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")


def published_config(config: TrainConfig) -> dict[str, Any]:
    """Return the options that make the run what it is, without a path of this machine."""
    return config.model_dump(mode="json", exclude=set(TrainConfig.names(Role.COMMAND)))


def check_before_start(config: TrainConfig) -> RunManifest | None:
    """Return the earlier run of this folder, or None when it is free.

    Raise ConfigError when a run is there and `--resume` is not given, or the folder holds other files.
    """
    folder = config.output_dir
    if not folder.exists() or not any(folder.iterdir()):
        return None
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are no run", hint="give another `--output-dir`")
    earlier = RunManifest.read(folder / RUN_FILE)
    if not config.resume:
        state = "a finished run" if earlier.status == "complete" else "an unfinished run"
        raise ConfigError(f"`{folder}` holds {state}", hint="add `--resume`, or give another `--output-dir`")
    return earlier


def with_measured_of(earlier: RunManifest, config: TrainConfig) -> TrainConfig:
    """Return the config with the numbers that `auto` took in the earlier run: memory may be another now."""
    taken = {
        name: earlier.config[name]
        for name in ("tokens_per_batch", "checkpoint_layers")
        if getattr(config, name) == "auto" and isinstance(earlier.config.get(name), int)
    }
    return config.model_copy(update=taken)


def check_same_experiment(earlier: RunManifest, config: TrainConfig, base: BaseRef, dataset: DatasetRef) -> None:
    """Raise ResumeMismatch, after a table of the differences, when a resumed run would not be the same run."""
    before = {**earlier.config, "base": earlier.base.name, "base revision": earlier.base.revision}
    before["dataset fingerprint"] = earlier.dataset.fingerprint
    now = {**published_config(config), "base": base.name, "base revision": base.revision}
    now["dataset fingerprint"] = dataset.fingerprint
    differences = [
        (key, before.get(key), now.get(key)) for key in sorted({*before, *now}) if before.get(key) != now.get(key)
    ]
    if differences:
        console.table(["option", "the run has", "now"], differences)
        names = ", ".join(key for key, _, _ in differences)
        raise ResumeMismatch(
            f"the run in `{config.output_dir}` was started with another configuration: {names}",
            hint="give the same options as before, or another `--output-dir`",
        )


def remember_places(config: TrainConfig) -> None:
    """Note where base and dataset are on this machine; the file stays here."""
    places = {
        name: str(Path(value).resolve()) if Path(value).exists() else value
        for name, value in (("model_name_or_path", config.model_name_or_path), ("dataset", config.dataset))
    }
    write_atomic(config.output_dir / LOCAL_FILE, canonical_json(places))


def remembered_place(folder: Path, name: str) -> str | None:
    """Return where `dataset` or `model_name_or_path` was when the run was made, or None when it is not known."""
    try:
        return json.loads((folder / LOCAL_FILE).read_text(encoding="utf-8")).get(name)
    except FileNotFoundError:
        return None


def whole_adapter(model: Any) -> dict[str, torch.Tensor]:
    """Return the trained weights, put together where FSDP shards them; every process must call it."""
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def save_adapter(model: Any, weights: dict[str, torch.Tensor], base: Base, folder: Path) -> None:
    """Write the adapter, its canonical config, and what goes along from the base."""
    with TemporaryDirectory(dir=folder, prefix=".adapter-") as scratch:
        # without the flag PEFT asks the Hub whether the vocabulary was resized
        model.save_pretrained(scratch, state_dict=weights, safe_serialization=True, save_embedding_layers=False)
        raw = json.loads((Path(scratch) / "adapter_config.json").read_text(encoding="utf-8"))
        file = Path(scratch) / "adapter_model.safetensors"
        file.chmod(0o644)
        file.replace(folder / file.name)
    write_atomic(folder / "adapter_config.json", canonical_json(canonical_adapter_config(raw, base.ref)))
    copy_base_files(base, folder)


def copy_base_files(base: Base, folder: Path) -> None:
    """Copy the base's tokenizer unchanged, and its licence where that is one of its own."""
    for name in (*TOKENIZER_FILES, *(LICENCE_FILES if base.ref.license == "other" else ())):
        if (base.folder / name).exists():
            shutil.copyfile(base.folder / name, folder / name)


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
