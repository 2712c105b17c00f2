"""Hold a second, frozen adapter in a PEFT model: the reference of a run that started from an adapter."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.artefacts.folders.model_files import ADAPTER_WEIGHTS
from hubdpo.errors import ArtefactError
from hubdpo.hub.client import called
from hubdpo.model.quiet import without_chatter
from hubdpo.model.untrusted import next_step, one_line_errors

if TYPE_CHECKING:
    from peft import PeftModel

POLICY, REFERENCE = "default", "ref"
"""PEFT's name for the adapter of a model, and TRL's for the one that its reference pass runs (dpo_trainer.py)."""


def add_reference(model: PeftModel, folder: Path) -> None:
    """Add the adapter of a folder to a model as its reference, frozen and without dropout; PEFT makes it float32."""
    config = copy.copy(model.peft_config[POLICY])
    config.lora_dropout = 0.0
    model.add_adapter(REFERENCE, config)
    for name, weight in model.named_parameters():
        if f".{REFERENCE}." in f"{name}.":
            weight.requires_grad_(False)
    load_weights(model, folder, REFERENCE)


def load_weights(model: PeftModel, folder: Path, name: str) -> None:
    """Replace the weights of an adapter in a model, which keep their type, by those of a folder.

    Raise ArtefactError when the folder lacks one, or has one for which the model has no place.
    """
    was_training = model.training
    with one_line_errors(folder, "the adapter", ArtefactError), without_chatter():
        result = model.load_adapter(str(folder), name, is_trainable=name == POLICY, torch_device=str(model.device))
    model.train(was_training)
    for problem, keys in (
        ("lacks", result.missing_keys),
        ("has, and the base has no place for,", result.unexpected_keys),
    ):
        if keys:
            raise ArtefactError(
                f"{ADAPTER_WEIGHTS} of `{called(folder)}` {problem} {console.counted(len(keys), 'tensor')}, "
                f"`{keys[0]}` first",
                hint=next_step(folder),
            )


@contextmanager
def adapter_active(model: PeftModel, name: str) -> Iterator[None]:
    """Run another adapter of the model in the body, in place of the trained one."""
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(POLICY)
