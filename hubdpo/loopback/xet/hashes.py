"""The hashes of the Xet protocol: BLAKE3 with a key for each purpose, and a tree over the chunks of a thing.

Keys and tree as in the protocol's specification, "Hashing".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from blake3 import blake3

Leaf = tuple[bytes, int]
"""Hash (32 bytes) and size of a chunk, or of a run of them."""
CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)
BRANCHES, FEWEST_BRANCHES, MOST_BRANCHES = 4, 3, 9


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


def tree_hash(leaves: Iterable[Leaf]) -> bytes:
    """Return the root over the leaves, the hash of a xorb. Where a node ends is read from the hashes themselves.

    Each level holds no more than the node that is not at its end yet, so that leaves may come without end.
    """
    levels: list[list[Leaf]] = [[]]
    counts = [0]
    for leaf in leaves:
        _push(levels, counts, 0, leaf)
    for level, node in enumerate(levels):  # grows meanwhile, up to the level of one
        if counts[level] == 1:
            return node[0][0]
        if node:
            _close(levels, counts, level)
    return bytes(32)


def file_hash(leaves: Iterable[Leaf]) -> bytes:
    return blake3(tree_hash(leaves), key=FILE_KEY).digest()


def range_hash(hashes: Sequence[bytes]) -> bytes:
    """Return what proves that the sender of a file knows the chunks of a term."""
    return blake3(b"".join(hashes), key=RANGE_KEY).digest()


def keyed(digest: bytes, key: bytes) -> bytes:
    """Return a hash of a hash that only who has the hash, and the key, can make."""
    return blake3(digest, key=key).digest()


def divides(digest: bytes, number: int) -> bool:
    return int.from_bytes(digest[24:], "little") % number == 0


def _push(levels: list[list[Leaf]], counts: list[int], level: int, leaf: Leaf) -> None:
    if level == len(levels):
        levels.append([])
        counts.append(0)
    node = levels[level]
    node.append(leaf)
    counts[level] += 1
    if len(node) == MOST_BRANCHES or (len(node) >= FEWEST_BRANCHES and divides(leaf[0], BRANCHES)):
        _close(levels, counts, level)


def _close(levels: list[list[Leaf]], counts: list[int], level: int) -> None:
    node = levels[level]
    text = "".join(f"{to_hex(digest)} : {size}\n" for digest, size in node)
    above = blake3(text.encode(), key=NODE_KEY).digest(), sum(size for _, size in node)
    node.clear()
    _push(levels, counts, level + 1, above)
