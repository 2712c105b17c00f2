"""Find what a raw row holds beside the text that is read: images, video and sound, and members of messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from hubdpo.data.pairs.calls import MEMBERS
from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import (
    CONTENT_KEYS,
    REASONING,
    ROLE_KEYS,
    first_of,
    media_of,
    role_in,
    words_of,
)

ENDINGS = {
    "image": (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"),
    "video": (".mp4", ".avi", ".mov", ".mkv", ".webm"),
    "audio": (".wav", ".mp3", ".flac", ".ogg", ".m4a"),
}
MAGIC = {b"\x89PNG": "image", b"\xff\xd8\xff": "image", b"GIF8": "image", b"fLaC": "audio", b"OggS": "audio"}
ABOUT = frozenset((
    "prompt", "caption", "captions", "description", "desc", "text", "question", "answer", "title", "category", "label",
    "type", "style", "model", "has", "is", "no", "num", "count",
))  # fmt: skip
"""Words beside `image` in the names of columns that describe images and hold none."""
NOTHING = frozenset(("", "[]", "{}", "null", "none", "nan", "n/a", "no", "false", "0"))
MEDIA_KEYS = ("bytes", "path", "url", "array", "src", "data", "image_url", "file_name")
PLAIN = {int, float, bool, type(None)}
NESTED = (dict, list, bytes)
LONGEST_PATH = 1024
DEEPEST = 3
SHARES = frozenset(("weight", "weights", "loss", "train", "trainable", "training", "learn"))
"""Words of members that weight the loss of a message. hubdpo scores all of an answer and nothing of a prompt."""
MASKS = frozenset(("mask", "masked", "skip", "ignore"))
ALL_OF_IT = ("1", "1.0", "true")
NONE_OF_IT = ("0", "0.0", "false")


def media_in(name: str, value: object, depth: int = 0) -> str | None:
    """Return `image`, `video` or `audio` if a column holds one, as bytes, a path, an address or a file name.

    Text of several words is not a file name, whatever the column is called.
    """
    named = media_of(name)
    if isinstance(value, str):
        return _in_text(value.strip(), named, name)
    if isinstance(value, (bytes, bytearray)):
        return named or _by_magic(bytes(value[:4]))
    if isinstance(value, list) and depth < DEEPEST:
        return next((kind for item in value if (kind := media_in(name, item, depth + 1))), None)
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        if isinstance(data, (bytes, bytearray)):  # what Parquet files of `datasets` hold
            return named or _by_magic(bytes(data[:4])) or _by_ending(str(path or "")) or "image"
        if isinstance(value.get("array"), list) and "sampling_rate" in value:
            return "audio"
        return named if named and any(value.get(key) for key in MEDIA_KEYS) else None
    return None


def could_hold_media(name: str, values: list[object], kinds: set[type]) -> bool:
    """Whether values of these types need a closer look: a fast filter for whole columns."""
    if kinds <= PLAIN:
        return False
    if dict in kinds or bytes in kinds or media_of(name) is not None:
        return True
    return list in kinds and any(type(value) is list and value and type(value[0]) in NESTED for value in values)


def _in_text(text: str, named: str | None, name: str) -> str | None:
    if named is None or text.lower() in NOTHING or ABOUT & set(words_of(name)):
        return None
    if len(text) <= LONGEST_PATH and (kind := _by_ending(text)):
        return kind
    return None if any(map(str.isspace, text)) else named


def _by_ending(path: str) -> str | None:
    """Return the kind by the file ending, also of a list of paths that a CSV holds as text."""
    bare = path.partition("?")[0].lower().rstrip("'\"])")
    return next((kind for kind, endings in ENDINGS.items() if bare.endswith(endings)), None)


def _by_magic(data: bytes) -> str | None:
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)


def unread_members(column: str, values: Sequence[object]) -> Counter[str]:
    """Count messages, or lists of them, that have a member which is not read, under `column[].member`."""
    lists = [value for value in values if value.__class__ is list]
    try:
        if len(lists) == len(values) and set(map(len, chain.from_iterable(lists))) <= {2}:
            return Counter()  # nearly always: role and content
    except TypeError:
        pass  # numbers among them
    found: Counter[str] = Counter()
    for value in values:
        if value.__class__ is str:
            continue
        items = value if isinstance(value, list) else [value]
        names = {name for item in items if isinstance(item, dict) for name in _unread(item)}
        found.update(f"{column}[].{name}" for name in names)
    return found


def _unread(message: Row) -> Iterator[str]:
    role, content = role_in(message), first_of(message, CONTENT_KEYS)
    if role is None or "replies" in message:  # of a tree, the members of its root are counted
        return
    for name, held in message.items():
        if not isinstance(name, str) or name in ROLE_KEYS or held is None or held in ("", [], {}):
            continue
        if (name in CONTENT_KEYS and held == content) or name in REASONING or media_of(name):
            continue  # read elsewhere, or a reason to drop the row
        if words_of(name)[:2] in MEMBERS or (name == "name" and role == "tool"):
            continue
        words = set(words_of(name))
        if words & SHARES or words & MASKS:
            all_of_it = NONE_OF_IT if words & MASKS else ALL_OF_IT
            if role != "assistant" or str(held).lower() in all_of_it:
                continue
        yield name
