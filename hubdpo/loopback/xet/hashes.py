"""Hashes of the Xet protocol: BLAKE3 with a key for each purpose, and a Merkle tree over the chunks of a xorb or file.

Keys and tree follow the section "Hashing" of the protocol's specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from blake3 import blake3

Leaf = tuple[bytes, int]
"""The hash (32 bytes) and size in bytes of a chunk, or of a node above several chunks."""
CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)
BRANCHES, FEWEST_BRANCHES, MOST_BRANCHES = 4, 3, 9


def to_hex(digest: bytes) -> str:
    """Format a hash as the protocol writes it: four little-endian 64-bit numbers in hexadecimal."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def from_hex(text: str) -> bytes:
    """Parse the format of `to_hex`. Raise ValueError for any other text."""
    if len(text) != 64:
        raise ValueError("a hash has 64 digits")
    return struct.pack("<4Q", *(int(text[start : start + 16], 16) for start in range(0, 64, 16)))


def chunk_hash(data: bytes) -> bytes:
    return blake3(data, key=CHUNK_KEY).digest()


def tree_hash(leaves: Iterable[Leaf]) -> bytes:
    """Return the root of the Merkle tree over the leaves, the hash of a xorb. The hashes themselves end a node.

    Each level keeps only its unfinished node, so memory does not grow with the number of leaves.
    """
    levels: list[list[Leaf]] = [[]]
    counts = [0]
    for leaf in leaves:
        _push(levels, counts, 0, leaf)
    for level, node in enumerate(levels):  # `levels` grows in the loop until a level has a single node
        if counts[level] == 1:
            return node[0][0]
        if node:
            _close(levels, counts, level)
    return bytes(32)


def file_hash(leaves: Iterable[Leaf]) -> bytes:
    return blake3(tree_hash(leaves), key=FILE_KEY).digest()


def range_hash(hashes: Sequence[bytes]) -> bytes:
    """Return the proof that the sender of a file has the chunks of a term."""
    return blake3(b"".join(hashes), key=RANGE_KEY).digest()


def keyed(digest: bytes, key: bytes) -> bytes:
    """Return the keyed BLAKE3 hash of a chunk hash."""
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
    # a node has 3 to 9 children and ends at one whose hash is a multiple of 4, so an edit changes few nodes
    if len(node) == MOST_BRANCHES or (len(node) >= FEWEST_BRANCHES and divides(leaf[0], BRANCHES)):
        _close(levels, counts, level)


def _close(levels: list[list[Leaf]], counts: list[int], level: int) -> None:
    node = levels[level]
    text = "".join(f"{to_hex(digest)} : {size}\n" for digest, size in node)
    above = blake3(text.encode(), key=NODE_KEY).digest(), sum(size for _, size in node)
    node.clear()
    _push(levels, counts, level + 1, above)
