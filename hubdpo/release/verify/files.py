"""What a release must list, and what may lie beside it: whatever loading reads has a hash, or it is no release.

A repo may hold files that people put there by hand. A licence or a picture does no harm; what transformers, PEFT or
`datasets` would read or run in place of a listed file does.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import read_object, read_text, shortened
from hubdpo.artefacts.manifests.bundle import Bundle, Kind, bundle_id_of
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import (
    BUNDLE_FILE,
    CARD_FILE,
    EVAL_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RUN_FILE,
    Manifest,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.model.serving import SHA
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, VerificationFailed
from hubdpo.release.verify.loaded_names import first_loaded

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


def check_files(folder: Path, bundle: Bundle, repo_id: str = "USER/NAME") -> list[str]:
    """Return the files of a downloaded release that it does not list and that do no harm.

    Raise ArtefactError, naming the file, when one that loading needs is not listed, the id of the bundle is not that of
    its list, or a manifest says what cannot be; VerificationFailed when loading would read one that is not listed.
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
    card = read_text(folder / CARD_FILE) if bundle.kind == "dataset" else ""
    if (harmful := first_loaded(bundle.kind, others, card)) is not None:
        raise VerificationFailed(
            f"`{shortened(harmful, 200)}` of `{repo_id}` is not listed in {BUNDLE_FILE}, and loading would read it",
            hint=f"where the repo is yours, {deleting(repo_id, harmful, bundle.kind)}, then publish a new version; "
            "else tell its owner",
        )
    return others


def deleting(repo_id: str, name: str, kind: Kind) -> str:
    """Return the command that deletes a file of a repo."""
    return f"hf repos delete-files {repo_id} {shlex.quote(name)}{' --type dataset' * (kind == 'dataset')}"


def beside(names: Iterable[str], listed: Collection[str]) -> list[str]:
    """Return the names that a release does not list, apart from its list and what the Hub makes itself."""
    return [name for name in names if name not in listed and name not in (BUNDLE_FILE, *THE_HUBS)]


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
    if not is_repo_id(base.repo_id, owner_required=False) or base.revision is None or not SHA.fullmatch(base.revision):
        told = f"{shortened(repr(base.repo_id), 100)} at {shortened(repr(base.revision), 50)}"
        raise ArtefactError(f"`{name}` names the base {told}, which is no repo at a commit")
