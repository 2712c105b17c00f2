"""File names that programs read without being told to: such a file beside a release may replace a listed one.

Other files that people keep beside a model do no harm, such as `training_args.bin`, a training script or checkpoints:
a Python file runs only when a config names it, and configs have a hash.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import Any

from hubdpo.artefacts.formats.front_matter import fields
from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, LOCAL_FILE, MERGE_FILE, PREPARE_FILE, PROBES_FILE, RUN_FILE
from hubdpo.errors import ArtefactError

MOST_PATTERNS = 1000
"""Most file patterns in the card of a dataset. A benchmark of 57 subjects in four splits has 228."""
_OURS = (RUN_FILE, EVAL_FILE, PROBES_FILE, MERGE_FILE, PREPARE_FILE, LOCAL_FILE)
_ENDS_OF_WEIGHTS = r"\.(safetensors|bin|pt|pth|pkl|pickle|ckpt|h5|msgpack)"
_MODEL = "|".join([
    rf"(adapter_model|model|pytorch_model|tf_model|flax_model|consolidated|new_embeddings)[^/]*{_ENDS_OF_WEIGHTS}",
    r"[^/]*\.index\.json",
    r"(config|params|adapter_config|generation_config|quantize_config|quant_config|hf_quant_config)\.json",
    r"(preprocessor|processor|image_processor|video_preprocessor|feature_extractor|audio_tokenizer)(_config)?\.json",
    r"tokenizer[^/]*|tekken\.json|[^/]*\.(model|spm|tiktoken)|(vocab|source_vocab|target_vocab)([-.][^/]*)?\.(json|txt)",
    r"merges\.txt|bpe\.codes|normalizer\.json|(special_tokens_map|added_tokens)\.json",
    r"chat_template[^/]*|additional_chat_templates/.*",
    r"custom_generate/.*|handler\.py|(modeling|configuration|tokenization|processing|image_processing)_[^/]*\.py",
    *(re.escape(name) for name in _OURS),
])  # fmt: skip
"""Names that transformers, PEFT and model servers read at the top of a repo. In its folders they read named files."""
LOADED = {
    "adapter": re.compile(_MODEL),
    "merged": re.compile(rf"{_MODEL}|[^/]*\.safetensors"),  # vLLM and TGI load any weights they find
}
_DATASET = re.compile("|".join([r"\.huggingface\.yaml|dataset_infos\.json", *(re.escape(name) for name in _OURS)]))
"""Names that `datasets` reads whatever the card says; the first replaces its front matter."""
_SPLIT = r"(train|training|validation|valid|dev|val|test|testing|eval|evaluation)"
_PICKED = re.compile(
    rf"data/.*|.*\.(parquet|geoparquet|gpq|arrow|lance)|(.*[/\-._ 0-9])?{_SPLIT}([\-._ 0-9/].*)?"
    r"\.(csv|tsv|json|jsonl|ndjson|txt|xml|h5|hdf5|zip|tar|gz|bz2|xz|zst)"
)
"""Names that `datasets` picks where a card declares no files."""


def first_loaded(kind: Kind, names: Iterable[str], card: str = "") -> str | None:
    """Return the first of the names that loading would read or run; `card` is the text of a dataset's card.

    Case is ignored, as some file systems ignore it. Raise ArtefactError for a card of more than 1,000 patterns.
    """
    patterns = list(_of_dataset(card)) if kind == "dataset" else [LOADED[kind]]
    return next((name for name in names if any(pattern.fullmatch(name.casefold()) for pattern in patterns)), None)


def _of_dataset(card: str) -> Iterator[re.Pattern[str]]:
    yield _DATASET
    declared = fields(card).get("configs")
    configs = [config for config in declared if isinstance(config, dict)] if isinstance(declared, list) else []
    if not configs or any(config.get("data_files") is None and not config.get("data_dir") for config in configs):
        yield _PICKED
    globs = {form for config in configs for form in _globs(config)}
    if len(globs) > MOST_PATTERNS:
        raise ArtefactError(f"`configs` of the card names {len(globs):,} files, and at most {MOST_PATTERNS:,} are read")
    yield from (re.compile(fnmatch.translate(form.casefold())) for form in sorted(globs))


def _globs(config: dict[str, Any]) -> Iterator[str]:
    """Yield the globs of a configuration. `**/` also matches no folder at all."""
    folder = str(config.get("data_dir") or "").removeprefix("./").strip("/")
    declared = config.get("data_files")
    pending = ["**" if folder else []] if declared is None else [declared]
    while pending:
        files = pending.pop()
        if isinstance(files, str):
            path = files.removeprefix("./")
            path = f"{folder}/{path}" if folder else path
            yield from (path, path.replace("**/", ""))
        elif isinstance(files, (list, dict)):
            pending += list(files.values()) if isinstance(files, dict) else files
