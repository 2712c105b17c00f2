"""The base model: where it is, at which commit, and whether it takes the options that were given. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders.lineage import ADAPTER_CONFIG, ancestors, check_not_an_adapter, check_not_rounded_away
from hubdpo.artefacts.manifests.manifest import MERGE_FILE
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.cards.licences import licence_of
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, HubError
from hubdpo.hub.client import download, resolve
from hubdpo.hub.failures import no_folder
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import looks_like_folder, parse_ref
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.model.adapters.targets import check_targets
from hubdpo.model.bases.files import CONFIG, BaseFacts, check_base, check_config
from hubdpo.model.bases.load import BASE_PATTERNS


@dataclass(frozen=True)
class Base:
    """A base model found and checked: its identity for the manifests, the folder with its files, what they say."""

    ref: BaseRef
    folder: Path
    facts: BaseFacts | None = None


def find_base(name_or_path: str, revision: str | None = None, *, load_in_4bit: bool | None = None) -> Base:
    """Find a base, a folder or `USER/NAME[@REVISION]`, and pin it to a commit, without loading any weights.

    Raise UnsupportedBase when it cannot be trained on (`check_base` says why), ConfigError when the name is neither a
    folder nor a Hub id, HubError when the Hub does not have it.
    """
    local = Path(name_or_path)
    if local.is_dir():
        check_not_an_adapter(local, name_or_path)
        facts = check_base(open_snapshot(name_or_path), load_in_4bit=load_in_4bit)
        return Base(BaseRef(name=local.resolve().name, made_by=ancestors(local), **licence_of(local)), local, facts)
    repo_id, sha = _commit_of(name_or_path, revision)
    check_config(_downloaded(repo_id, sha, _what_it_is(repo_id, sha)), load_in_4bit=load_in_4bit)
    folder = download(repo_id, sha, allow_patterns=BASE_PATTERNS)
    facts = check_base(_downloaded(repo_id, sha, folder), load_in_4bit=load_in_4bit)
    ref = BaseRef(name=repo_id, repo_id=repo_id, revision=sha, made_by=ancestors(folder), **licence_of(folder))
    return Base(ref, folder, facts)


def check_base_options(config: TrainConfig, base: Base) -> None:
    """Raise ConfigError for a precision that would undo the base, and for layers that it does not have."""
    check_not_rounded_away(base.ref, load_in_4bit=config.load_in_4bit)
    facts, wanted = base.facts, config.checkpoint_layers
    if facts is None:
        return
    if isinstance(wanted, int) and facts.layers is not None and wanted > facts.layers:
        raise ConfigError(
            f"--checkpoint-layers {wanted} is more than the {facts.layers} layers of {facts.name}",
            hint="a number up to that, or `auto`; without the option all are recomputed",
        )
    check_targets(config.lora_target_modules, facts)


def look_at_base(config: TrainConfig) -> TrainConfig:
    """Check a base and the options about it within seconds, without downloading weights; return the config with its
    commit.

    Raise what `find_base` and `check_base_options` raise.
    """
    name = config.model_name_or_path
    if Path(name).is_dir():
        ref, folder = name, Path(name)
        check_not_an_adapter(folder, name)
    else:
        name, sha = _commit_of(name, config.model_revision)
        ref, folder = f"{name}@{sha}", _what_it_is(name, sha)
        config = config.model_copy(update={"model_name_or_path": name, "model_revision": sha})
    try:
        facts = check_base(open_snapshot(ref), load_in_4bit=config.load_in_4bit)
    except HubError:
        return config  # no answer, but it may be in the cache: `find_base` looks there
    check_base_options(config, Base(BaseRef(name=name, made_by=ancestors(folder)), folder, facts))
    return config


def _commit_of(name: str, revision: str | None) -> tuple[str, str]:
    if looks_like_folder(name):
        raise ConfigError(
            f"base model not found: {name}", hint="give a folder, or a Hub id such as Qwen/Qwen2-7B-Instruct"
        )
    repo_id, wanted = parse_ref(name).at(revision)
    with no_folder(name):
        return repo_id, resolve(repo_id, wanted)


def _what_it_is(name: str, sha: str) -> Path:
    """Download what tells one kind of model from another. Raise UnsupportedBase for an adapter."""
    folder = download(name, sha, allow_patterns=[CONFIG, ADAPTER_CONFIG, MERGE_FILE])
    check_not_an_adapter(folder, name)
    return folder


def _downloaded(name: str, sha: str, folder: Path) -> Snapshot:
    """Return the downloaded folder of a repo, under the repo's name."""
    return FolderSnapshot(folder, name=name, commit=sha)
