"""Names of options that are unknown, and those that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from hubdpo.errors import ConfigError

ALIASES = {
    "model": "model_name_or_path", "base_model": "model_name_or_path", "lr": "learning_rate",
    "epochs": "num_train_epochs", "num_epochs": "num_train_epochs", "batch_size": "per_device_train_batch_size",
    "train_file": "dataset", "dataset_name": "dataset", "data": "dataset", "cutoff_len": "max_length",
    "max_seq_length": "max_length", "lora_rank": "lora_r", "pref_beta": "beta", "pref_loss": "loss_type",
    "out": "output_dir", "save_dir": "output_dir", "repo_id": "repo", "hub_model_id": "repo", "tag": "version",
    "source": "path", "labels": "first", "run_dir": "model", "warmup": "warmup_ratio", "rank": "lora_r",
    "alpha": "lora_alpha", "dropout": "lora_dropout", "scheduler": "lr_scheduler_type", "steps": "max_steps",
    "lr_scheduler": "lr_scheduler_type", "output": "output_dir", "outdir": "output_dir", "base": "model_name_or_path",
    "eval_batch_size": "per_device_eval_batch_size", "grad_accum": "gradient_accumulation_steps",
}  # fmt: skip
"""Names of other trainers, and common slips, for the suggestion after an unknown option."""
RENAMED = {"format": "converter"}
"""Options of earlier versions, by their names then."""
MOST_LISTED = 10
LEAST_ALIKE = 0.72
"""Share of letters that two names have in common, in order: `deepspeed` is no slip of `seed`."""


def unknown_options(names: Sequence[str], known: Collection[str], where: str, origin: str = "") -> ConfigError:
    """Return the error for unknown options: with the nearest names, with all if they are few, or `where` they are."""
    message = f"unknown option{'s' * (len(names) > 1)}{origin}: {joined([f'`{name}`' for name in names])}"
    near = {name: near_option(name.replace("-", "_"), known) for name in names}
    if len(names) == 1 and near[names[0]]:
        return ConfigError(message, hint=f"did you mean `{near[names[0]]}`?")
    steps = [f"rename `{name}` to `{found}`" for name, found in near.items() if found]
    if not all(near.values()):
        steps.append(where if len(known) > MOST_LISTED else f"the options are: {', '.join(known)}")
    return ConfigError(message, hint="; ".join(steps))


def near_option(name: str, known: Collection[str]) -> str | None:
    """Return the option that an unknown name most likely means: its alias, or the closest spelling."""
    if (alias := ALIASES.get(name)) in known:
        return alias
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=LEAST_ALIKE)), None)


def flattened(name: str, block: Mapping[object, object], known: Collection[str]) -> dict[str, str]:
    """Return the options that a block such as `lora: {r: 8}` means, if it means options alone."""
    flat: dict[str, str] = {}
    for key, value in block.items():
        inner = str(key).replace("-", "_")
        option = next((each for each in (f"{name}_{inner}", inner) if each in known), None)
        if option is None or isinstance(value, (dict, list)):
            return {}
        flat[option] = str(value)
    return flat


def command_of(options: Iterable[object], config: type[Any]) -> str | None:
    """Return the command that takes all these options, by the models derived from `config`.

    Of several it is the one from which the others are derived, or else the one with the fewest options.
    """
    names = {RENAMED.get(name, name) for name in (str(key).replace("-", "_") for key in options)}
    models: list[type[Any]] = [config]
    found: list[tuple[int, str]] = []
    for model in models:
        name = model.__name__.removesuffix("Config").lower()
        if model.__name__.endswith("Config") and model._command() == name and names <= model.model_fields.keys():
            found.append((len(model.model_fields), name))
        else:
            models += model.__subclasses__()
    return min(found)[1] if found else None


def joined(words: Sequence[str]) -> str:
    """Join words with commas, and the last with `and`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
