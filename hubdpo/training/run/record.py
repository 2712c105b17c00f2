"""What a run folder records: the options of the run, and the adapter that it trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch.distributed.tensor import DTensor

from hubdpo.artefacts.folders.model_files import COPIED_FILES
from hubdpo.artefacts.manifests.manifest import canonical_json, write_atomic
from hubdpo.cards.licences import LICENCE_FILES
from hubdpo.config import TrainConfig
from hubdpo.config.train import Role
from hubdpo.model.adapters.config import canonical_adapter_config
from hubdpo.model.bases.find import Base
from hubdpo.training.run.output_folder import SCRATCH

Options = dict[str, Any]
"""Options by name, as run.json holds them."""


def published_config(config: TrainConfig) -> Options:
    """Return the options that make the run what it is; none of them is a path of this machine."""
    return config.model_dump(mode="json", exclude=set(TrainConfig.names(Role.COMMAND)))


def gather_adapter(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return the trained weights, whole where FSDP shards them; every process must call it."""
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def save_adapter(model: PeftModel, weights: dict[str, torch.Tensor], base: Base, folder: Path) -> None:
    """Write the adapter, its canonical config, and the tokenizer and licence files of the base."""
    with TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        # with `save_embedding_layers` left at its default PEFT asks the Hub whether the vocabulary was resized
        model.save_pretrained(scratch, state_dict=weights, safe_serialization=True, save_embedding_layers=False)
        config_file, weights_file = Path(scratch) / "adapter_config.json", Path(scratch) / "adapter_model.safetensors"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        # safetensors writes files that only their owner may read; PEFT's other file follows the umask
        weights_file.chmod(config_file.stat().st_mode)
        weights_file.replace(folder / weights_file.name)
    write_atomic(folder / "adapter_config.json", canonical_json(canonical_adapter_config(config, base.ref)))
    copy_base_files(base, folder)


def copy_base_files(base: Base, folder: Path) -> None:
    """Copy the base's tokenizer files unchanged, and its licence text when the licence is `other`."""
    for name in (*COPIED_FILES, *(LICENCE_FILES if base.ref.license == "other" else ())):
        if (base.folder / name).exists():
            shutil.copyfile(base.folder / name, folder / name)
