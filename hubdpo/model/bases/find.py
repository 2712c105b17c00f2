"""Find a base model, pin it to a commit, and check the options that depend on it. Imports no torch."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.lineage import ancestors, check_not_an_adapter, check_not_rounded_away
from hubdpo.artefacts.folders.model_files import (
    ADAPTER_CONFIG,
    BASE_PATTERNS,
    CONFIG,
    COPIED_FILES,
    LICENCE_FILES,
    TOKENIZER_FILES,
)
from hubdpo.artefacts.folders.named import base_instead
from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.artefacts.manifests.manifest import MERGE_FILE
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.cards.licences import licence_of
from hubdpo.config import TrainConfig
from hubdpo.config.repo_id import looks_like_folder
from hubdpo.config.train_groups import ALL_LINEAR, EXPERT_LAYERS
from hubdpo.errors import ConfigError, HubError
from hubdpo.hub.client import download, resolve
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.machine.refusals import in_units
from hubdpo.model.bases.files import check_base, check_config
from hubdpo.model.bases.identity import identified, model_hash
from hubdpo.model.bases.tensors import BaseFacts
from hubdpo.model.tokenizer.own_template import write_template

CONFIG_FILES = [CONFIG, ADAPTER_CONFIG, MERGE_FILE]
"""Small files that tell a base, an adapter and a merged model apart."""
NEEDED = [CONFIG, "tokenizer_config.json", "*.safetensors"]
"""Patterns of the files that every base has."""
FLAG = "--lora-target-modules"
HEAD, EMBEDDING = "lm_head", "embed_tokens"


@dataclass(frozen=True)
class Base:
    """A base model that was found and checked: its reference for the manifests, its folder, the facts it states."""

    ref: BaseRef
    folder: Path
    facts: BaseFacts


def copy_base_files(
    base: Path, licence: str | None, folder: Path, template: str | None, *, tokenizer: Path | None = None
) -> None:
    """Copy the base's tokenizer files unchanged, and its licence text when the licence is `other`.

    `template` is the source of a chat template, and `tokenizer` a folder with tokenizer files, in place of the base's.
    """
    for name in (*COPIED_FILES, *(LICENCE_FILES if licence == "other" else ())):
        source = tokenizer if tokenizer is not None and name in TOKENIZER_FILES else base
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if template is not None:
        write_template(template, folder)


def find_base(
    name_or_path: str, revision: str | None = None, *, load_in_4bit: bool | None = None, needs_template: bool = True
) -> Base:
    """Find a base, a folder or `USER/NAME[@REVISION]`, check it and pin it to a commit, without loading its weights.

    Raise UnsupportedBase when it cannot be trained on (`check_base` says why), ConfigError when the name is neither a
    folder nor a Hub id, HubError when the Hub does not have it.
    """
    if Path(name_or_path).is_dir():
        files = FolderSnapshot(name_or_path)
        check_not_an_adapter(files.folder, name_or_path)
    else:
        repo = _open(name_or_path, revision)
        # before its weights are downloaded
        check_config(_downloaded(repo, CONFIG_FILES, [CONFIG]), load_in_4bit=load_in_4bit)
        files = _downloaded(repo, BASE_PATTERNS, NEEDED)
    facts = check_base(files, load_in_4bit=load_in_4bit, needs_template=needs_template)
    stated = {"made_by": ancestors(files.folder), "memory": facts.memory, **licence_of(files.folder)}
    return Base(identified(files).model_copy(update=stated), files.folder, facts)


def base_folder(
    base: BaseRef, run_folder: Path | None = None, *, hint: str = "put it back where it was in training"
) -> Path:
    """Return the folder with the base of a run: on this machine, where `run_folder` remembers it, else from the Hub.

    Raise ConfigError, with `hint`, when the base was a folder that is gone or was changed; HubError when the Hub does
    not have it.
    """
    local = remembered_folder(run_folder, "model_name_or_path") if run_folder is not None else None
    if local is not None:
        check_unchanged(base, local, hint=hint)
        return local
    if base.repo_id is None:
        raise ConfigError(f"the base folder `{base.name}` is gone", hint=hint)
    with named_as_base():
        commit = resolve(base.repo_id, base.revision)
        return download(base.repo_id, commit, allow_patterns=BASE_PATTERNS, needed=NEEDED)


def check_unchanged(base: BaseRef, folder: Path, *, hint: str) -> None:
    """Raise ConfigError, with `hint`, for a folder that computes something else than the base of a run did."""
    if base.sha256 is not None and model_hash(folder) != base.sha256:
        raise ConfigError(f"`{folder}` holds another base than the run was trained on", hint=hint)


@contextmanager
def named_as_base() -> Iterator[None]:
    """Say in a HubError of the body that it is the base of an adapter which is missing."""
    try:
        yield
    except HubError as problem:
        message = f"the base of the adapter cannot be downloaded: {problem.message}"
        raise type(problem)(message, hint=problem.instead or problem.hint) from None


def check_base_options(config: TrainConfig, base: Base) -> None:
    """Raise ConfigError for a precision that would undo the base's merges, and for layers that it does not have."""
    check_not_rounded_away(base.ref, load_in_4bit=config.load_in_4bit)
    facts, layers = base.facts, config.checkpoint_layers
    if isinstance(layers, int) and facts.layers is not None and layers > facts.layers:
        raise ConfigError(
            f"--checkpoint-layers {layers} is more than the {console.counted(facts.layers, 'layer')} of {facts.name}",
            hint=f"--checkpoint-layers {facts.layers}, or --checkpoint-layers auto",
        )
    outside = [number for number in config.layers_to_transform or () if not 0 <= number < (facts.layers or number + 1)]
    if outside:
        inside = [number for number in config.layers_to_transform or () if number not in outside]
        raise ConfigError(
            f"{facts.name} has no layer {outside[0]}: it has {console.counted(facts.layers or 0, 'layer')}, from 0",
            hint=" ".join(f"--layers-to-transform {number}" for number in inside or [(facts.layers or 1) - 1]),
        )
    check_targets(config.lora_target_modules, facts)


def look_at_base(config: TrainConfig, fits: Callable[[Snapshot], None] | None = None) -> TrainConfig:
    """Check a base, and what depends on it, within seconds; return the config with the base's commit.

    No weights are downloaded. `fits` compares the base's files with an adapter. Raise what `find_base`,
    `check_base_options` and it raise.
    """
    name = config.model_name_or_path
    files: Snapshot
    if Path(name).is_dir():
        if config.model_revision is not None:
            raise ConfigError(
                f"`{name}` is a folder, which has no revision `{config.model_revision}`",
                hint="leave `--model-revision` out",
            )
        files, folder = FolderSnapshot(name), Path(name)
        check_not_an_adapter(folder, name)
    else:
        files = _open(name, config.model_revision)
        folder = _downloaded(files, CONFIG_FILES, [CONFIG]).folder
        config = config.model_copy(update={"model_name_or_path": files.name, "model_revision": files.commit})
    try:
        facts = check_base(files, load_in_4bit=config.load_in_4bit, needs_template=config.chat_template is None)
    except HubError:
        return config  # the Hub does not answer, but the base may be in the cache, where `find_base` looks
    if fits is not None:
        fits(files)
    check_base_options(config, Base(BaseRef(name=files.name, made_by=ancestors(folder)), folder, facts))
    if config.load_in_4bit and facts.expert_values:
        console.warn(
            f"NF4 leaves the experts of {facts.name} as they are: {in_units(2 * facts.expert_values)} in bfloat16, "
            "twice that in float32"
        )
    return config


def _open(name: str, revision: str | None) -> Snapshot:
    if looks_like_folder(name):
        raise ConfigError(f"base model not found: {name}", hint=base_instead(name))
    return open_snapshot(name, revision, repo_type="model", wanted=("model", "merged model"))


def _downloaded(repo: Snapshot, patterns: list[str], needed: list[str]) -> FolderSnapshot:
    """Download files of a repo and return them under the repo's name. Raise UnsupportedBase for an adapter."""
    folder = repo.fetch(patterns, needed=needed)
    check_not_an_adapter(folder, repo.name)
    return FolderSnapshot(folder, name=repo.name, commit=repo.commit)


def check_targets(targets: list[str], base: BaseFacts) -> None:
    """Raise ConfigError for a module that the base lacks, or on which an adapter would never be trained or merged.

    PEFT matches a name with the whole name of a layer, or with its end after a dot.
    """
    if targets == [ALL_LINEAR]:
        return
    for name in targets:
        rest = [other for other in targets if other != name]
        if _ends(HEAD, name):
            raise ConfigError(
                f"an adapter on `{HEAD}` would never be trained: TRL computes the log-probs from its weights directly",
                hint=_pasted(rest or [ALL_LINEAR]),
            )
        if _ends(EMBEDDING, name):
            if base.is_tied:
                raise ConfigError(
                    f"`{EMBEDDING}` of {base.name} is its output head as well, which an adapter cannot change for one "
                    "alone: nothing could be merged from it",
                    hint=_pasted(rest or [ALL_LINEAR]),
                )
        elif base.expert_values and name.rpartition(".")[2] in EXPERT_LAYERS:
            raise ConfigError(
                f"{base.name} is a mixture of experts, where PEFT takes `{name}` for its experts or routers, which are "
                "not adapted",
                hint=f"{FLAG} {ALL_LINEAR}",
            )
        elif not any(_ends(layer, name) for layer in base.linear_layers):
            raise ConfigError(f"{base.name} has no linear layer `{name}`", hint=_nearest(name, rest, base))


def _ends(layer: str, name: str) -> bool:  # as PEFT matches them
    return layer == name or layer.endswith(f".{name}")


def _nearest(name: str, rest: list[str], base: BaseFacts) -> str:
    known = sorted({layer.rpartition(".")[2] for layer in base.linear_layers})
    words = [word for word in re.split(r"[\s,;]+", name) if word]
    if len(words) > 1 and set(words) <= set(known):  # "q_proj,v_proj", as other tools take it
        return _pasted([*rest, *words])
    if near := difflib.get_close_matches(name, [*known, ALL_LINEAR], n=1, cutoff=0.8):
        return f"did you mean `{FLAG} {near[0]}`?"
    return f"{FLAG} {ALL_LINEAR}, or some of {', '.join(known)}"


def _pasted(names: Iterable[str]) -> str:
    return " ".join(f"{FLAG} {name}" for name in names)
