"""Whether a run writes its pairs into tokens as `prepare` did when it counted and dropped by length."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.artefacts.manifests.file_entries import sha256_file
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import HubError
from hubdpo.hub.client import download

TOKENIZER = "tokenizer.json"


def tell_other_counts(dataset: PrepareManifest, config: TrainConfig) -> None:
    """Warn when the tokenizer, or what its chat template is given, is another one than the dataset was counted with.

    A dataset that was prepared without `--model` was not counted; names that differ may stand for one tokenizer.
    """
    model = dataset.config.get("model")
    if not model:
        return
    counted = f"the dataset was counted by the tokenizer of {_named(model['name'], model.get('revision'))}"
    if _differs(model, config.model_name_or_path, config.model_revision):
        base = _named(config.model_name_or_path, config.model_revision)
        console.warn(f"{counted}, and this run has that of {base}: what was dropped by length may not fit it")
        console.hint("hubdpo prepare SOURCE -o DIR --model MODEL, with the base of this run")
    before, now = dataset.config.get("chat_template_kwargs") or {}, config.chat_template_kwargs or {}
    if before != now:
        console.warn(
            f"the dataset was counted with `--chat-template-kwargs` {_written(before)}, and this run has "
            f"{_written(now)}: prompts are written otherwise than prepare measured them"
        )
        if before:
            console.hint(f"--chat-template-kwargs {shlex.quote(_written(before))}")
        else:
            console.hint("leave `--chat-template-kwargs` out, or prepare with the same")


def _differs(model: dict[str, Any], base: str, revision: str | None) -> bool:
    if revision is not None and (model["name"], model.get("revision")) == (base, revision):
        return False
    counted = model.get("tokenizer") or _digest(model["name"], model.get("revision"))
    return counted is None or counted != _digest(base, revision)


def _digest(name: str, revision: str | None) -> str | None:
    """Return the SHA-256 of a model's tokenizer, None when it cannot be had."""
    try:
        folder = Path(name) if revision is None else download(name, revision, allow_patterns=[TOKENIZER])
    except HubError:
        return None
    return sha256_file(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None


def _named(name: str, revision: str | None) -> str:
    return f"{name}@{revision[:12]}" if revision else name


def _written(kwargs: dict[str, Any]) -> str:
    return json.dumps(kwargs, sort_keys=True, ensure_ascii=False) if kwargs else "none"
