"""Find the adapters to merge and their base, and check that they belong together. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.folders.kinds import NOT_LOADED, read_run
from hubdpo.artefacts.folders.lineage import not_by_hubdpo
from hubdpo.artefacts.folders.model_files import ADAPTER_PATTERNS, ADAPTER_WEIGHTS, CHAT_TEMPLATE
from hubdpo.artefacts.manifests.manifest import RUN_FILE, file_entry
from hubdpo.artefacts.manifests.merge import MergedAdapter
from hubdpo.artefacts.manifests.run import AdapterRef, RunManifest
from hubdpo.cards.model.citations import method_of
from hubdpo.config import MergeConfig
from hubdpo.config.base import ADAPTERS
from hubdpo.config.merge import SAME_RANK
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.open import open_snapshot
from hubdpo.model.adapters.check import CheckedAdapter, check_adapter_files
from hubdpo.model.bases.find import base_folder
from hubdpo.model.untrusted import AGAIN

TOKENS = ("tokenizer.json", CHAT_TEMPLATE)


class Source(NamedTuple):
    """An adapter: its files, its reference for the manifest, its run, the folder of its base, and its weight."""

    adapter: CheckedAdapter
    ref: AdapterRef
    run: RunManifest
    base: Path
    weight: float

    @property
    def folder(self) -> Path:
        return self.adapter.folder

    @property
    def record(self) -> MergedAdapter:
        """What merge.json says of it."""
        run = self.run
        return MergedAdapter(
            adapter=self.ref, weight=self.weight, dataset=run.dataset, started_from=run.started_from,
            adopted=run.adopted, method=method_of(run), in_4bit=run.in_4bit,
        )  # fmt: skip


def find_sources(config: MergeConfig) -> list[Source]:
    """Find the adapters and their base, and check that the runs are finished.

    Raise ConfigError unless all of them have one base, were trained in one precision, and can be combined that way.
    """
    sources = [_find(*each) for each in zip(config.adapter, config.weights or [1.0], strict=True)]
    for source in sources[1:]:
        _check_same_base(sources[0], source)
        _say_other_tokens(sources[0], source)
    if len(sources) > 1:
        _check_combination(config, sources)
    return sources


def _find(name: str, weight: float) -> Source:
    adapter = open_snapshot(name, repo_type="model", wanted=ADAPTERS)
    folder, sha = adapter.fetch(ADAPTER_PATTERNS), adapter.commit
    if not (folder / RUN_FILE).exists():
        raise not_by_hubdpo(folder, name) or (
            ArtefactError(f"`{folder}` is not a run folder", hint="give the `--output-dir` of `hubdpo train`")
            if sha is None
            else ArtefactError(
                f"`{name}` is not an adapter that hubdpo released",
                hint="give a release of an adapter, USER/NAME@vX.Y.Z, or the `--output-dir` of `hubdpo train`",
            )
        )
    run = read_run(folder, but=NOT_LOADED, hint=None if sha is None else AGAIN)
    checked = check_adapter_files(folder)
    ref = adapter.as_adapter((run.files.get(ADAPTER_WEIGHTS) or file_entry(folder / ADAPTER_WEIGHTS)).sha256)
    # a release could name any folder of this machine, so only a local run is asked where its base is
    return Source(checked, ref, run, base_folder(run.base, folder if sha is None else None), weight)


def _check_same_base(first: Source, other: Source) -> None:
    # without hashes, one place is one base
    bases = [(source.run.base.repo_id, source.run.base.revision, source.run.base.sha256) for source in (first, other)]
    is_known = all(repo for repo, _, _ in bases) or all(sha256 for _, _, sha256 in bases)
    if bases[0] != bases[1] if is_known else first.base.resolve() != other.base.resolve():
        names = [f"`{source.ref.name}` was trained on {source.run.base.label}" for source in (first, other)]
        raise ConfigError(f"{names[0]}, and {names[1]}", hint="merge adapters of one base at one commit")


def _say_other_tokens(first: Source, other: Source) -> None:
    """Warn where the adapters were trained with other tokens or templates: the merged model has those of the first."""
    for name in TOKENS:
        files = [source.folder / name for source in (first, other)]
        contents = [file.read_bytes() if file.is_file() else b"" for file in files]
        if contents[0] != contents[1]:
            console.warn(f"`{other.ref.name}` has another {name} than `{first.ref.name}`, which is taken")
    if first.run.template_kwargs != other.run.template_kwargs:
        console.warn(f"`{other.ref.name}` was trained with other `--chat-template-kwargs` than `{first.ref.name}`")


def _check_combination(config: MergeConfig, sources: list[Source]) -> None:
    """Raise ConfigError for what PEFT's add_weighted_adapter cannot combine, or would combine to something else."""
    precisions = {source.run.in_4bit for source in sources} - {None}
    if len(precisions) > 1 and config.base_weights == "as-trained":
        nf4, other = (next(source.ref.name for source in sources if source.run.in_4bit is way) for way in (True, False))
        raise ConfigError(f"`{nf4}` was trained on NF4 weights, and `{other}` was not", hint="--base-weights original")
    if True in precisions and config.base_weights == "as-trained":
        for name in (source.ref.name for source in sources if source.run.in_4bit is None):
            console.warn(f"`{name}` is merged into NF4 weights; it is not known whether it was trained on them")
    for source in sources:
        if source.adapter.config.get("use_dora"):
            raise ConfigError(
                f"`{source.ref.name}` is DoRA, whose change is no sum that could be weighted", hint="merge it alone"
            )
    ranks = [source.adapter.largest_rank for source in sources]
    if config.combination_type in SAME_RANK and len(set(ranks)) > 1:
        shown = " and ".join(f"`{source.ref.name}` {rank}" for source, rank in zip(sources, ranks, strict=True))
        raise ConfigError(
            f"`{config.combination_type}` combines adapters of one rank, and these have {shown}",
            hint="--combination-type cat, or svd",
        )
