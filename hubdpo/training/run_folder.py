"""The run folder: what may be started in it, what is resumed from it, and what is left in it."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from hubdpo import console
from hubdpo.cards.licences import LICENCE_FILES
from hubdpo.config import TrainConfig
from hubdpo.config.train import Role
from hubdpo.errors import ConfigError
from hubdpo.hub.adapter_config import canonical_adapter_config
from hubdpo.manifest import LOCAL_FILE, RUN_FILE, RunManifest, canonical_json, write_atomic
from hubdpo.training.base import Base
from hubdpo.training.callbacks import MARKER, newest_checkpoint
from hubdpo.training.model import TOKENIZER_FILES

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")


def published_config(config: TrainConfig) -> dict[str, Any]:
    """Return the options that make the run what it is, without a path of this machine."""
    return config.model_dump(mode="json", exclude=set(TrainConfig.names(Role.COMMAND)))


def check_before_start(config: TrainConfig) -> RunManifest | None:
    """Return the run of this folder that is gone on with, or None when the folder is free.

    It is free, too, with a run that has not saved anything yet. Raise ConfigError when a run is there and is not to be
    gone on with, when there is none to extend, or when the folder holds other files.
    """
    folder = config.output_dir
    _check_place(folder)
    if not folder.exists() or not any(folder.iterdir()):
        if config.extend:
            raise ConfigError(f"there is no run in `{folder}` to extend", hint="leave `--extend` out to start one")
        return None
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are no run", hint="give another `--output-dir`")
    earlier, checkpoint = RunManifest.read(folder / RUN_FILE), newest_checkpoint(folder)
    if earlier.status == "running" and checkpoint is None:
        console.info(f"{folder} holds a run that had not saved anything yet; it starts anew")
        return None
    if not config.goes_on:
        if checkpoint is None or earlier.status == "complete":
            state, way = "a finished run", "add `--extend` and a higher `--max-steps`"
        else:
            state, way = f"an unfinished run, saved at step {checkpoint[1]:,}", "add `--resume`"
        raise ConfigError(f"`{folder}` holds {state}", hint=f"{way}, or give another `--output-dir`")
    return earlier


def _check_place(folder: Path) -> None:
    """Raise ConfigError when no folder can be made here, which would only show once the model is loaded."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise ConfigError(f"`{place}` is a file, not a folder", hint="give another `--output-dir`")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"nothing can be written in `{place}`", hint="give another `--output-dir`")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the folder meanwhile; the lock ends with this process, however it ends.

    Raise ConfigError when another one trains there.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process is training in `{folder}`", hint="wait for it, or give another `--output-dir`"
            ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def nothing_left_of(folder: Path) -> Iterator[None]:
    """Take away again, when what follows fails, what libraries made of the folder and its parents, if that is empty."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in missing:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        raise


def drop_partial_checkpoints(folder: Path) -> None:
    """Delete checkpoints of this run that a kill cut short: transformers would count them among those to keep."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / MARKER).exists():
            shutil.rmtree(checkpoint)


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
