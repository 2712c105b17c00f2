"""The header of a GGUF file: what it says, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hubdpo.artefacts.formats.gguf_header import read_gguf
from tests.model.gguf_maker import gguf

SHAPES = {"blk.0.attn_q.weight.lora_a": (64, 8), "blk.0.attn_q.weight.lora_b": (8, 32)}
WHOLE = gguf({"general.type": "adapter", "adapter.lora.alpha": 16.0, "tokens": ["a", "bc"]}, SHAPES, "f16")


def test_numbers_texts_and_shapes_are_read_and_lists_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(WHOLE)
    header = read_gguf(tmp_path / "x.gguf")
    assert header.metadata == {"general.type": "adapter", "adapter.lora.alpha": 16.0}
    assert header.shapes == SHAPES
    assert header.values == 64 * 8 + 8 * 32


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a GGUF file"),
        (b"<html>" + WHOLE, "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 9) + WHOLE[8:], "version 9"),
        (WHOLE[:-1], "truncated: "),
        (WHOLE[:100], "truncated within its header"),
        (WHOLE[:8] + struct.pack("<Q", 2**60) + WHOLE[16:], "out of bounds"),
    ],
    ids=["empty", "another file", "version", "one byte short", "cut in the header", "too many tensors"],
)
def test_what_is_not_a_whole_file_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_gguf(tmp_path / "x.gguf")
