"""Tell dataset, run and merged folders apart, read them, and list the files that a release takes from each."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from hubdpo.artefacts.folders.lineage import not_by_hubdpo
from hubdpo.artefacts.folders.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CHAT_TEMPLATE,
    COPIED_FILES,
    LICENCE_FILES,
    TOKENIZER_CONFIG,
)
from hubdpo.artefacts.folders.named import RELEASED, check_named, meant
from hubdpo.artefacts.folders.run_folder import train_again
from hubdpo.artefacts.folders.sweep_folder import refuse_sweep
from hubdpo.artefacts.folders.walk import files_below
from hubdpo.artefacts.formats.bounded import read_bytes, read_object, read_text
from hubdpo.artefacts.formats.metrics_log import read_log
from hubdpo.artefacts.formats.pair_scores import from_lines
from hubdpo.artefacts.formats.safetensors_header import read_header
from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import (
    CARD_FILE,
    CURVES_FILE,
    EVAL_FILE,
    EVAL_PAIRS_FILE,
    MERGE_FILE,
    METRICS_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RUN_FILE,
    FileEntry,
    file_entry,
    verify_files,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest, card_entry
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ArtefactError

EVALUATED_FILES = (EVAL_FILE, EVAL_PAIRS_FILE, PROBES_FILE, CURVES_FILE)
"""Files of a run that `hubdpo evaluate` writes again."""
RUN_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, *COPIED_FILES, *LICENCE_FILES, METRICS_FILE, *EVALUATED_FILES)
"""Files that a run may have and that a release takes, without card, `run.json` and plots of others."""
NOT_LOADED = (*LICENCE_FILES, METRICS_FILE, *EVALUATED_FILES)
"""Those that say something about the adapter; loading reads none of them."""
_KINDS: dict[str, Kind] = {RUN_FILE: "adapter", PREPARE_FILE: "dataset", MERGE_FILE: "merged"}
_READERS: dict[str, Callable[[Path], object]] = {
    ADAPTER_WEIGHTS: read_header,
    METRICS_FILE: read_log,
    EVAL_FILE: lambda path: EvalReport.parse(read_bytes(path), path.name),
    EVAL_PAIRS_FILE: lambda path: from_lines(read_bytes(path), path.name),
    PROBES_FILE: lambda path: Probes.parse(read_bytes(path), path.name),
}
"""How files of a run are read that are not JSON objects of other programs."""


def folder_kind(folder: Path) -> Kind:
    """Return the kind of a folder. Raise ArtefactError if it is not a dataset, run or merged folder."""
    if not folder.is_dir():
        check_named(folder, RELEASED)
    refuse_sweep(folder)
    for name, kind in _KINDS.items():
        if (folder / name).exists():
            return kind
    raise not_by_hubdpo(folder, str(folder)) or ArtefactError(
        f"`{folder}` is no dataset, run or merged model: it has no {PREPARE_FILE}, {RUN_FILE} or {MERGE_FILE}",
        hint=meant(str(folder), RELEASED),
    )


def published_files(folder: Path) -> list[str]:
    """Return the existing files of a folder that a release takes, without `hubdpo.json`."""
    kind = folder_kind(folder)
    if kind == "dataset":
        wanted = [*PrepareManifest.read(folder / PREPARE_FILE).files, PREPARE_FILE]
    elif kind == "merged":
        wanted = [*MergeManifest.read(folder / MERGE_FILE).files, MERGE_FILE, CARD_FILE]
    else:
        plots = [path.relative_to(folder).as_posix() for path in (folder / "plots").glob("*.png")]
        wanted = [CARD_FILE, RUN_FILE, *RUN_FILES, *plots]
    return sorted({name for name in wanted if (folder / name).is_file()})


def entries_of(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Return the size and hash of those files that a folder has."""
    return {name: file_entry(folder / name) for name in names if (folder / name).is_file()}


def read_run(folder: Path, *, but: Collection[str] = (), hint: str | None = None) -> RunManifest:
    """Read the manifest of a complete run, and compare its files with it, as `verify_run` says.

    Raise ArtefactError for an incomplete run, a file that is missing or was changed, and another kind of folder.
    """
    refuse_sweep(folder)
    if not (folder / RUN_FILE).exists() and (problem := not_by_hubdpo(folder, str(folder))):
        raise problem
    if folder.is_dir() and not (folder / RUN_FILE).exists():
        kind = "a dataset folder" if (folder / PREPARE_FILE).exists() else "not a run folder"
        raise ArtefactError(
            f"`{folder}` is {kind}: it has no {RUN_FILE}", hint="use the `--output-dir` of `hubdpo train`"
        )
    run = RunManifest.read(folder / RUN_FILE)
    if run.status != "complete":
        raise ArtefactError(f"the run in {folder} is not finished", hint=hint or train_again(folder, run))
    verify_run(folder, run, but=but, hint=hint)
    return run


def verify_run(folder: Path, run: RunManifest, *, but: Collection[str] = (), hint: str | None = None) -> None:
    """Compare the files of a run, `but` some, with those that it wrote; runs of hubdpo 0.3 recorded none.

    Raise ArtefactError for a file that is missing or was changed; its hint, unless it is given, writes the file again.
    """

    def writes_again(name: str) -> str:
        is_evaluated = name in EVALUATED_FILES and run.test_pairs
        return f"hubdpo evaluate {shlex.quote(str(folder))}" if is_evaluated else train_again(folder, run)

    files = {name: entry for name, entry in run.files.items() if name not in but}
    verify_files(folder, files, hint=hint or writes_again)


def damage_of_results(folder: Path, run: RunManifest) -> str | None:
    """Say what is wrong with the files of a finished run, None when nothing is; no library loads them for this."""
    if run.files:
        try:
            verify_run(folder, run)
        except ArtefactError as problem:
            return problem.message
        return None
    there = [
        name
        for name in (*COPIED_FILES, METRICS_FILE, EVAL_FILE, EVAL_PAIRS_FILE, PROBES_FILE)
        if (folder / name).is_file()
    ]
    tokenizer = "merges.txt" if "vocab.json" in there else "tokenizer.json"  # older bases have those two alone
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, TOKENIZER_CONFIG, tokenizer, *there):
        try:
            _READERS.get(name, read_object if name.endswith(".json") else read_bytes)(folder / name)
        except FileNotFoundError:
            return f"`{name}` is missing"
        except ArtefactError as problem:
            return problem.message
        except (OSError, ValueError) as problem:
            return f"`{name}` is damaged ({problem})"
    has_template = CHAT_TEMPLATE in there or read_object(folder / TOKENIZER_CONFIG).get("chat_template")
    return None if has_template else f"`{CHAT_TEMPLATE}` is missing"


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
