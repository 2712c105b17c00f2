"""Does the run tokenize its pairs as `prepare` did when it counted their tokens and dropped long ones?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.manifests.file_entries import sha256_file
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import HubError
from hubdpo.hub.client import download

TOKENIZER = "tokenizer.json"


def warn_of_other_tokenizer(dataset: PrepareManifest, config: TrainConfig) -> None:
    """Warn when the run's tokenizer, or its chat template arguments, differ from those that counted the dataset.

    A dataset prepared without `--model` was not counted. Two names may stand for one tokenizer.
    """
    model = dataset.config.get("model")
    if not model:
        return
    counted = f"the dataset was counted with the tokenizer of {_label(model['name'], model.get('revision'))}"
    if _differs(model, config.model_name_or_path, config.model_revision):
        base = _label(config.model_name_or_path, config.model_revision)
        console.warn(f"{counted}, and this run uses that of {base}: pairs dropped by length may have fitted")
        console.hint("hubdpo prepare SOURCE -o DIR --model MODEL, with the base of this run")
    before, now = dataset.config.get("chat_template_kwargs") or {}, config.chat_template_kwargs or {}
    if before != now:
        console.warn(
            f"the dataset was counted with `--chat-template-kwargs` {_as_json(before)}, and this run has "
            f"{_as_json(now)}: its prompts have other lengths"
        )
        if before:
            console.hint(f"--chat-template-kwargs {shlex.quote(_as_json(before))}")
        else:
            console.hint("leave `--chat-template-kwargs` out, or prepare with the same")


def _differs(model: Mapping[str, str | None], base: str, revision: str | None) -> bool:
    name, counted_revision = str(model["name"]), model.get("revision")
    if revision is not None and (name, counted_revision) == (base, revision):
        return False
    counted = model.get("tokenizer") or _tokenizer_hash(name, counted_revision)
    return counted is None or counted != _tokenizer_hash(base, revision)


def _tokenizer_hash(name: str, revision: str | None) -> str | None:
    """Return the SHA-256 of a model's tokenizer file, None when it is not available."""
    try:
        folder = Path(name) if revision is None else download(name, revision, allow_patterns=[TOKENIZER])
    except HubError:
        return None
    return sha256_file(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None


def _label(name: str, revision: str | None) -> str:
    return f"{name}@{revision[:12]}" if revision else name


def _as_json(kwargs: Mapping[str, object]) -> str:
    return json.dumps(kwargs, sort_keys=True, ensure_ascii=False) if kwargs else "none"
