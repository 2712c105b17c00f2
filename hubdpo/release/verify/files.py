"""What a release must list, and what may lie beside it. Every file that loading reads must have a hash.

People may add files to a repo by hand. A licence, a picture, `training_args.bin` or a training script does no harm, as
a Python file runs only when a config names it, and configs have a hash. A file that transformers, PEFT or `datasets`
would read or run in place of a listed one, without being told to, does.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, INDEX, WEIGHTS, weight_map
from hubdpo.artefacts.formats.bounded import parse_object, shortened
from hubdpo.artefacts.formats.front_matter import fields
from hubdpo.artefacts.manifests.bundle import Bundle, Kind, bundle_id_of
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import (
    BUNDLE_FILE,
    CARD_FILE,
    EVAL_FILE,
    LOCAL_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RUN_FILE,
    Manifest,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, VerificationFailed
from hubdpo.hub.reference import COMMIT, RepoType, type_option
from hubdpo.hub.snapshot import Snapshot

NEEDED: dict[Kind, tuple[str, ...]] = {
    "adapter": (CARD_FILE, RUN_FILE, ADAPTER_CONFIG, ADAPTER_WEIGHTS),
    "merged": (CARD_FILE, MERGE_FILE, CONFIG, PROBES_FILE),
    "dataset": (CARD_FILE, PREPARE_FILE),
}
MANIFESTS: dict[str, type[Manifest]] = {
    RUN_FILE: RunManifest, EVAL_FILE: EvalReport, PROBES_FILE: Probes, MERGE_FILE: MergeManifest,
    PREPARE_FILE: PrepareManifest,
}  # fmt: skip
THE_HUBS = (".gitattributes",)
"""Files that the Hub makes."""
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


def check_files(snapshot: Snapshot, bundle: Bundle) -> list[str]:
    """Return the files of a downloaded release that it does not list and that do no harm.

    Raise ArtefactError, naming the file, when one that loading needs is not listed, the id of the bundle is not that of
    its list, or a manifest is invalid; VerificationFailed when loading would read a file that is not listed.
    """
    if bundle.bundle_id != bundle_id_of(bundle.version, bundle.files):
        raise ArtefactError(f"`bundle_id` of {BUNDLE_FILE} is not that of its list of files")
    listed = bundle.files
    needed = [*NEEDED[bundle.kind], *(_weights(snapshot, bundle) if bundle.kind == "merged" else [])]
    for name, model in MANIFESTS.items():
        if name in listed:
            manifest = model.parse(snapshot.read(name), name)
            if isinstance(manifest, (RunManifest, MergeManifest)):
                _check_base(name, manifest)
            if isinstance(manifest, PrepareManifest) and bundle.kind == "dataset":
                needed += manifest.files
    for name in needed:
        if name not in listed:
            raise ArtefactError(f"`{name}` is not listed in {BUNDLE_FILE}, and loading reads it")
    others = beside(snapshot.files, listed)
    card = snapshot.text(CARD_FILE) if bundle.kind == "dataset" else ""
    if (harmful := first_loaded(bundle.kind, others, card)) is not None:
        delete = deleting(snapshot.name, harmful, "dataset" if bundle.kind == "dataset" else "model")
        raise VerificationFailed(
            f"`{shortened(harmful, 200)}` of `{snapshot.name}` is not listed in {BUNDLE_FILE}, and loading would read "
            "it",
            hint=f"where the repo is yours, {delete}, then publish a new version; else tell its owner",
        )
    return others


def deleting(repo_id: str, name: str, repo_type: RepoType) -> str:
    """Return the command that deletes a file of a repo."""
    return f"hf repos delete-files {repo_id} {shlex.quote(name)}{type_option(repo_type)}"


def beside(names: Iterable[str], listed: Collection[str]) -> list[str]:
    """Return the files that a release does not list, without its list itself and the files that the Hub makes."""
    return [name for name in names if name not in listed and name not in (BUNDLE_FILE, *THE_HUBS)]


def _weights(snapshot: Snapshot, bundle: Bundle) -> list[str]:
    if INDEX not in bundle.files:
        return [WEIGHTS]
    try:
        return sorted(set(weight_map(parse_object(snapshot.read(INDEX), INDEX)).values()))
    except ValueError as problem:
        raise ArtefactError(str(problem)) from None


def _check_base(name: str, manifest: RunManifest | MergeManifest) -> None:
    base = manifest.base
    if not is_repo_id(base.repo_id, owner_required=False) or not COMMIT.fullmatch(base.revision or ""):
        named = f"{shortened(repr(base.repo_id), 100)} at {shortened(repr(base.revision), 50)}"
        raise ArtefactError(f"`{name}` names the base {named}, which is no repo at a commit")


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
