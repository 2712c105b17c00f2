"""Find what is evaluated: the adapter of a run, a release or another tool, or a whole model. Imports no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.folders.hashes import files_hash
from hubdpo.artefacts.folders.kinds import EVALUATED_FILES, NOT_LOADED, read_run
from hubdpo.artefacts.folders.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_PATTERNS,
    ADAPTER_WEIGHTS,
    BASE_PATTERNS,
    CHAT_TEMPLATE,
    CONFIG,
    TOKENIZER_CONFIG,
)
from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.artefacts.formats.bounded import JsonObject, shortened
from hubdpo.artefacts.manifests.manifest import MERGE_FILE, RUN_FILE, sha256_file
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import AdapterRef, DatasetRef, RunManifest
from hubdpo.config import EvaluateConfig
from hubdpo.config.base import MODELS
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.model.adapters.check import CheckedAdapter, check_adapter_files
from hubdpo.model.adapters.start import StartAdapter, find_start
from hubdpo.model.bases.find import Base, base_folder, find_base, named_as_base
from hubdpo.model.bases.identity import model_hash
from hubdpo.model.untrusted import AGAIN

ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
"""Files that decide what an adapter computes beside its base."""
GIVE_BASE = "add `--model-name-or-path BASE`"


@dataclass(frozen=True)
class Subject:
    """An adapter, or a whole model, and what is known of its training. `is_local`: a folder was named, no repo."""

    ref: AdapterRef
    folder: Path
    is_local: bool
    adapter: CheckedAdapter | None
    run: RunManifest | None = None
    merge: MergeManifest | None = None

    @property
    def is_whole(self) -> bool:
        return self.adapter is None

    @property
    def template_kwargs(self) -> JsonObject | None:
        """Variables with which the chat template was rendered in training."""
        return self.run.template_kwargs if self.run is not None else None

    @property
    def is_run_folder(self) -> bool:
        return self.is_local and self.run is not None

    @property
    def key(self) -> str:
        """The hash of the files that decide what it computes beside its base."""
        return model_hash(self.folder) if self.is_whole else files_hash(self.folder, ADAPTER_FILES)

    def tokenizer_folder(self, base: Path) -> Path:
        """Return the folder with the tokenizer of the training: the base's, unless the adapter has its own."""
        if self.run is not None:
            return self.folder if self.run.has_own_tokenizer else base
        has_template = any((self.folder / name).is_file() for name in (CHAT_TEMPLATE, TOKENIZER_CONFIG))
        return self.folder if self.is_whole or has_template else base

    def output_dir(self, config: EvaluateConfig) -> Path:
        """Return the folder for the results: that of the option, the run folder, or one named after the model."""
        if config.output_dir is not None:
            is_own = self.is_run_folder and config.output_dir.resolve() == self.folder.resolve()
            return self.folder if is_own else config.output_dir
        if self.is_run_folder:
            return self.folder
        version = self.ref.version or (self.ref.revision or "")[:12]
        return Path("-".join(filter(None, ["evaluation", self.ref.name.replace("/", "-"), version])))

    def datasets(self, config: EvaluateConfig) -> list[str]:
        """Return the datasets to evaluate on. Raise ConfigError where none is given and none is known."""
        if config.dataset:
            # a folder counts once, however it is spelled
            places = {Path(name).resolve() if Path(name).is_dir() else name: name for name in config.dataset}
            return list(places.values())
        if (known := self.trained_on) is not None:
            return [known]
        data = self.training_data
        if self.is_run_folder and data is not None:
            raise ConfigError(f"the dataset folder `{data.name}` is gone", hint="give it with `--dataset DIR`")
        raise ConfigError(
            f"`{config.model}` does not say where the pairs are that were held out",
            hint="add `--dataset DIR`, or `--dataset USER/NAME`",
        )

    @property
    def training_data(self) -> DatasetRef | None:
        """The dataset of the training, where it is known."""
        source = self.run or self.merge
        return source.dataset if source is not None else None

    @property
    def trained_on(self) -> str | None:
        """What to open for the data of the training: a repo at its commit, or a folder of this machine."""
        if (data := self.training_data) is not None and data.repo_id:
            return data.place
        local = remembered_folder(self.folder, "dataset") if self.is_run_folder else None
        return str(local) if local is not None else None

    def in_4bit(self, config: EvaluateConfig) -> bool:
        """Return whether the training had the base in NF4, by its run, else by the option.

        Raise ConfigError where they contradict each other.
        """
        known = self.run.in_4bit if self.run is not None else None
        if known is not None and config.load_in_4bit not in (None, known):
            raise ConfigError(
                f"`{config.model}` was trained {'on NF4 weights' if known else 'without NF4'}",
                hint="leave `--load-in-4bit` out; `--base-weights original` measures without NF4",
            )
        return bool(known if known is not None else config.load_in_4bit)


def find_subject(config: EvaluateConfig) -> Subject:
    """Find the model to evaluate.

    Raise ArtefactError for anything but an adapter or a model, for a run that is not finished or was changed, and for
    an adapter that is not LoRA; HubError when the Hub does not have it.
    """
    files = open_snapshot(config.model, repo_type="model", wanted=MODELS)
    is_local, run = files.commit is None, None
    is_run = RUN_FILE in files.files or (is_local and not {ADAPTER_CONFIG, CONFIG} & files.files.keys())
    if is_run or ADAPTER_CONFIG in files.files:
        folder = files.fetch(ADAPTER_PATTERNS)
        if is_run:
            run = read_run(folder, but=EVALUATED_FILES) if is_local else read_run(folder, but=NOT_LOADED, hint=AGAIN)
        return Subject(_ref(files, folder), folder, is_local, check_adapter_files(folder), run)
    if CONFIG not in files.files:
        raise ArtefactError(
            f"`{config.model}` holds neither an adapter nor a model: it has no {ADAPTER_CONFIG} and no {CONFIG}",
            hint="check the name",
        )
    if MERGE_FILE not in files.files and config.model_name_or_path is None:
        raise ConfigError(f"`{config.model}` is a whole model, and names no base to compare with", hint=GIVE_BASE)
    folder = files.fetch(BASE_PATTERNS)
    return Subject(_ref(files, folder), folder, is_local, None, merge=files.merge)


def _ref(files: Snapshot, folder: Path) -> AdapterRef:
    weights = folder / ADAPTER_WEIGHTS
    return files.as_adapter(sha256_file(weights) if weights.is_file() else model_hash(folder))


def find_base_of(subject: Subject, config: EvaluateConfig) -> Base:
    """Find the base of a model. Raise ConfigError, with the option for it, when it names none that can be had."""
    named = subject.run or subject.merge
    own_template = subject.tokenizer_folder(Path()) == subject.folder
    name, revision = config.model_name_or_path, named.base.revision if named is not None else None
    if name is None and named is not None and named.base.repo_id is None:
        folder = subject.folder if subject.is_local else None
        name = str(base_folder(named.base, folder, hint="give it with `--model-name-or-path DIR`"))
    elif name is None and named is not None:
        name = named.base.repo_id
    elif name is None and subject.adapter is not None:
        if (by_adapter := subject.adapter.named_base(is_local=subject.is_local)) is None:
            words = f"`{subject.ref.name}` names the base {subject.adapter.base_in_words}, which is not on this machine"
            raise ConfigError(words, hint=GIVE_BASE)
        name, revision = by_adapter
    with named_as_base():
        return find_base(str(name), None if "@" in str(name) else revision, needs_template=not own_template)


def find_reference(config: EvaluateConfig, subject: Subject) -> StartAdapter | None:
    """Return the adapter that a run started from, where it is the reference of the rewards.

    Raise ConfigError when it is gone, or was changed.
    """
    run = subject.run
    ref = run.started_from if run is not None else None
    if run is None or ref is None or not run.is_frozen_reference or not run.is_compared:
        return None
    here = remembered_folder(subject.folder, "adapter") if subject.is_local else None
    on_hub = f"{ref.repo_id}@{ref.revision}" if ref.repo_id is not None else None
    name = config.adapter or (str(here) if here is not None else on_hub)
    if name is None:
        raise ConfigError(
            f"the adapter folder `{ref.name}`, from which the run started, is gone", hint="give it with `--adapter DIR`"
        )
    start = find_start(name)
    if start.ref.sha256 != ref.sha256:
        raise ConfigError(
            f"`{name}` holds other weights than those that the run started from", hint="give them with `--adapter`"
        )
    return start


def find_other(config: EvaluateConfig, subject: Subject, base: Base) -> Subject | None:
    """Return the adapter to compare with. Raise ConfigError unless it is an adapter of the same base."""
    if config.against is None:
        return None
    if subject.is_whole:
        raise ConfigError(
            "`--against` compares two adapters, and this is a whole model", hint="evaluate each of them by itself"
        )
    other = find_subject(config.model_copy(update={"model": config.against}))
    if other.key == subject.key:
        raise ConfigError(f"`{config.against}` is the adapter that is evaluated", hint="give another one")
    if other.adapter is None:
        raise ConfigError(f"`{config.against}` is a whole model, not an adapter", hint="give an adapter")
    if other.adapter.is_built_in_full:
        raise ConfigError(
            f"`{config.against}` changes the base when it is loaded, so it cannot stand beside another adapter",
            hint=f"hubdpo evaluate {shlex.quote(config.against)}",
        )
    named = other.run.base.repo_id if other.run is not None else other.adapter.config.get("base_model_name_or_path")
    if config.model_name_or_path is None and base.ref.repo_id is not None and named != base.ref.repo_id:
        raise ConfigError(
            f"`{config.against}` is an adapter of {shortened(str(named), 100)}, not of {base.ref.repo_id}",
            hint="give an adapter of the same base; where it is a copy of it, name it with `--model-name-or-path`",
        )
    hashes = {base.ref.sha256, other.run.base.sha256 if other.run is not None else None} - {None}
    if config.model_name_or_path is None and len(hashes) > 1:
        raise ConfigError(
            f"`{config.against}` is an adapter of another base than `{base.folder}`", hint="give one of the same base"
        )
    return other
