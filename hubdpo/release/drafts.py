"""The files of a release of each kind: an allow-list, in canonical form, no credentials, nothing of this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.artefacts.folders.kinds import damage_of_results, published_files, read_dataset_folder
from hubdpo.artefacts.folders.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CHAT_TEMPLATE,
    COPIED_FILES,
    LICENCE_FILES,
)
from hubdpo.artefacts.folders.run_folder import train_again
from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.kept_sections import loading_release, split_card
from hubdpo.artefacts.formats.metrics_log import read_log
from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import (
    CARD_FILE,
    EVAL_FILE,
    MERGE_FILE,
    METRICS_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RUN_FILE,
    FileEntry,
    bytes_entry,
    canonical_json,
    file_entry,
)
from hubdpo.artefacts.manifests.merge import read_merged_folder
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.cards.getting import pip_line
from hubdpo.cards.licences import adapter_licence, merged_licence
from hubdpo.cards.lint.body import LOCAL_PATH
from hubdpo.cards.lint.lint import require_sound_card
from hubdpo.cards.model.card import Release, render_merged_card, render_model_card
from hubdpo.cards.model.serving import Adapter
from hubdpo.config import PushConfig
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.model.adapters.check import check_adapter_files
from hubdpo.model.adapters.config import canonical_adapter_config
from hubdpo.model.tokenizer.chat_template import content_rules
from hubdpo.release.snapshot import Content, ReleaseSnapshot
from hubdpo.secrets import find_secrets
from hubdpo.version import __version__, requirement

if TYPE_CHECKING:
    import pyarrow as pa

MERGED_FILE = re.compile(
    rf"model(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index\.json|config\.json|{re.escape(PROBES_FILE)}|"
    + "|".join(map(re.escape, [*COPIED_FILES, *LICENCE_FILES]))
)
ROWS_AT_ONCE = 1024
TEXT = (".json", ".jsonl", ".md", ".jinja", ".txt")


@dataclass(frozen=True)
class Draft:
    """A checked folder that can be released as any version: everything but the card and `hubdpo.json`.

    `files` maps a path in the repo to the bytes made for it, or to the file that is sent unchanged. `entries` has the
    size and SHA-256 of each, computed once. `card` renders the generated card for a version.
    """

    kind: Kind
    files: dict[str, Content]
    entries: dict[str, FileEntry]
    card: Callable[[str], str]
    base: BaseRef | None = None
    """What the adapter needs in order to be loaded."""

    def release(self, version: str, card: str | None = None, *, beside: Collection[str] = ()) -> ReleaseSnapshot:
        """Return the release with this card, by default the generated one, which may link to files `beside` it.

        Raise ArtefactError for a card that is not sound.
        """
        data = (card if card is not None else self.card(version)).encode()
        files: dict[str, Content] = {**self.files, CARD_FILE: data}
        require_sound_card(self.kind, files, beside=beside)
        return ReleaseSnapshot(self.kind, version, files, {**self.entries, CARD_FILE: bytes_entry(data)})


def dataset_draft(config: PushConfig) -> Draft:
    """Check a dataset folder, which is released as it is, but for the line of its card that loads the release.

    Raise ArtefactError when it is incomplete, was edited, holds a credential or has a card that is not sound.
    """
    folder = config.folder
    manifest = read_dataset_folder(folder)
    if config.secrets == "refuse":
        check_rows(folder, manifest)
    files: dict[str, Content] = {name: folder / name for name in [*manifest.files, PREPARE_FILE]}
    text = read_text(folder / CARD_FILE)

    def card(version: str) -> str:
        get = pip_line(requirement()) if manifest.hubdpo_version == __version__ else ""
        return loading_release(text, config.repo, f"v{version}", get)

    check_texts(files, quoting=(CARD_FILE,))
    # the kept sections are checked later, when it is known which other files the repo has
    require_sound_card("dataset", {**files, CARD_FILE: split_card(card(config.version)).generated.encode()})
    del files[CARD_FILE]
    return Draft("dataset", files, _entries(files, manifest.files), card)


def adapter_draft(config: PushConfig, run: RunManifest, base: BaseRef) -> Draft:
    """Check a finished run whose base is `base`, a Hub id at a commit.

    Raise ArtefactError when a file is missing, the weights are not finite or never trained, a text holds a secret or a
    path of this machine, or the card is not sound; LicenceError when the licence is not known.
    """
    folder, repo = config.folder, config.repo
    _require_hub_base(base)
    if not run.files and (damage := _damage_of_older_run(folder, run)):  # others were compared with their hashes
        raise ArtefactError(f"the run in {folder} cannot be released: {damage}", hint=train_again(folder, run))
    adapter = check_adapter_files(folder)
    _check_weights(folder / ADAPTER_WEIGHTS)
    licence = adapter_licence(
        base, run.dataset.license if run.dataset else None, config.license, name=config.license_name,
        link=config.license_link, start=run.started_from, adopted=run.adopted,
    )  # fmt: skip
    evaluation = EvalReport.read(folder / EVAL_FILE) if (folder / EVAL_FILE).exists() else None
    settings = canonical_adapter_config(adapter.config, base)
    config_file = canonical_json(settings).encode()
    of_release = run.files | {ADAPTER_CONFIG: bytes_entry(config_file)} if run.files else {}
    run = run.model_copy(update={"base": base, "files": of_release})
    files: dict[str, Content] = {name: folder / name for name in published_files(folder)}
    files |= {RUN_FILE: canonical_json(run.model_dump(mode="json")).encode(), ADAPTER_CONFIG: config_file}
    files.pop(CARD_FILE, None)
    names = [*files, CARD_FILE]
    log = read_log(folder / METRICS_FILE) if METRICS_FILE in files else []

    def card(version: str) -> str:
        release = Release(repo, version, licence, names)
        served = Adapter(settings, adapter.shapes, names, repo, f"v{version}", own_template=run.has_own_template)
        return render_model_card(run, evaluation, release=release, adapter=served, log=log)

    # the card and the report quote answers of the models
    _check_texts_and_card("adapter", files, card(config.version), quoting=(CARD_FILE, EVAL_FILE))
    return Draft("adapter", files, _entries(files, run.files), card, base)


def merged_draft(config: PushConfig, base: BaseRef) -> Draft:
    """Check a merged model, of which nothing may have been changed. Raise what `adapter_draft` raises."""
    folder = config.folder
    _require_hub_base(base)
    manifest = read_merged_folder(folder).model_copy(update={"base": base})
    licence = merged_licence(manifest, base, config.license, name=config.license_name, link=config.license_link)
    files: dict[str, Content] = {name: folder / name for name in manifest.files if MERGED_FILE.fullmatch(name)}
    files[MERGE_FILE] = canonical_json(manifest.model_dump(mode="json")).encode()

    def card(version: str) -> str:
        return render_merged_card(manifest, repo=config.repo, version=version, licence=licence)

    _check_texts_and_card("merged", files, card(config.version))
    return Draft("merged", files, _entries(files, manifest.files), card)


def _damage_of_older_run(folder: Path, run: RunManifest) -> str | None:
    """Say what is wrong with the files of a run of hubdpo 0.3, which recorded no hashes."""
    template = folder / CHAT_TEMPLATE
    if template.is_file() and content_rules(read_text(template)) is None:
        return f"`{CHAT_TEMPLATE}` is no chat template"
    return damage_of_results(folder, run)


def _check_texts_and_card(kind: Kind, files: dict[str, Content], card: str, *, quoting: tuple[str, ...] = ()) -> None:
    with_card: dict[str, Content] = {**files, CARD_FILE: card.encode()}
    check_texts(with_card, quoting=quoting)
    require_sound_card(kind, with_card)


def _entries(files: dict[str, Content], verified: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Return the size and hash of each file; those that were just compared with their manifest are not hashed again."""
    return {
        name: bytes_entry(content) if isinstance(content, bytes) else verified.get(name) or file_entry(content)
        for name, content in files.items()
    }


def _require_hub_base(base: BaseRef) -> None:
    if base.repo_id is None:
        raise ConfigError(
            f"the run used a local base, `{base.name}`, which nobody else can load",
            hint="add `--base-model USER/NAME` with the Hub id of the same base",
        )


def _check_weights(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(path)
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ArtefactError(f"the adapter is not finite: {name}", hint="train with a lower `--learning-rate`")
    if not any(weight.any() for name, weight in weights.items() if "lora_B" in name):
        raise ArtefactError("the adapter never trained: every lora_B is zero", hint="train for at least one step")


def check_texts(files: dict[str, Content], *, quoting: tuple[str, ...] = ()) -> None:
    """Refuse credentials in any text, and paths of this machine.

    Files copied from the base and files `quoting` rows may hold paths, which others wrote.
    """
    for name, content in files.items():
        if not name.endswith(TEXT):
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8", "replace")
        if secrets := find_secrets(text):
            raise ArtefactError(
                f"`{name}` holds a {secrets[0].kind}",
                hint="hubdpo prepare ... --scan secrets" if name in quoting else "remove it, and revoke it",
            )
        if name not in (*COPIED_FILES, *quoting) and LOCAL_PATH.search(text):
            raise ArtefactError(f"`{name}` holds a path of this machine", hint="remove the path from the file")


def check_links(folder: Path) -> None:
    """Raise ArtefactError for a link that leaves the folder: its target was not made here."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ArtefactError(
                f"`{path.relative_to(folder)}` is a link to outside of the folder",
                hint="copy its target into the folder, or remove the link",
            )


def check_rows(folder: Path, manifest: PrepareManifest) -> None:
    """Raise ArtefactError for a row that holds a credential, unless `prepare` scanned the rows already.

    The message names the file, the row and the kind of credential, never its value.
    """
    if manifest.config.get("scan") == "secrets":
        return
    import pyarrow.parquet as pq

    with console.progress("looking for credentials", sum(manifest.splits.values())) as bar:
        for name in manifest.files:
            if not name.endswith(".parquet"):
                continue
            first = 0
            with pq.ParquetFile(folder / name) as file:
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                    for row, text in _texts(batch):
                        if secrets := find_secrets(text):
                            raise ArtefactError(
                                f"row {first + row + 1:,} of `{name}` holds a {secrets[0].kind}",
                                hint="hubdpo prepare ... --scan secrets [--redact]; or `--secrets keep` if it is not a "
                                "credential",
                            )
                    first += batch.num_rows
                    bar.advance(bar.task_ids[0], batch.num_rows)


def _texts(batch: pa.RecordBatch) -> Iterator[tuple[int, str]]:
    """Yield each text in a batch, with its row number: plain columns, and listed messages or JSON objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in batch.columns:
        rows = range(len(column))
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            rows, column = pc.list_parent_indices(column).to_pylist(), pc.list_flatten(column)
        if isinstance(column, pa.ExtensionArray):  # JSON
            column = column.storage
        fields = column.flatten() if pa.types.is_struct(column.type) else [column]
        for field in fields:
            if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                yield from ((row, text) for row, text in zip(rows, field.to_pylist(), strict=True) if text)
