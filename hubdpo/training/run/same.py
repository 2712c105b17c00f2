"""Which options a run's weights depend on, and which of them differ from those that a run was started with.

Imports no torch.
"""

from __future__ import annotations

from typing import Any

from hubdpo.artefacts.manifests.run import FROM_ADAPTER, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.flags import Options
from hubdpo.config.objective import WHOLE_BATCH_LOSSES
from hubdpo.config.roles import Role
from hubdpo.config.schedules import BY_EVALUATION

LENGTH = frozenset({"max_steps", "num_train_epochs"})
"""Options that `--extend` may change; `num_train_epochs` counts when `max_steps` is -1."""
SETTLED_LATER = frozenset({"lora_target_modules", "chat_template", *FROM_ADAPTER})
"""Options that stand for others until the base and the adapter to start from are known."""


def whole_options(config: Options) -> Options:
    """Return recorded options; options newer than the run get their default, and `pairs per step` is computed."""
    fields = {name: TrainConfig.model_fields[name] for name in TrainConfig.names(Role.WEIGHTS, Role.MANNER)}
    options: dict[str, Any] = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    options |= config
    options["pairs per step"] = options["per_device_train_batch_size"] * options["gradient_accumulation_steps"]
    return options


def options_of_weights(config: TrainConfig) -> set[str]:
    """Return the options that this run's weights depend on."""
    names = {*TrainConfig.names(Role.WEIGHTS), "pairs per step"}
    if WHOLE_BATCH_LOSSES & set(config.loss_type):
        names.add("per_device_train_batch_size")
    if config.lr_scheduler_type in BY_EVALUATION:
        names |= {"eval_steps", "max_eval_pairs"}
    if config.chooses:
        names |= {"eval_steps", "max_eval_pairs", "save_steps"}
    return names


def options_that_differ(earlier: RunManifest, config: TrainConfig) -> list[str]:
    """Return the options of another value than the run has, as far as they are known before anything is loaded."""
    before, now = whole_options(earlier.config), whole_options(config.model_dump(mode="json"))
    return sorted(name for name in options_of_weights(config) - SETTLED_LATER if before.get(name) != now.get(name))
