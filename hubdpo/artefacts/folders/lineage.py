"""Trace a model folder to its parts: the base of an adapter, or the adapters that were merged into a base."""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG
from hubdpo.artefacts.folders.named import unused
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.manifest import MERGE_FILE
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import Ancestor, BaseRef
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import is_repo_id
from hubdpo.errors import ArtefactError, ConfigError, Instead, UnsupportedBase


def ancestors(folder: Path) -> list[Ancestor]:
    """Return the merges that produced a base, newest first; none without a `merge.json`."""
    try:
        merge = MergeManifest.read(folder / MERGE_FILE)
    except ArtefactError:
        return []
    first, *others = merge.parts
    last = Ancestor(
        adapter=merge.adapter.name, adapter_version=merge.adapter.version, adapter_revision=merge.adapter.revision,
        base=merge.base.name, base_revision=merge.base.revision, dequantised=merge.dequantised,
        started_from=first.started_from, others=[other.adapter for other in others],
        weights=[part.weight for part in merge.parts] if others else [],
    )  # fmt: skip
    return [last, *merge.base.made_by]


def check_not_an_adapter(folder: Path, name: str) -> None:
    """Raise UnsupportedBase if the folder of a base holds an adapter."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    base = base_of_adapter(folder)
    raise UnsupportedBase(
        f"`{name}` is an adapter{f' of {base}' if base else ''}, not a base model; `--adapter` "
        "trains it further, on its own base",
        hint=f"--adapter {quoted(name)}; leave `--model-name-or-path` out",
    )


def check_not_rounded_away(base: BaseRef, *, load_in_4bit: bool) -> None:
    """Raise ConfigError if a base that was merged into de-quantised NF4 weights would be quantised to NF4 again.

    The merged weights lie within half a step of the NF4 grid that they came from, so quantisation snaps them back to
    it. Training would start from the base without its adapter.
    """
    if load_in_4bit and base.made_by and base.made_by[0].dequantised:
        merge = base.made_by[0]
        names = " and ".join([merge.adapter, *(other.name for other in merge.others)])
        adapter = "adapters" if merge.others else "adapter"
        raise ConfigError(
            f"`{base.name}` is {merge.base} in NF4, de-quantised, with the {adapter} {names} merged in; as NF4 again "
            f"it would lose most of {'those' if merge.others else 'that'} {adapter}",
            hint="--no-load-in-4bit",
        )


def base_of_adapter(folder: Path) -> str | None:
    """Return the base that a PEFT adapter names, or None if its config cannot be read."""
    try:
        base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    except (OSError, ArtefactError):
        return None
    return base if isinstance(base, str) and base else None


def not_by_hubdpo(folder: Path, name: str) -> ArtefactError | None:
    """Return the error for an adapter that another tool trained, or None if the folder holds no adapter."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    return ArtefactError(
        f"`{name}` is an adapter of another tool: it has no run.json",
        hint=adopting(name, base_of_adapter(folder)),
    )


def adopting(name: str, base: object) -> Instead:
    """Return the hint that makes a run of an adapter of another tool; `base` is what its config names."""
    is_place = isinstance(base, str) and (is_repo_id(base) or Path(base).is_dir())
    run = unused("run", Path(name))
    command = f"hubdpo adopt {quoted(name)} --base {quoted(base if is_place else 'USER/NAME')} -o {quoted(run)}"
    return Instead(name, run, after=command)
