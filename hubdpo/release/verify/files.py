"""What a release must list, and what may lie beside it. Every file that loading reads must have a hash.

People may add files to a repo by hand. A licence or a picture does no harm; a file that transformers, PEFT or
`datasets` would read or run in place of a listed one does.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from typing import TypeVar

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, INDEX, WEIGHTS, weight_map
from hubdpo.artefacts.formats.bounded import parse_object, shortened
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
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, VerificationFailed
from hubdpo.hub.reference import COMMIT, RepoType, type_option
from hubdpo.hub.snapshot import Snapshot
from hubdpo.release.verify.loaded_names import first_loaded

M = TypeVar("M", bound=Manifest)
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


def check_files(snapshot: Snapshot, bundle: Bundle) -> list[str]:
    """Return the files of a downloaded release that it does not list and that do no harm.

    Raise ArtefactError, naming the file, when one that loading needs is not listed, the id of the bundle is not that of
    its list, or a manifest is invalid; VerificationFailed when loading would read a file that is not listed.
    """
    if bundle.bundle_id != bundle_id_of(bundle.version, bundle.files):
        raise ArtefactError(f"`bundle_id` of {BUNDLE_FILE} is not that of its list of files")
    listed = bundle.files
    needed = [*NEEDED[bundle.kind], *(_weights(snapshot, bundle) if bundle.kind == "merged" else [])]
    if bundle.kind == "dataset" and PREPARE_FILE in listed:
        needed += _required(snapshot, PREPARE_FILE, PrepareManifest).files
    for name in needed:
        if name not in listed:
            raise ArtefactError(f"`{name}` is not listed in {BUNDLE_FILE}, and loading reads it")
    for name, model in MANIFESTS.items():
        if name in listed:
            manifest = _required(snapshot, name, model)
            if isinstance(manifest, (RunManifest, MergeManifest)):
                _check_base(name, manifest)
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


def _required(snapshot: Snapshot, name: str, model: type[M]) -> M:
    manifest = snapshot.manifest(name, model)
    if manifest is None:
        raise ArtefactError(f"`{name}` is missing from {snapshot.ref}")
    return manifest


def deleting(repo_id: str, name: str, repo_type: RepoType) -> str:
    """Return the command that deletes a file of a repo."""
    return f"hf repos delete-files {repo_id} {shlex.quote(name)}{type_option(repo_type)}"


def beside(names: Iterable[str], listed: Collection[str]) -> list[str]:
    """Return the files that a release does not list, without its list itself and the files that the Hub makes."""
    return [name for name in names if name not in listed and name not in (BUNDLE_FILE, *THE_HUBS)]


def _weights(snapshot: Snapshot, bundle: Bundle) -> list[str]:
    """Return the weight files of a whole model."""
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
