"""The hashes of the Xet protocol: BLAKE3 with a key for each purpose, and a tree over the chunks of a thing.

Keys and tree as in the protocol's specification, "Hashing".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from blake3 import blake3

Leaf = tuple[bytes, int]
"""Hash (32 bytes) and size of a chunk, or of a run of them."""
CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)
BRANCHES, MOST_BRANCHES = 4, 9


def to_hex(digest: bytes) -> str:
    """Return a hash as the protocol writes it: four little-endian numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def from_hex(text: str) -> bytes:
    """Raise ValueError when the text is no hash."""
    if len(text) != 64:
        raise ValueError("a hash has 64 digits")
    return struct.pack("<4Q", *(int(text[start : start + 16], 16) for start in range(0, 64, 16)))


def chunk_hash(data: bytes) -> bytes:
    return blake3(data, key=CHUNK_KEY).digest()


def tree_hash(leaves: Sequence[Leaf]) -> bytes:
    """Return the root over the leaves, the hash of a xorb. Where a node ends is read from the hashes themselves."""
    level = list(leaves)
    while len(level) > 1:
        above, start = [], 0
        while start < len(level):
            stop = _end_of_node(level, start)
            node = level[start:stop]
            text = "".join(f"{to_hex(digest)} : {size}\n" for digest, size in node)
            above.append((blake3(text.encode(), key=NODE_KEY).digest(), sum(size for _, size in node)))
            start = stop
        level = above
    return level[0][0] if level else bytes(32)


def file_hash(leaves: Sequence[Leaf]) -> bytes:
    return blake3(tree_hash(leaves), key=FILE_KEY).digest()


def range_hash(hashes: Sequence[bytes]) -> bytes:
    """Return what proves that the sender of a file knows the chunks of a term."""
    return blake3(b"".join(hashes), key=RANGE_KEY).digest()


def keyed(digest: bytes, key: bytes) -> bytes:
    """Return a hash of a hash that only who has the hash, and the key, can make."""
    return blake3(digest, key=key).digest()


def divides(digest: bytes, number: int) -> bool:
    return int.from_bytes(digest[24:], "little") % number == 0


def _end_of_node(level: Sequence[Leaf], start: int) -> int:
    last = min(start + MOST_BRANCHES, len(level))
    for index in range(start + 2, last):
        if divides(level[index][0], BRANCHES):
            return index + 1
    return last
