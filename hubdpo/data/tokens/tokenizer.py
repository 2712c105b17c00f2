"""The model whose tokenizer counts tokens in `hubdpo prepare`: found, pinned and loaded."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders.hashes import files_hash
from hubdpo.artefacts.folders.model_files import TOKENIZER_PATTERNS
from hubdpo.artefacts.folders.named import base_instead
from hubdpo.artefacts.manifests.manifest import sha256_file
from hubdpo.config.repo_id import looks_like_folder
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.errors import ConfigError
from hubdpo.hub.client import check_type, download, resolve
from hubdpo.hub.failures import first_line, no_folder
from hubdpo.hub.reference import parse_ref
from hubdpo.model.tokenizer.load import read_tokenizer


@dataclass(frozen=True)
class Model:
    """Reference to a model: a local folder (`revision` is None), or a Hub repo pinned to a commit."""

    name: str
    revision: str | None = None
    digest: str | None = None
    """SHA-256 of `tokenizer.json`, for a folder."""
    files: str | None = None
    """Hash of all files that decide the tokens of a conversation, for a folder."""
    template_kwargs: str | None = None
    """Arguments of the chat template, as JSON."""
    template: str | None = None
    """The name of a format, or the source of a chat template in place of the model's own."""


def find_model(ref: str) -> Model:
    """Pin `ref`, a folder or `USER/NAME[@REVISION]`. Raise ConfigError or HubError if there is no such model."""
    if Path(ref).is_dir():
        tokenizer = Path(ref) / "tokenizer.json"
        if not tokenizer.is_file():
            raise ConfigError(f"no tokenizer.json in {ref}", hint="--model Qwen/Qwen2-7B-Instruct")
        return Model(str(Path(ref).resolve()), digest=sha256_file(tokenizer), files=files_digest(Path(ref)))
    if looks_like_folder(ref):
        raise ConfigError(f"model not found: {ref}", hint=base_instead(ref))
    name, revision, repo_type = parse_ref(ref)
    with no_folder(ref):
        if repo_type == "dataset":
            check_type(name, "model", repo_type)
        return Model(name, resolve(name, revision))


def files_digest(folder: Path) -> str:
    """Return the hash of the files that decide the tokens of a conversation: of the tokenizer and its templates."""
    return files_hash(folder, TOKENIZER_PATTERNS)


@functools.lru_cache(maxsize=2)
def encoder_of(model: Model) -> ChatEncoder:
    """Load the tokenizer of a model, once per process.

    Raise HubError if it cannot be downloaded, ConfigError if it cannot be loaded, DataError if ChatEncoder refuses it.
    """
    folder = Path(model.name)
    if model.revision is not None:
        folder = download(
            model.name, model.revision, allow_patterns=TOKENIZER_PATTERNS, needed=["tokenizer_config.json"]
        )
    kwargs = json.loads(model.template_kwargs) if model.template_kwargs else None
    try:
        return ChatEncoder(read_tokenizer(folder, kwargs, template=model.template))
    except (OSError, ValueError) as problem:
        message = f"no tokenizer with a chat template in {model.name}: {first_line(problem)}"
        raise ConfigError(message, hint="--chat-template chatml where it lacks one, or another `--model`") from None
