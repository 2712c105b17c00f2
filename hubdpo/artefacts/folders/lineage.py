"""What a model folder came from: an adapter on its base, or a base into which adapters were merged before."""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.manifest import MERGE_FILE
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import Ancestor, BaseRef
from hubdpo.errors import ArtefactError, ConfigError, UnsupportedBase


def ancestors(folder: Path) -> list[Ancestor]:
    """Return the merges that a base was made by, newest first; none where no merge of hubdpo's is noted."""
    try:
        made = MergeManifest.read(folder / MERGE_FILE)
    except ArtefactError:
        return []
    last = Ancestor(
        adapter=made.adapter.name, adapter_version=made.adapter.version, adapter_revision=made.adapter.revision,
        base=made.base.name, base_revision=made.base.revision, dequantised=made.dequantised,
    )  # fmt: skip
    return [last, *made.base.made_by]


def check_not_an_adapter(folder: Path, name: str) -> None:
    """Raise UnsupportedBase for an adapter that is given as a base."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    base = base_of_adapter(folder)
    raise UnsupportedBase(
        f"`{name}` is an adapter{f' of {base}' if base else ''}, not a base model",
        hint=f"hubdpo merge {name} -o merged, then train on `merged` with `--no-load-in-4bit`",
    )


def check_not_rounded_away(base: BaseRef, *, load_in_4bit: bool) -> None:
    """Raise ConfigError for a merge into de-quantised weights that would be made NF4 again.

    Its weights lie within half a step of the NF4 grid that they came from, so they snap back onto it: the base of the
    merge is trained, without its adapter.
    """
    if load_in_4bit and base.made_by and base.made_by[0].dequantised:
        merge = base.made_by[0]
        raise ConfigError(
            f"`{base.name}` is {merge.base} in NF4, de-quantised, with the adapter {merge.adapter} merged in; as NF4 "
            "again it would lose most of that adapter",
            hint="--no-load-in-4bit",
        )


def base_of_adapter(folder: Path) -> str | None:
    """Return the base that a PEFT adapter names, or None where its config cannot be read."""
    try:
        base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    except (OSError, ArtefactError):
        return None
    return base if isinstance(base, str) and base else None


def not_by_hubdpo(folder: Path, name: str) -> ArtefactError | None:
    """Return the error for an adapter that another tool trained; None when a folder holds no adapter."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    return ArtefactError(
        f"`{name}` is an adapter that hubdpo did not train: it has no run.json",
        hint=f"hubdpo inspect {name}, or hubdpo load {name} --prompt ...",
    )
