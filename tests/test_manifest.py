"""The files between stages: written whole or not at all, refused when they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.errors import ArtefactError
from hubdpo.manifest import Bundle, FileEntry, Funnel, file_entry, fingerprint, verify_files, write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_manifest_reads_back_equal(tmp_path: Path) -> None:
    entry = FileEntry(sha256="0" * 64, size=3)
    bundle = Bundle(kind="dataset", version="1.0.0", bundle_id="x", files={"a": entry})
    bundle.write(tmp_path / "hubdpo.json")
    assert Bundle.read(tmp_path / "hubdpo.json") == bundle


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"unknown": 1}'])
def test_a_manifest_that_does_not_fit_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "hubdpo.json").write_text(text)
    with pytest.raises(ArtefactError, match="hubdpo.json"):
        Bundle.read(tmp_path / "hubdpo.json")


def test_a_changed_file_of_the_same_length_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    files = {"a": file_entry(tmp_path / "a")}
    verify_files(tmp_path, files, hint="again")
    (tmp_path / "a").write_text("abd")
    with pytest.raises(ArtefactError, match="`a`"):
        verify_files(tmp_path, files, hint="again")


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})


@pytest.mark.parametrize(("kept", "dropped", "whole"), [(3, {"x": 2}, True), (3, {"x": 1}, False), (5, {}, True)])
def test_a_funnel_adds_up_or_not(kept: int, dropped: dict[str, int], whole: bool) -> None:
    assert Funnel(read=5, kept=kept, dropped=dropped).adds_up() is whole
