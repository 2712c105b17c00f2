"""What a release must list, and what may lie beside it: whatever loading reads has a hash, or it is no release.

A repo may hold files that people put there by hand. A licence or a picture does no harm; what transformers, PEFT or
`datasets` would read or run in place of a listed file does.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from hubdpo.bounded import read_object, read_text, shortened
from hubdpo.cards.hub_fields import is_id
from hubdpo.cards.serving import PICKLES, SHA
from hubdpo.errors import ArtefactError
from hubdpo.front_matter import fields
from hubdpo.hub.merged import MergeManifest
from hubdpo.manifest import (
    BUNDLE_FILE,
    CARD_FILE,
    EVAL_FILE,
    LOCAL_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RUN_FILE,
    Bundle,
    EvalReport,
    Kind,
    Manifest,
    PrepareManifest,
    Probes,
    RunManifest,
    bundle_id_of,
)

INDEX = "model.safetensors.index.json"
NEEDED: dict[Kind, tuple[str, ...]] = {
    "adapter": (CARD_FILE, RUN_FILE, "adapter_config.json", "adapter_model.safetensors"),
    "merged": (CARD_FILE, MERGE_FILE, "config.json", PROBES_FILE),
    "dataset": (CARD_FILE, PREPARE_FILE),
}
MANIFESTS: dict[str, type[Manifest]] = {
    RUN_FILE: RunManifest, EVAL_FILE: EvalReport, PROBES_FILE: Probes, MERGE_FILE: MergeManifest,
    PREPARE_FILE: PrepareManifest,
}  # fmt: skip
THE_HUBS = (".gitattributes",)
"""Files that the Hub makes itself."""
LOADED_ANYWHERE = re.compile("|".join([r".*\.py", r".*\.safetensors", *(rf".*\{end}" for end in PICKLES)]))
LOADED_AT_THE_TOP = re.compile(
    r"tokenizer.*|.*\.model|vocab\.(json|txt)|merges\.txt|(special_tokens_map|added_tokens)\.json|chat_template.*"
    r"|additional_chat_templates/.*|(config|adapter_config|generation_config|processor_config)\.json"
    rf"|.*\.index\.json|{re.escape(LOCAL_FILE)}|" + "|".join(re.escape(name) for name in MANIFESTS)
)
"""What transformers and PEFT read, of a model or an adapter, by its name alone."""
DATA = re.compile(r".*\.(py|parquet|arrow)|data/.*")
"""What `datasets` reads where a card names no files; those that it names are read as well."""


def check_files(folder: Path, bundle: Bundle) -> list[str]:
    """Return the files of a downloaded release that it does not list and that do no harm.

    Raise ArtefactError, naming the file, when one that loading reads is not listed, the id of the bundle is not that of
    its list, or a manifest says what cannot be.
    """
    if bundle.bundle_id != bundle_id_of(bundle.version, bundle.files):
        raise ArtefactError(f"`bundle_id` of {BUNDLE_FILE} is not that of its list of files")
    needed = [*NEEDED[bundle.kind], *(_weights(folder, bundle) if bundle.kind == "merged" else [])]
    if bundle.kind == "dataset":
        needed += PrepareManifest.read(folder / PREPARE_FILE).files if PREPARE_FILE in bundle.files else []
    for name in needed:
        if name not in bundle.files:
            raise ArtefactError(f"`{name}` is not listed in {BUNDLE_FILE}, and loading reads it")
    for name, kind in MANIFESTS.items():
        if name in bundle.files:
            found: Any = kind.read(folder / name)
            if isinstance(found, (RunManifest, MergeManifest)):
                _check_base(name, found)
    there = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir()]
    others = beside(there, bundle.files)
    patterns = data_patterns(read_text(folder / CARD_FILE)) if bundle.kind == "dataset" else []
    if (harmful := first_loaded(bundle.kind, others, patterns)) is not None:
        raise ArtefactError(f"`{harmful}` is not listed in {BUNDLE_FILE}, and loading would read it")
    return others


def beside(names: Iterable[str], listed: Collection[str]) -> list[str]:
    """Return the names that a release does not list, apart from its list and what the Hub makes itself."""
    return [name for name in names if name not in listed and name not in (BUNDLE_FILE, *THE_HUBS)]


def first_loaded(kind: Kind, names: Iterable[str], patterns: Collection[str] = ()) -> str | None:
    """Return the first of the files that loading would read or run; `patterns` are those that a dataset's card names.

    Case is not told apart, as some systems do not.
    """
    for name in names:
        folded = name.casefold()
        if kind == "dataset":
            if DATA.fullmatch(folded) or any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                return name
        elif LOADED_ANYWHERE.fullmatch(folded) or LOADED_AT_THE_TOP.fullmatch(folded):
            return name
    return None


def data_patterns(card: str) -> list[str]:
    """Return the patterns of the files that a dataset's card says to load."""
    found = []
    configs = fields(card).get("configs")
    for config in configs if isinstance(configs, list) else []:
        pending = [config.get("data_files")] if isinstance(config, dict) else []
        while pending:
            one = pending.pop()
            if isinstance(one, str):
                found.append(one)
            elif isinstance(one, (list, dict)):
                pending += list(one.values()) if isinstance(one, dict) else one
    return found


def _weights(folder: Path, bundle: Bundle) -> list[str]:
    """Return the files that the weights of a whole model are in."""
    if INDEX not in bundle.files:
        return ["model.safetensors"]
    shards = read_object(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ArtefactError(f"`{INDEX}` has no map of the weights")
    return sorted(set(shards.values())) or ["model.safetensors"]


def _check_base(name: str, made: RunManifest | MergeManifest) -> None:
    base = made.base
    if not is_id(base.repo_id) or base.revision is None or not SHA.fullmatch(base.revision):
        told = f"{shortened(repr(base.repo_id), 100)} at {shortened(repr(base.revision), 50)}"
        raise ArtefactError(f"`{name}` names the base {told}, which is no repo at a commit")
