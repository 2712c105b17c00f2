"""Write `adapter_config.json` in one canonical form that older versions of PEFT read as well."""

from __future__ import annotations

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.manifests.run import BaseRef

KEPT = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "r", "lora_alpha",
    "lora_dropout", "bias", "target_modules",
}  # fmt: skip
"""Keys that describe the adapter, written even when they are at PEFT's default."""
WRITER = "peft_version"
"""The version of PEFT that wrote the file. `run.json` has it too, and PEFT before 0.18 does not know the key."""


def canonical_adapter_config(raw: JsonObject, base: BaseRef) -> JsonObject:
    """Return PEFT's config sorted, with the base's Hub id and commit, and without the keys at their default.

    PEFT keeps target modules in a set, whose order changes between processes, and writes the local path of the base. It
    also writes every key that it knows, and PEFT before 0.15 fails at a key that it does not know.
    """
    from peft import LoraConfig

    defaults = LoraConfig().to_dict() if raw.get("peft_type") == "LORA" else {}
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
