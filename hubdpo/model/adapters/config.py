"""`adapter_config.json` in one form for one run, which older versions of PEFT read as well."""

from __future__ import annotations

from typing import Any

from hubdpo.artefacts.manifests.run import BaseRef

KEPT = frozenset(
    {
        "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "r", "lora_alpha",
        "lora_dropout", "bias", "target_modules",
    }
)  # fmt: skip
"""What says which adapter this is, told even where it stands at PEFT's default."""
WRITER = "peft_version"
"""Of the PEFT that wrote the file; `run.json` tells it, and PEFT before 0.18 takes no such key."""


def canonical_adapter_config(raw: dict[str, Any], base: BaseRef) -> dict[str, Any]:
    """Return PEFT's config in one form for one run: sorted, with the base's Hub id and commit and no local path.

    PEFT keeps target modules in a set, whose order changes from process to process, and writes the path that the base
    was loaded from. It writes every key that it knows, too, and versions before 0.15 fail at one that they do not know:
    so what stands at its default is left out.
    """
    defaults = _defaults() if raw.get("peft_type") == "LORA" else {}
    config = {
        name: value
        for name, value in raw.items()
        if name != WRITER and (name in KEPT or name not in defaults or defaults[name] != value)
    }
    config["base_model_name_or_path"] = base.repo_id or base.name
    config["revision"] = base.revision
    config["inference_mode"] = True
    if isinstance(modules := config.get("target_modules"), (list, set, tuple)):
        config["target_modules"] = sorted(modules)
    return dict(sorted(config.items()))


def _defaults() -> dict[str, Any]:
    from peft import LoraConfig

    return dict(LoraConfig().to_dict())
