"""A run resumes from its newest checkpoint whose files are all as they were written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hubdpo.errors import ArtefactError
from hubdpo.training.run.output_folder import (
    MARKER,
    complete_checkpoints,
    damage_of,
    delete_partial_files,
    mark_complete,
    newest_checkpoint,
    set_damaged_aside,
)

FILES = {"trainer_state.json": b"{}", "optimizer.pt": b"12345", "scheduler.pt": b"1", "part_0/a": b"", "rng.pth": b"7"}


def checkpoint(run: Path, step: int) -> Path:
    folder = run / f"checkpoint-{step}"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    mark_complete(folder, step)
    return folder


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file that is gone": (lambda folder: (folder / "rng.pth").unlink(), "`rng.pth` is missing"),
    "a file that is gone, in a folder": (lambda folder: (folder / "part_0" / "a").unlink(), "`part_0/a` is missing"),
    "a file that is empty": (lambda folder: (folder / "optimizer.pt").write_bytes(b""), "`optimizer.pt` is empty"),
    "a file that is cut": (lambda folder: (folder / "optimizer.pt").write_bytes(b"123"), "has 3 of 5 bytes"),
    "a file that was longer": (lambda folder: (folder / "optimizer.pt").write_bytes(b"123456"), "has 6 of 5 bytes"),
    "a marker with other contents": (
        lambda folder: (folder / MARKER).write_text('{"files": {"a": 5}}'),
        "cannot be read",
    ),
    "a marker that is no list of files": (
        lambda folder: (folder / MARKER).write_text('{"files": [5]}'),
        "cannot be read",
    ),
    "a marker that is cut": (lambda folder: (folder / MARKER).write_text('{"st'), "cannot be read"),
}


@pytest.mark.parametrize(("harm", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_not_complete(
    tmp_path: Path, harm: Callable[[Path], object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert newest_checkpoint(tmp_path) == (newer, 10)
    harm(newer)
    assert says in (damage_of(newer) or "")
    assert complete_checkpoints(tmp_path) == [(older, 9)]
    assert newest_checkpoint(tmp_path) == (older, 9)
    set_damaged_aside(tmp_path)
    assert says in capsys.readouterr().err
    assert not (newer / MARKER).exists() and (older / MARKER).exists()


def test_a_changed_file_of_equal_size_is_found_by_its_hash(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 3)
    (folder / "optimizer.pt").write_bytes(b"54321")
    assert damage_of(folder) is None
    assert damage_of(folder, hashes=True) == "`optimizer.pt` was changed after it was written"


@pytest.mark.parametrize(
    ("steps", "says"), [((4,), "there is none before it"), ((2, 4), "those before it are damaged")]
)
def test_no_marker_is_removed_when_all_checkpoints_are_damaged(
    tmp_path: Path, steps: tuple[int, ...], says: str
) -> None:
    for step in steps:
        (checkpoint(tmp_path, step) / "scheduler.pt").unlink()
    with pytest.raises(ArtefactError, match=f"checkpoint-4` is damaged .`scheduler.pt` is missing.*{says}"):
        set_damaged_aside(tmp_path)
    assert (tmp_path / "checkpoint-4" / MARKER).exists()


def test_complete_checkpoints_are_not_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path, 2), checkpoint(tmp_path, 4)
    (tmp_path / "checkpoint-2" / "rng.pth").unlink()  # older than the one that is gone on from
    set_damaged_aside(tmp_path)
    assert (tmp_path / "checkpoint-2" / MARKER).exists()
    assert capsys.readouterr().err == ""


def test_a_marker_of_version_0_2_requires_the_usual_files(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 2)
    (folder / MARKER).write_text(json.dumps({"step": 2}))
    assert damage_of(folder, hashes=True) is None
    (folder / "optimizer.pt").unlink()
    assert damage_of(folder) == "`optimizer.pt` is missing"


def test_files_are_on_the_disk_before_the_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    folder = checkpoint(tmp_path, 2)
    assert set(synced[: len(FILES)]) == {(folder / name).stat().st_ino for name in FILES}
    assert synced[len(FILES)] == (folder / MARKER).stat().st_ino


def test_a_checkpoint_that_a_kill_left_half_deleted_goes(tmp_path: Path) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    (older / "rng.pth").unlink()
    delete_partial_files(tmp_path)
    assert (older.exists(), newer.exists()) == (False, True)
