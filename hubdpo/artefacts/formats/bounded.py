"""Read files of repos within limits: of size before reading, of depth and number of values before use.

The author of a repo decides how large and how deeply nested its JSON is, so every reader of such a file, and of a card,
goes through this module. Errors name the file and the limit.
"""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from hubdpo.errors import ArtefactError

JsonObject = dict[str, Any]
"""A parsed JSON object, whose values are not checked yet."""
MB = 1_000_000
LIMITS = {
    "README.md": 2 * MB,
    "hubdpo.json": 16 * MB,
    "release.json": 16 * MB,
    "prepare.json": 32 * MB,
    "metrics.jsonl": 64 * MB,
    "eval_pairs.jsonl": 128 * MB,
    "answered.jsonl": 128 * MB,
    "model.safetensors.index.json": 32 * MB,
    "tokenizer.json": 64 * MB,
    "vocab.json": 16 * MB,
    "merges.txt": 16 * MB,
    "vocab.txt": 16 * MB,
    "tokenizer.model": 16 * MB,
    "spiece.model": 16 * MB,
    "chat_template.jinja": MB,
    "trainer_state.json": 64 * MB,
}
"""Maximum bytes of a file, by name. The largest tokenizers in use have 34 MB; a prepare.json of 100,000 sources, 15."""
DEFAULT_LIMIT = 4 * MB
PYTHON_JSON = frozenset(
    {
        "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.json", "processor_config.json", "preprocessor_config.json",
        "trainer_state.json", "all_results.json", "train_results.json",
    }
)  # fmt: skip
"""Files written by Python's json, which may contain Infinity or NaN: Mamba's `time_step_limit` ends in it, and a loss
may."""
MAX_VALUES = 4_000_000
"""Values in a JSON file. Each takes up to 240 bytes of memory; the largest tokenizers have 2 million."""
MAX_DEPTH = 100
MAX_DIGITS = 40
HINT = "tell the author of the file; hubdpo does not write such files"


def limit_of(name: str) -> int:
    """Return the maximum bytes of a file of this name, in any folder."""
    return LIMITS.get(PurePosixPath(name).name, DEFAULT_LIMIT)


def check_size(name: str, size: int, *, of: str = "") -> None:
    """Raise ArtefactError if a file is larger than its limit. `of` names the folder or repo, for the message."""
    if size > limit_of(name):
        raise ArtefactError(
            f"`{name}`{f' of {of}' if of else ''} has {size:,} bytes, more than the limit of {limit_of(name):,}",
            hint=HINT,
        )


def read_bytes(path: Path, *, of: str = "") -> bytes:
    """Read a file. Raise ArtefactError if it is larger than its limit or not a regular file; else OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a device never ends, and a pipe waits
        raise ArtefactError(
            f"`{path.name}`{f' of {of}' if of else ''} is not a regular file", hint="put the file there"
        )
    check_size(path.name, status.st_size, of=of)
    with path.open("rb") as stream:
        data = stream.read(limit_of(path.name) + 1)
    check_size(path.name, len(data), of=of)
    return data


def read_text(path: Path, *, of: str = "") -> str:
    """Read a text file, replacing what is not UTF-8. Raise what `read_bytes` raises."""
    return read_bytes(path, of=of).decode("utf-8", "replace")


def read_object(path: Path, *, of: str = "") -> JsonObject:
    """Read a JSON object. Raise ArtefactError, naming the file, for any other content; OSError if it does not exist."""
    return parse_object(read_bytes(path, of=of), path.name, of=of)


def parse_object(data: bytes | str, name: str, *, of: str = "") -> JsonObject:
    """Parse the bytes of the file `name` as a JSON object. Raise ArtefactError for any other content."""
    where = f"`{name}`{f' of {of}' if of else ''}"
    check_size(name, len(data), of=of)
    try:
        value = parse_file(data, name)
    except ValueError as problem:
        raise ArtefactError(f"{where} cannot be read: {problem}", hint=HINT) from None
    if not isinstance(value, dict):
        raise ArtefactError(f"{where} is not a JSON object", hint=HINT)
    return value


def parse_file(data: bytes | str, name: str) -> Any:
    """Parse the bytes of a file of a repo. Raise what `parse_json` raises."""
    return parse_json(data, constants=PurePosixPath(name).name in PYTHON_JSON)


def parse_json(data: bytes | str, *, ours: bool = False, constants: bool = False) -> Any:
    """Parse JSON. Raise ValueError, in one line, for a syntax error or an exceeded limit.

    NaN and infinity, which JSON does not have, are refused unless `constants` is set, and the last value of a repeated
    key counts, as for other readers. With `ours`, for manifests, they are accepted and a repeated key is refused.
    """
    inner = check_count(data)
    hooks: JsonObject = {"object_pairs_hook": _unique_keys} if ours else {}
    if not (ours or constants):
        hooks["parse_constant"] = _refuse_constant
    try:
        value = json.loads(data, parse_int=_int, parse_float=_float, **hooks)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"it is not JSON: {problem}") from None
    if inner > MAX_DEPTH:  # fewer brackets cannot nest deeper
        check_depth(value)
    return value


def check_count(data: bytes | str) -> int:
    """Return an upper bound of the number of lists and objects in JSON. Raise ValueError for too many values."""
    comma, lists, objects = (",", "[", "{") if isinstance(data, str) else (b",", b"[", b"{")
    inner = data.count(lists) + data.count(objects)  # type: ignore[arg-type]
    if inner + data.count(comma) > MAX_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"it has more than {MAX_VALUES:,} values")
    return inner


def check_depth(value: object) -> None:
    """Raise ValueError for lists and objects nested deeper than MAX_DEPTH."""
    level: list[list[object] | JsonObject] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it has a number with {len(text):,} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has a number that is too large: {text[:MAX_DIGITS]}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name} instead of a number")


def _unique_keys(pairs: list[tuple[str, object]]) -> JsonObject:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {repeated[:80]!r} twice")
    return values


def shortened(text: str, length: int) -> str:
    """Cut a text to `length` characters, and say how many it had."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"
