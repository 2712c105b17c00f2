"""Names of the files in a model, tokenizer or adapter folder, and the index of sharded weights."""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.manifests.manifest import PROBES_FILE, RUN_FILE

CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG = "config.json", "generation_config.json", "adapter_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_CONFIG, CHAT_TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
TOKENIZER_FILES = (
    "tokenizer.json", TOKENIZER_CONFIG, "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    CHAT_TEMPLATE,
)  # fmt: skip
"""Files of the tokenizers that hubdpo trains with."""
OTHER_TOKENIZER_FILES = ("tokenizer.model", "spiece.model", "vocab.txt", "chat_template.json")
"""Files of other tokenizers, which adapters that hubdpo loads may have."""
COPIED_FILES = (*TOKENIZER_FILES, GENERATION_CONFIG)
"""Files that a run and a merged model take from their base unchanged."""
LICENCE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt")
"""Files of a base model that are published with adapters and merged models made from it."""

TOKENIZER_PATTERNS = [*TOKENIZER_FILES, *OTHER_TOKENIZER_FILES, "additional_chat_templates/*.jinja", CONFIG]
"""Files to download in order to load a tokenizer."""
BASE_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "README.md", "LICENSE*", "NOTICE*"]
"""Files to download of a base model: no pickle and no code."""
ADAPTER_PATTERNS = [
    *TOKENIZER_PATTERNS, GENERATION_CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS, RUN_FILE, PROBES_FILE,
]  # fmt: skip
"""Files to download in order to load an adapter: anything else in its repo stays there."""


def weight_map(index: object) -> dict[str, str]:
    """Return the shard that holds each tensor, by tensor name, from a parsed `model.safetensors.index.json`.

    Raise ValueError when the index lists no tensor, or a shard that is not a safetensors file beside the index.
    """
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{INDEX} names no weights")
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ValueError(f"{INDEX} names {str(shard)[:80]!r}, which is not a safetensors file beside it")
    return shards
