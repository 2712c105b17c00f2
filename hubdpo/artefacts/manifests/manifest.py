"""The JSON files through which stages meet: their names, their base class, and how they are written and read.

A manifest is written last. A dataset folder is complete if it has `prepare.json`, and a run folder if its `run.json`
says `complete`.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Literal, Self

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
"""Files of a dataset or run folder that are never published; nor are checkpoints."""

MAX_TEXT_LENGTH = 10_000
"""Characters of a name, licence, citation or other fact in a manifest; samples and rows may be longer."""


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
            field = shortened(".".join(str(part) for part in first["loc"]), 100) or "the file"
            reason = f"{field}: {shortened(first['msg'], 300)}"
        except ValueError as problem:
            reason = str(problem)
        raise ArtefactError(f"`{name}` cannot be read: {reason}", hint="create the folder again with its command")
