"""Compare the tokenizer and chat template in the folder of an adapter with those of its base. Imports no torch."""

from __future__ import annotations

from hubdpo import console
from hubdpo.artefacts.folders.model_files import CHAT_TEMPLATE, TOKENIZER_CONFIG
from hubdpo.artefacts.formats.bounded import JsonObject, parse_object, shortened
from hubdpo.config import TrainConfig
from hubdpo.config.flags import quoted
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.model.adapters.start import StartAdapter

TOKENIZER = "tokenizer.json"
MOST_NAMED = 3


def say_other_tokens(start: StartAdapter, config: TrainConfig, base: Snapshot) -> None:
    """Warn of a chat template, or of added tokens, that the adapter was trained with and its base lacks.

    A run takes tokens from the base, and the template unless `--chat-template` gives another.
    """
    own = FolderSnapshot(start.folder, all_files=True)
    template = template_of(own)
    # of a run of hubdpo it is known which template it was given
    is_said = config.chat_template is not None or (start.run is not None and start.run.has_own_template)
    if template is not None and not is_said and template != template_of(base):
        console.warn(f"`{start.ref.name}` has another chat template than `{base.name}`, whose template this run uses")
        if CHAT_TEMPLATE in own.files:
            console.hint(f"--chat-template {quoted(start.folder / CHAT_TEMPLATE)}")
    if start.run is not None and start.run.adopted is not None and start.run.adopted.own_tokenizer:
        console.warn(
            f"`{start.ref.name}` was trained with another tokenizer than `{base.name}`, whose tokens this run has"
        )
    if added := sorted(_added_tokens(own).keys() - _added_tokens(base).keys()) if TOKENIZER in own.files else []:
        names = ", ".join(f"`{shortened(token, 40)}`" for token in added[:MOST_NAMED])
        console.warn(
            f"the tokenizer of `{start.ref.name}` has {console.counted(len(added), 'token')} that `{base.name}` lacks, "
            f"and this run does not use: {names}"
        )


def template_of(files: Snapshot) -> str | None:
    """Return the chat template of a model's or adapter's files, None where they have none or several."""
    if CHAT_TEMPLATE in files.files:
        return files.text(CHAT_TEMPLATE)
    template = _object(files, TOKENIZER_CONFIG).get("chat_template")
    return template if isinstance(template, str) else None


def _added_tokens(files: Snapshot) -> dict[str, object]:
    added = _object(files, TOKENIZER).get("added_tokens")
    tokens = [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    return {str(token.get("content")): token.get("id") for token in tokens}


def _object(files: Snapshot, name: str) -> JsonObject:
    return parse_object(files.read(name), name, of=f"`{files.name}`") if name in files.files else {}
