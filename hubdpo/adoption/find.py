"""Find an adapter of another tool, and tell what of its folder is taken, read, and left out. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_PATTERNS,
    ADAPTER_WEIGHTS,
    CONFIG,
    OTHER_TOKENIZER_FILES,
    TOKENIZER_FILES,
)
from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.manifest import CARD_FILE, MERGE_FILE, RUN_FILE, file_entry
from hubdpo.artefacts.manifests.run import AdapterRef
from hubdpo.config.flags import quoted
from hubdpo.errors import ArtefactError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.model.adapters.check import CheckedAdapter, check_adapter_files
from hubdpo.model.adapters.start import no_adapter_but_inside

STATE = "trainer_state.json"
RESULTS = ("all_results.json", "train_results.json")
OF_TRAINING = [CARD_FILE, STATE, *RESULTS, "*.yaml", "*.yml"]
"""Files beside an adapter that tell of its training; YAML is read where it is a config of a known trainer."""
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
MAY_HOLD_CODE = re.compile(r".*\.(bin|pt|pth|pkl|pickle|ckpt)")
TAKEN = {ADAPTER_CONFIG, ADAPTER_WEIGHTS, *TOKENIZER_FILES, *OTHER_TOKENIZER_FILES}
MOST_NAMED = 100


@dataclass(frozen=True)
class Found:
    """An adapter of another tool: its reference for the manifest, and its checked files.

    `state_folder` has the trainer_state.json of these very weights, None where none is there.
    """

    ref: AdapterRef
    files: Snapshot
    adapter: CheckedAdapter
    state_folder: Path | None

    @property
    def folder(self) -> Path:
        return self.adapter.folder

    @property
    def is_local(self) -> bool:
        return self.files.commit is None

    def left_out(self, read: list[str]) -> list[str]:
        """Return the files that are neither taken nor read, and the folders, by the first part of their paths."""
        others = {name.partition("/")[0] for name in self.files.files if name not in TAKEN} - {*read}
        return sorted(name for name in others if not name.startswith("."))


def find_adapter(name: str) -> Found:
    """Find an adapter, a folder or `USER/NAME[@REVISION]`, and check its files.

    Raise ArtefactError for anything but a LoRA adapter of another tool, ConfigError for a name that is neither,
    HubError when the Hub does not have it.
    """
    files = open_snapshot(name, repo_type="model")
    if RUN_FILE in files.files:
        raise ArtefactError(
            f"`{name}` was made by hubdpo, so there is nothing to adopt", hint=f"hubdpo evaluate {quoted(name)}"
        )
    if ADAPTER_CONFIG not in files.files:
        raise _no_adapter(name, files)
    folder = files.fetch([*ADAPTER_PATTERNS, *OF_TRAINING])
    adapter = check_adapter_files(folder)
    ref = files.as_adapter(file_entry(folder / ADAPTER_WEIGHTS).sha256)
    return Found(ref, files, adapter, _with_state(folder, files, ref.sha256))


def _with_state(folder: Path, files: Snapshot, sha256: str) -> Path | None:
    """Return the folder of the trainer_state.json of these weights: this one, or a checkpoint with the same weights.

    TRL writes it into checkpoints alone.
    """
    if STATE in files.files:
        return folder
    numbers = [int(match[1]) for each in files.files if (match := CHECKPOINT.fullmatch(each.partition("/")[0]))]
    for number in sorted(set(numbers), reverse=True):
        weights, state = (f"checkpoint-{number}/{file}" for file in (ADAPTER_WEIGHTS, STATE))
        if {weights, state} <= files.files.keys() and files.digest(weights) == sha256:
            return files.fetch([state]) / f"checkpoint-{number}"
    return None


def _no_adapter(name: str, files: Snapshot) -> ArtefactError:
    if MERGE_FILE in files.files or CONFIG in files.files:
        return ArtefactError(f"`{name}` is a whole model, not an adapter", hint="hubdpo adopt takes LoRA adapters")
    otherwise = f"give the folder that has {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"
    return no_adapter_but_inside(name, files, "hubdpo adopt {} ...", otherwise)


def say_what_is_left_out(names: list[str]) -> None:
    """Print the files that are not taken: those that may hold code, checkpoints, and others."""
    code = [name for name in names if MAY_HOLD_CODE.fullmatch(name)]
    checkpoints = [name for name in names if CHECKPOINT.fullmatch(name)]
    others = [name for name in names if name not in {*code, *checkpoints}]
    for group, one, remark in (
        (code, "file", " that may hold code, never opened"), (checkpoints, "checkpoint", ""), (others, "file", ""),
    ):  # fmt: skip
        if group:
            more = f" and {len(group) - MOST_NAMED:,} more" * (len(group) > MOST_NAMED)
            shown = ", ".join(shortened(name, 100) for name in group[:MOST_NAMED])
            console.info(f"left out  {console.counted(len(group), one)}{remark}: {shown}{more}")
