"""What a release holds: an allow-list of files, in canonical form, with nothing of this machine in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubdpo.artefacts.folders.dataset_folder import read_dataset_folder
from hubdpo.artefacts.folders.kinds import ADAPTER_FILES, MEASURED_FILES
from hubdpo.artefacts.folders.model_files import COPIED_FILES
from hubdpo.artefacts.formats.bounded import parse_json, read_object, read_text
from hubdpo.artefacts.formats.kept_sections import generated, loading_release
from hubdpo.artefacts.formats.safetensors_header import read_shapes
from hubdpo.artefacts.manifests.bundle import Bundle, Kind, bundle_id_of
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.file_entries import FileEntry, bytes_entry, file_entry
from hubdpo.artefacts.manifests.manifest import (
    BUNDLE_FILE,
    CARD_FILE,
    EVAL_FILE,
    MERGE_FILE,
    METRICS_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RUN_FILE,
    canonical_json,
)
from hubdpo.artefacts.manifests.merge import read_merged_folder
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.cards.licences import LICENCE_FILES, adapter_licence
from hubdpo.cards.lint.body import LOCAL_PATH
from hubdpo.cards.lint.lint import require_sound_card
from hubdpo.cards.model.card import Release, render_model_card
from hubdpo.cards.model.merged_card import render_merged_card
from hubdpo.cards.model.serving import Adapter
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.model.adapters.config import canonical_adapter_config
from hubdpo.secrets import find_secrets

MERGED_FILE = re.compile(
    rf"model(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index\.json|config\.json|{re.escape(PROBES_FILE)}|"
    + "|".join(map(re.escape, [*COPIED_FILES, *LICENCE_FILES]))
)
TEXT = (".json", ".jsonl", ".md", ".jinja", ".txt")


@dataclass(frozen=True)
class BundleContent:
    """The files of a release by their path in the repo: bytes made here, or a file of the folder to send as it is."""

    kind: Kind
    files: dict[str, bytes | Path]
    manifest: Bundle
    card: str = field(repr=False)

    def read(self, name: str) -> bytes:
        return content_of(self.files[name])


def dataset_bundle(folder: Path, version: str, *, repo: str) -> BundleContent:
    """Bundle a dataset folder as it is, but for the line of its card that says how to load the release.

    Raise ArtefactError when it is incomplete, was edited, holds a credential or has a card that is not sound.
    """
    manifest = read_dataset_folder(folder)
    names = [*manifest.files, PREPARE_FILE]
    files: dict[str, bytes | Path] = {name: folder / name for name in names}
    check_texts(files, quoting=(CARD_FILE,))
    card = loading_release(read_text(folder / CARD_FILE), repo, f"v{version}")
    # what people wrote in it is looked at once it is known what else the repo has
    require_sound_card("dataset", {**files, CARD_FILE: generated(card).encode()})
    return _bundle("dataset", version, {**files, CARD_FILE: card.encode()})


def adapter_bundle(
    folder: Path,
    run: RunManifest,
    version: str,
    *,
    repo: str,
    base: BaseRef,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
) -> BundleContent:
    """Bundle a finished run whose base is `base`, a Hub id at a commit.

    Raise ArtefactError when a file is missing, the weights are not finite or never trained, a text holds a secret or a
    path of this machine, or the card is not sound; LicenceError when the licence is not known.
    """
    _check_base(base)
    _check_weights(folder / ADAPTER_FILES[0])
    licence = adapter_licence(base, run.dataset.license, license, name=license_name, link=license_link)
    run = run.model_copy(update={"base": base})
    evaluation = EvalReport.read(folder / EVAL_FILE) if (folder / EVAL_FILE).exists() else None
    plots = [path.relative_to(folder).as_posix() for path in sorted((folder / "plots").glob("*.png"))]
    config = canonical_adapter_config(read_object(folder / "adapter_config.json"), base)
    files: dict[str, bytes | Path] = {
        RUN_FILE: canonical_json(run.model_dump(mode="json")).encode(),
        "adapter_config.json": canonical_json(config).encode(),
    }
    wanted = [*ADAPTER_FILES, *COPIED_FILES, *MEASURED_FILES, *LICENCE_FILES, *plots]
    files |= {name: folder / name for name in wanted if (folder / name).is_file()}
    adapter = Adapter(config, read_shapes(folder / ADAPTER_FILES[0]), [*files, CARD_FILE], repo, f"v{version}")
    release = Release(repo, version, licence, [*files, CARD_FILE])
    card = render_model_card(run, evaluation, release=release, adapter=adapter, log=_logged(folder))
    files[CARD_FILE] = card.encode()
    # what the models answered is quoted in these two
    check_texts(files, quoting=(CARD_FILE, EVAL_FILE))
    require_sound_card("adapter", files)
    return _bundle("adapter", version, files, card=card)


def merged_bundle(
    folder: Path,
    version: str,
    *,
    repo: str,
    base: BaseRef,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
) -> BundleContent:
    """Bundle a merged model. Raise what `adapter_bundle` raises; nothing of it may have been changed."""
    _check_base(base)
    manifest = read_merged_folder(folder).model_copy(update={"base": base})
    licence = adapter_licence(base, manifest.dataset.license, license, name=license_name, link=license_link)
    card = render_merged_card(manifest, repo=repo, version=version, licence=licence)
    files: dict[str, bytes | Path] = {name: folder / name for name in manifest.files if MERGED_FILE.fullmatch(name)}
    files |= {CARD_FILE: card.encode(), MERGE_FILE: canonical_json(manifest.model_dump(mode="json")).encode()}
    check_texts(files)
    require_sound_card("merged", files)
    return _bundle("merged", version, files, card=card)


def _check_base(base: BaseRef) -> None:
    if base.repo_id is None:
        raise ConfigError(
            f"the run used a local base, `{base.name}`, which nobody else can load",
            hint="add `--base-model USER/NAME` with the Hub id of the same base",
        )


def with_card(content: BundleContent, card: str, *, beside: Collection[str] = ()) -> BundleContent:
    """Return the bundle with another card, which may also lead to the files `beside` that the repo has already.

    Raise ArtefactError when the card is not sound.
    """
    files = {name: value for name, value in content.files.items() if name != BUNDLE_FILE}
    files[CARD_FILE] = card.encode()
    require_sound_card(content.kind, files, beside=beside)
    hashed = {name: entry for name, entry in content.manifest.files.items() if name != CARD_FILE}
    return _bundle(content.kind, content.manifest.version, files, card=card, hashed=hashed)


def _logged(folder: Path) -> list[dict[str, Any]]:
    log = folder / METRICS_FILE
    lines = read_text(log).splitlines() if log.is_file() else []
    try:
        return [parse_json(line, ours=True) for line in lines]
    except ValueError as problem:
        raise ArtefactError(f"`{log}` cannot be read: {problem}", hint="hubdpo train again, with `--resume`") from None


def content_of(value: bytes | Path) -> bytes:
    return value if isinstance(value, bytes) else value.read_bytes()


def git_blob_id(data: bytes) -> str:
    """Return the id that git gives to a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _bundle(
    kind: Kind,
    version: str,
    files: dict[str, bytes | Path],
    *,
    card: str = "",
    hashed: Mapping[str, FileEntry] | None = None,
) -> BundleContent:
    """Make the list of files; those in `hashed` are not read again."""
    entries = dict(hashed or {})
    for name, value in files.items():
        if name not in entries:
            entries[name] = bytes_entry(value) if isinstance(value, bytes) else file_entry(value)
    entries = dict(sorted(entries.items()))
    manifest = Bundle(kind=kind, version=version, bundle_id=bundle_id_of(version, entries), files=entries)
    own = {BUNDLE_FILE: canonical_json(manifest.model_dump(mode="json")).encode()}
    return BundleContent(kind, dict(sorted({**files, **own}.items())), manifest, card)


def _check_weights(path: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ArtefactError(f"`{path.name}` is missing from {path.parent}", hint="run `hubdpo train` again")
    try:
        weights = load_file(path)
    except SafetensorError as problem:
        raise ArtefactError(f"`{path.name}` is broken: {problem}", hint="run `hubdpo train` again") from None
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ArtefactError(f"the adapter is not finite: {name}", hint="train with a lower `--learning-rate`")
    if not any(weight.any() for name, weight in weights.items() if "lora_B" in name):
        raise ArtefactError("the adapter never trained: every lora_B is zero", hint="train for at least one step")


def check_texts(files: dict[str, bytes | Path], *, quoting: tuple[str, ...] = ()) -> None:
    """Refuse credentials in any text, and paths of this machine but in those of the base and those `quoting` rows."""
    for name, value in files.items():
        if not name.endswith(TEXT):
            continue
        text = content_of(value).decode("utf-8", "replace")
        if secrets := find_secrets(text):
            raise ArtefactError(
                f"`{name}` holds a {secrets[0].kind}",
                hint="hubdpo prepare ... --scan secrets" if name in quoting else "remove it, and revoke it",
            )
        if name not in (*COPIED_FILES, *quoting) and LOCAL_PATH.search(text):
            raise ArtefactError(f"`{name}` holds a path of this machine", hint="remove the path from the file")
