"""The JSON files through which stages meet: their names, their base class, the entries of the files that they list.

A manifest is written last. A dataset folder is complete if it has `prepare.json`, and a run folder if its `run.json`
says `complete`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from hubdpo.artefacts.formats.bounded import check_size, parse_json, read_bytes, shortened
from hubdpo.errors import ArtefactError
from hubdpo.version import REQUIREMENT

PREPARE_FILE = "prepare.json"
RUN_FILE = "run.json"
EVAL_FILE = "eval.json"
EVAL_PAIRS_FILE = "eval_pairs.jsonl"
PROBES_FILE = "probes.json"
METRICS_FILE = "metrics.jsonl"
CURVES_FILE = "plots/curves.png"
RELEASE_FILE = "release.json"
REJECTED_FILE = "rejected.jsonl"
BUNDLE_FILE = "hubdpo.json"
MERGE_FILE = "merge.json"
CARD_FILE = "README.md"
LOCAL_FILE = "local.json"
JOURNAL_FILE = "journal.jsonl"
SWEEP_FILE = "sweep.json"
SWEEP_PLOT = "sweep.png"
EVALUATION_FOLDER = "evaluation"
"""Folder with what an evaluation computed, line by line; it is never published, as it may hold rows of the dataset."""

LOCAL_ONLY = (REJECTED_FILE, RELEASE_FILE, LOCAL_FILE, JOURNAL_FILE)
"""Files of a dataset or run folder that are never published; nor are checkpoints."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A count; other readers of JSON round numbers above 2**53."""

READ = "read"
"""Validation context of a manifest that is read from a file; values in the making may be NaN until they are judged."""


def _finite(value: float, info: ValidationInfo) -> float:
    if info.context == READ and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Requirement = Annotated[str, Field(pattern=f"^{REQUIREMENT}$")]
"""How to get the hubdpo that wrote it, see `hubdpo.version.requirement`; None in manifests of 0.4 and earlier."""
Number = Annotated[float, AfterValidator(_finite)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
"""A language by ISO 639-1 or 639-3."""

MAX_TEXT_LENGTH = 10_000
"""Characters of a name, licence, citation or other fact in a manifest; samples and rows may be longer."""
MAX_SHOWN = 80
"""Characters of a field in a notebook."""


class Part(BaseModel):
    """Base of nested objects, with a limit on texts, because a manifest in a repo may come from anybody."""

    model_config = ConfigDict(str_max_length=MAX_TEXT_LENGTH, protected_namespaces=())


def canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def fingerprint(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers, and a crash at any moment, see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("xb") as stream:  # permissions as the umask says
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class Manifest(BaseModel):
    """Base of the manifests: versioned, without unknown fields, and read with errors that name the file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), str_max_length=MAX_TEXT_LENGTH)

    schema_version: Literal[1] = 1

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it in a notebook: a line for each field, where `repr` would fill the cell."""
        lines = [f"{name} = {shortened(repr(value), MAX_SHOWN)}" for name, value in self if value not in (None, [], {})]
        printer.text("\n  ".join([type(self).__name__, *lines]))

    def write(self, path: Path) -> None:
        write_atomic(path, canonical_json(self.model_dump(mode="json")))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raise ArtefactError if the file is missing, is not JSON or does not have the fields of this version."""
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            folder = path.parent
            state = f"has no {path.name}, so it is not complete" if folder.is_dir() else "does not exist"
            raise ArtefactError(f"`{folder}` {state}", hint="check the path, or create the folder again") from None
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Self:
        """Parse the bytes of the file `name`. Raise ArtefactError, naming the file, the field and the limit."""
        check_size(name, len(data))
        try:
            return cls.model_validate(parse_json(data, ours=True), context=READ)
        except ValidationError as problem:
            first = problem.errors()[0]
            if first["loc"] == ("schema_version",) and isinstance(first["input"], int):
                raise ArtefactError(
                    f"`{name}` was written by another version of hubdpo (schema_version {first['input']}, here 1)",
                    hint="pip install --upgrade hubdpo",
                ) from None
            field = shortened(".".join(str(part) for part in first["loc"]), 100) or "the file"
            reason = f"{field}: {shortened(first['msg'], 300)}"
        except ValueError as problem:
            reason = str(problem)
        raise ArtefactError(f"`{name}` cannot be read: {reason}", hint="create the folder again with its command")


Names = TypeVar("Names", bound=Iterable[str])

MAX_PATH_LENGTH, MAX_PART_BYTES = 1_000, 255
"""Maximum characters of a path, and bytes of one of its parts, on every system."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 (hex) of a file."""

    sha256: Sha256
    size: Count


def reject_paths_outside(names: Names) -> Names:
    """Return `names` unchanged. Raise ValueError for a path that leads out of the folder."""
    for name in names:
        if not is_inside(name):
            raise ValueError(f"not a path inside the folder: {name[:100]!r}")
    return names


def is_inside(name: str) -> bool:
    """Tell whether a path with `/` separators stays in the folder: no `..`, not absolute, no drive, no backslash."""
    return (
        len(name) <= MAX_PATH_LENGTH
        and "\\" not in name
        and not any(ord(char) < 32 for char in name)
        and not PureWindowsPath(name).drive  # `C:name` leads to another folder on Windows
        and all(part not in ("", ".", "..") and len(part.encode()) <= MAX_PART_BYTES for part in name.split("/"))
    )


Files = Annotated[dict[str, FileEntry], AfterValidator(reject_paths_outside)]
"""Entries by path, relative to the folder and with `/` as separator."""
FileNames = Annotated[list[str], AfterValidator(reject_paths_outside)]


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_file(path), size=path.stat().st_size)


def bytes_entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def verify_files(folder: Path, files: dict[str, FileEntry], *, hint: str | Callable[[str], str]) -> None:
    """Compare a folder with its manifest. Raise ArtefactError, naming the file, if a file is missing or was changed.

    `hint` may depend on the name of the file.
    """
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            message = f"`{name}` is missing from {folder}"
        elif path.stat().st_size != entry.size or sha256_file(path) != entry.sha256:
            message = f"`{name}` in {folder} was changed after it was written"
        else:
            continue
        raise ArtefactError(message, hint=hint if isinstance(hint, str) else hint(name))
