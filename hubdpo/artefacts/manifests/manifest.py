"""What the stages leave for each other: small JSON files, written last, that say what a folder holds.

A dataset folder is complete when it has `prepare.json`; a run folder when its `run.json` says `complete`.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hubdpo.artefacts.formats.bounded import check_size, parse_json, read_bytes, shortened
from hubdpo.artefacts.manifests.accuracy import READ
from hubdpo.errors import ArtefactError

PREPARE_FILE = "prepare.json"
RUN_FILE = "run.json"
EVAL_FILE = "eval.json"
PROBES_FILE = "probes.json"
METRICS_FILE = "metrics.jsonl"
RELEASE_FILE = "release.json"
REJECTED_FILE = "rejected.jsonl"
BUNDLE_FILE = "hubdpo.json"
MERGE_FILE = "merge.json"
CARD_FILE = "README.md"
LOCAL_FILE = "local.json"


LOCAL_ONLY = (REJECTED_FILE, RELEASE_FILE, LOCAL_FILE)
"""Files of a dataset or run folder that never leave the machine; checkpoints are the third kind."""


LONGEST_TEXT = 10_000
"""Characters of a name, a licence, a citation or another fact in a manifest; the texts of samples and rows apart."""


class Part(BaseModel):
    """A part of a manifest, whose texts are short: a repo's manifest is somebody else's."""

    model_config = ConfigDict(str_max_length=LONGEST_TEXT, protected_namespaces=())


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("xb") as stream:  # with the rights that the umask leaves
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class Manifest(BaseModel):
    """Base of the files: versioned, refusing unknown fields, read with an error that names the file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), str_max_length=LONGEST_TEXT)

    schema_version: Literal[1] = 1

    def write(self, path: Path) -> None:
        write_atomic(path, canonical_json(self.model_dump(mode="json")))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raise ArtefactError when the file is missing, is not JSON or does not have the fields of this version."""
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            folder = path.parent
            state = f"has no {path.name}, so it is not complete" if folder.is_dir() else "is not there"
            raise ArtefactError(f"`{folder}` {state}", hint="check the path, or make the folder again") from None
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Self:
        """Read a manifest from its bytes. Raise ArtefactError, naming the file, field and limit; `name` may be long."""
        check_size(name, len(data))
        try:
            return cls.model_validate(parse_json(data, ours=True), context=READ)
        except ValidationError as problem:
            first = problem.errors()[0]
            where = shortened(".".join(str(part) for part in first["loc"]), 100) or "the file"
            told = f"{where}: {shortened(first['msg'], 300)}"
        except ValueError as problem:
            told = str(problem)
        raise ArtefactError(f"`{name}` cannot be read: {told}", hint="make the folder again with the stage's command")
