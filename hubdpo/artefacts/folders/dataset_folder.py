"""Read a dataset folder, and check it against its manifest."""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.folders.walk import files_below
from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.manifests.file_entries import FileEntry, verify_files
from hubdpo.artefacts.manifests.manifest import CARD_FILE, PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest, card_entry
from hubdpo.errors import ArtefactError


def read_dataset_folder(folder: Path) -> PrepareManifest:
    """Read and verify a dataset folder: files have the recorded hashes, and there are no other data files.

    Only the generated part of the card is checked; kept sections and the list of releases may have changed. Raise
    ArtefactError if the folder is missing, incomplete or was edited.
    """
    again = "run `hubdpo prepare` again, or restore the folder"
    if not folder.is_dir():
        raise ArtefactError(
            f"dataset folder not found: {folder}", hint=f"create it with `hubdpo prepare SOURCE -o {folder}`"
        )
    manifest = PrepareManifest.read(folder / PREPARE_FILE)
    checked_card = {CARD_FILE} if _is_generated_card(folder, manifest.files.get(CARD_FILE)) else set()
    verify_files(folder, {name: e for name, e in manifest.files.items() if name not in checked_card}, hint=again)
    for path in files_below(folder):
        if path.suffix == ".parquet" and path.relative_to(folder).as_posix() not in manifest.files:
            raise ArtefactError(f"`{path.relative_to(folder)}` in {folder} was not written by prepare", hint=again)
    return manifest


def _is_generated_card(folder: Path, entry: FileEntry | None) -> bool:
    card = folder / CARD_FILE
    return card.is_file() and card_entry(read_text(card)) == entry
