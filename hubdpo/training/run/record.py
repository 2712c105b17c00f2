"""The run folder: what a run writes down of itself, and the adapter that it leaves."""

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

from hubdpo.artefacts.folders.kinds import COPIED_FILES
from hubdpo.artefacts.manifests.manifest import canonical_json, write_atomic
from hubdpo.cards.licences import LICENCE_FILES
from hubdpo.config import TrainConfig
from hubdpo.config.train import Role
from hubdpo.model.adapters.config import canonical_adapter_config
from hubdpo.model.bases.find import Base
from hubdpo.training.run.output_folder import SCRATCH

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")


def published_config(config: TrainConfig) -> dict[str, Any]:
    """Return the options that make the run what it is, without a path of this machine."""
    return config.model_dump(mode="json", exclude=set(TrainConfig.names(Role.COMMAND)))


def whole_adapter(model: Any) -> dict[str, torch.Tensor]:
    """Return the trained weights, put together where FSDP shards them; every process must call it."""
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def save_adapter(model: Any, weights: dict[str, torch.Tensor], base: Base, folder: Path) -> None:
    """Write the adapter, its canonical config, and what goes along from the base."""
    with TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        # without the flag PEFT asks the Hub whether the vocabulary was resized
        model.save_pretrained(scratch, state_dict=weights, safe_serialization=True, save_embedding_layers=False)
        raw = json.loads((Path(scratch) / "adapter_config.json").read_text(encoding="utf-8"))
        file = Path(scratch) / "adapter_model.safetensors"
        # safetensors lets nobody else read what it writes; PEFT wrote the other file as the umask has it
        file.chmod((Path(scratch) / "adapter_config.json").stat().st_mode)
        file.replace(folder / file.name)
    write_atomic(folder / "adapter_config.json", canonical_json(canonical_adapter_config(raw, base.ref)))
    copy_base_files(base, folder)


def copy_base_files(base: Base, folder: Path) -> None:
    """Copy the base's tokenizer unchanged, and its licence where that is one of its own."""
    for name in (*COPIED_FILES, *(LICENCE_FILES if base.ref.license == "other" else ())):
        if (base.folder / name).exists():
            shutil.copyfile(base.folder / name, folder / name)


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
