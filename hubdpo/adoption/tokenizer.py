"""Choose the tokenizer and chat template of an adopted adapter: those of the base, unless its folder has others.

Trainers write the tokenizer anew with another version of the library, so its content is compared, not its bytes.
"""

from __future__ import annotations

from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import JsonObject, parse_object
from hubdpo.errors import ConfigError
from hubdpo.hub.snapshot import FolderSnapshot, Shapes, Snapshot
from hubdpo.model.adapters.fit import TOKENIZER, template_of
from hubdpo.model.tokenizer.load import count_tokens

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def own_template(folder: Path, name: str, base: Snapshot) -> str | None:
    """Return the chat template in the folder of the adapter `name` where it is another than the base's, and say so."""
    template = template_of(FolderSnapshot(folder, all_files=True))
    if template is None or template.rstrip() == (template_of(base) or "").rstrip():
        return None
    if "{{" not in template and "{%" not in template:
        console.warn(f"what `{name}` has for a chat template is none; the run has that of `{base.name}`")
        return None
    console.warn(f"`{name}` has another chat template than `{base.name}`; the run has that of the adapter")
    return template


def has_own_tokens(folder: Path, name: str, base: Snapshot, stored: Shapes) -> bool:
    """Tell whether the adapter `name` has other tokens than its base, and say so; ConfigError if they do not fit."""
    own = FolderSnapshot(folder, all_files=True)
    if TOKENIZER not in own.files or TOKENIZER not in base.files:
        return False
    ours, theirs = (parse_object(files.read(TOKENIZER), TOKENIZER, of=f"`{files.name}`") for files in (own, base))
    if _content(ours) == _content(theirs):
        return False
    rows = max((shape[0] for tensor, shape in stored.items() if tensor.endswith(EMBEDDINGS)), default=None)
    count, before = count_tokens(ours), count_tokens(theirs)
    if rows is not None and count is not None and count > rows:
        raise ConfigError(
            f"the tokenizer of `{name}` has {count:,} tokens, and `{base.name}` has embeddings of {rows:,}",
            hint="merge the adapter with PEFT into the base whose vocabulary was resized, and use the result",
        )
    counts = f", {count:,} ids and not {before:,}" if None not in (count, before) and count != before else ""
    console.warn(f"`{name}` has another tokenizer than `{base.name}`{counts}; the run has that of the adapter")
    return True


def _content(tokenizer: JsonObject) -> list[object]:
    """Return what decides which ids a text has: vocabulary, merges, added tokens, and how a text is split before."""
    model = tokenizer.get("model")
    model = model if isinstance(model, dict) else {}
    merges, added = model.get("merges"), tokenizer.get("added_tokens")
    return [
        model.get("type"), model.get("vocab"),
        # older versions wrote "a b" for ["a", "b"]
        [" ".join(map(str, pair)) if isinstance(pair, list) else pair for pair in merges or ()],
        sorted((str(token.get("content")), str(token.get("id"))) for token in added or () if isinstance(token, dict)),
        tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer"),
    ]  # fmt: skip
