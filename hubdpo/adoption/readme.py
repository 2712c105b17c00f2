"""Read what another tool wrote into the card of an adapter: its name and versions, and how it trained.

The cards of transformers' Trainer list hyperparameters, that of axolotl holds its whole config, and that of TRL names
the method. A card may come from anybody: numbers are checked where they become options, and names against a list.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hubdpo.artefacts.formats.bounded import JsonObject
from hubdpo.artefacts.formats.front_matter import fields, part, read_yaml
from hubdpo.config.base import Values

TOOLS = {"llama-factory": "LLaMA-Factory", "axolotl": "axolotl", "unsloth": "Unsloth", "trl": "TRL"}
"""Tools by the tag that they write, those that build on others first."""
METHODS = {"dpo": "DPO", "sft": "SFT", "kto": "KTO", "orpo": "ORPO", "cpo": "CPO", "simpo": "SimPO", "ipo": "IPO",
           "grpo": "GRPO", "rloo": "RLOO", "ppo": "PPO"}  # fmt: skip
"""Methods, by their names in small letters."""
_METHOD = re.compile(r"This model was trained with (\w{1,20})")
_VERSION = re.compile(r"^- (PEFT|TRL|Transformers|Pytorch|Datasets|Tokenizers):? ([\w.+-]{1,40})\s*$", re.MULTILINE)
_SETTING = re.compile(r"^- (\w{1,40}): (.{1,200}?)\s*$", re.MULTILINE)
_SETTINGS = "### Training hyperparameters"
_AXOLOTL = re.compile(r"axolotl version: `([\w.+-]{1,40})`\s*```yaml\n(.*?)\n```", re.DOTALL)
_OPTIMISER = re.compile(r"Use (?:OptimizerNames\.)?(\w+) ")
SAME_NAME = ("learning_rate", "seed", "lr_scheduler_type", "gradient_accumulation_steps")
RENAMED = {
    "train_batch_size": "per_device_train_batch_size", "num_devices": "num_processes",
    "num_epochs": "num_train_epochs", "training_steps": "max_steps", "lr_scheduler_warmup_ratio": "warmup_ratio",
}  # fmt: skip
ALWAYS_LISTED = {"learning_rate", "train_batch_size", "eval_batch_size", "seed"}


class Told(NamedTuple):
    """What a card tells; `options` have hubdpo's names, and `trainer_config` is the config of axolotl within it."""

    tool: str | None
    method: str | None
    versions: dict[str, str]
    options: Values
    trainer_config: JsonObject
    datasets: list[str]


def read_card(text: str) -> Told:
    """Return what the card of an adapter tells."""
    front, body = fields(text), part(text).body
    tags = [str(tag).lower() for tag in _listed(front.get("tags"))]
    versions = {("torch" if match[1] == "Pytorch" else match[1].lower()): match[2] for match in _VERSION.finditer(body)}
    named, axolotl = _METHOD.search(body), _AXOLOTL.search(body)
    if axolotl is not None:
        versions["axolotl"] = axolotl[1]
    methods = [METHODS[word] for word in ([named[1].lower()] if named else []) + tags if word in METHODS]
    return Told(
        tool=next((name for tag, name in TOOLS.items() if tag in tags or tag in versions), None),
        method=methods[0] if methods else None, versions=versions, options=_options(body),
        trainer_config=yaml_object(axolotl[2]) if axolotl is not None else {},
        datasets=[str(name)[:200] for name in _listed(front.get("datasets")) if isinstance(name, str)],
    )  # fmt: skip


def yaml_object(text: str) -> JsonObject:
    """Return the object of a YAML text; an empty one for anything else, and beyond the limits of a card."""
    try:
        values = read_yaml(text)
    except ValueError:
        return {}
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _options(body: str) -> Values:
    """Return the hyperparameters that transformers' Trainer lists.

    It leaves out devices and steps of accumulation where they are one, and has ALWAYS_LISTED in every list of its own.
    """
    _, found, after = body.partition(_SETTINGS)
    listed = {match[1]: match[2] for match in _SETTING.finditer(after.partition("\n##")[0])}
    if not found or "learning_rate" not in listed:
        return {}
    options: Values = {}
    if listed.keys() >= ALWAYS_LISTED:
        options = {"gradient_accumulation_steps": "1", "num_processes": "1"}
    options |= {name: listed[name] for name in SAME_NAME if name in listed}
    options |= {name: listed[theirs] for theirs, name in RENAMED.items() if theirs in listed}
    if warmup := listed.get("lr_scheduler_warmup_steps"):  # since transformers 5 a share may stand here as well
        options["warmup_ratio" if warmup.startswith("0.") else "warmup_steps"] = warmup.removesuffix(".0")
    if optimiser := _OPTIMISER.match(listed.get("optimizer", "")):
        options["optim"] = optimiser[1].lower()
    return options


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if value is not None else []
