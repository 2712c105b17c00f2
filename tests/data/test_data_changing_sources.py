"""What is recorded of a source is true of the bytes that were read: one that changes meanwhile is an error, exit 3."""

from __future__ import annotations

import glob
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubdpo import prepare
from hubdpo.artefacts.folders.walk import matching
from hubdpo.data.prepare import prepare as stage
from hubdpo.data.raw.sources import state
from hubdpo.data.raw.sources.find import find_sources
from hubdpo.data.raw.sources.state import check_unchanged, let_clock_tick, state_of
from hubdpo.errors import DataError
from tests.data.made import lines, rows


def append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(lines(rows(210)[200:]))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(stream.read().replace(b"good", b"best"))


def overwrite_in_place(path: Path) -> None:
    """As long as before, with the times that it had."""
    before, data = path.stat(), path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(data.replace(b"good", b"best"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(path: Path) -> None:
    before = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)


CHANGES = [append, cut_short, overwrite, overwrite_in_place, put_another_in_its_place, Path.unlink]


def when(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[], Any]) -> None:
    """Have `change` done once, before a step of prepare."""
    step, done = getattr(stage, name), []

    def changed(*args: Any, **options: Any) -> Any:
        if not done:
            done.append(change())
        return step(*args, **options)

    monkeypatch.setattr(stage, name, changed)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("step", ["unpacked", "make_rules", "stop_at_errors", "second_round", "check_decision"])
def test_a_source_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any], step: str
) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(lines(rows(200)))
    when(monkeypatch, step, lambda: change(raw))
    with pytest.raises(DataError, match=r"raw\.jsonl (changed|was taken away) while it was read") as caught:
        prepare(source=str(raw), output_dir=tmp_path / "out", num_proc=1)
    assert caught.value.exit_code == 3
    assert "again" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["raw.jsonl.gz", "raw.parquet", "raw.arrow", "raw.csv", "raw.json"])
def test_every_kind_of_file_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    raw, values = tmp_path / name, rows(200)
    table = pa.Table.from_pylist(values)
    if name.endswith(".parquet"):
        pq.write_table(table, raw)
    elif name.endswith(".arrow"):
        with pa.ipc.new_file(raw, table.schema) as writer:
            writer.write_table(table)
    elif name.endswith(".csv"):
        raw.write_text("prompt,chosen,rejected\n" + "".join(f"{','.join(row.values())}\n" for row in values))
    else:
        raw.write_bytes(gzip.compress(lines(values)) if name.endswith(".gz") else lines(values))
    when(monkeypatch, "decide", lambda: append(raw))
    with pytest.raises(DataError, match=f"{name} changed while it was read: it had .* bytes and has"):
        prepare(source=str(raw), output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


CUT = """
import os
from hubdpo.data.raw.tables import arrow_blocks
from hubdpo.errors import DataError
blocks = arrow_blocks("raw.arrow", "raw.arrow")
next(blocks)
os.truncate("raw.arrow", 20_000)
try:
    list(blocks)
except DataError as problem:
    print(problem.message)
print("alive")
"""


@pytest.mark.parametrize("form", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_that_is_cut_does_not_end_the_process(tmp_path: Path, form: Callable[..., Any]) -> None:
    table = pa.Table.from_pylist(rows(50_000))
    with form(tmp_path / "raw.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    done = subprocess.run([sys.executable, "-c", CUT], cwd=tmp_path, capture_output=True, text=True)
    assert "alive" in done.stdout, (done.returncode, done.stderr)  # a stream may end anywhere: its state tells


def test_a_folder_is_not_called_up_to_date_when_a_source_grew_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(lines(rows(200)))
    prepare(source=str(raw), output_dir=tmp_path / "out")
    with monkeypatch.context() as patch:
        when(patch, "up_to_date", lambda: append(raw))
        with pytest.raises(DataError, match="changed while it was read"):
            prepare(source=str(raw), output_dir=tmp_path / "out")
    manifest = prepare(source=str(raw), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.funnel.read == 210


def test_a_source_that_grew_between_two_runs_is_read_again(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(lines(rows(200)))
    prepare(source=str(raw), output_dir=tmp_path / "out")
    append(raw)
    manifest = prepare(source=str(raw), output_dir=tmp_path / "out")
    assert manifest is not None
    assert manifest.funnel.read == 210


def test_a_source_that_is_left_alone_is_read(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(lines(rows(20)))
    os.utime(raw, (time.time() + 3600,) * 2)  # of a machine whose clock goes ahead
    began = time.monotonic()
    prepare(source=str(raw), output_dir=tmp_path / "out")
    assert time.monotonic() - began < 60


def test_the_first_look_waits_until_a_later_write_gets_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(state.time, "sleep", waits.append)
    monkeypatch.setattr(state.time, "time", lambda: 100.0)
    for times in ((99.99, 99.995), (99.0, 99.0), (50.0, 99.995), (50.5, 60.5), (200.5, 99.5)):
        let_clock_tick([tuple((key, str(int(at * 1e9))) for key, at in zip(("mtime", "ctime"), times, strict=True))])
    assert waits == pytest.approx([0.015, 1.0, 0.015, 0, 0], abs=1e-6)


def test_the_first_look_at_a_file_just_written_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(state.time, "sleep", waits.append)
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(2)))
    now = time.time()
    monkeypatch.setattr(state.time, "time", lambda: now)
    find_sources([str(tmp_path / "raw.jsonl")], "")
    assert 0 < waits[0] <= state.COARSE_TICK


@pytest.mark.parametrize("change", [b"other\n", b"longer than before\n"])
def test_a_source_behind_an_address_is_held_too(change: bytes) -> None:
    system = fsspec.filesystem("memory")
    system.pipe_file("/held/a.jsonl", b"first\n")
    (file,) = find_sources(["memory://held/a.jsonl"], "")
    check_unchanged([file])
    system.pipe_file("/held/a.jsonl", change)
    with pytest.raises(DataError, match="changed while"):
        check_unchanged([file])
    system.rm_file("/held/a.jsonl")
    with pytest.raises(DataError, match="taken away"):
        check_unchanged([file])


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder to which every user has a way: that of pytest is for its own user alone."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Be a user who has no right to what is not his, where the tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("in", "the folder in/sub cannot be listed: Permission denied"),
        ("in/**/*.jsonl", "the folder in/sub cannot be listed: Permission denied"),
        ("in/*/*.jsonl", "the folder in/sub cannot be listed: Permission denied"),
        ("in/sub", "the folder in/sub cannot be listed: Permission denied"),
        ("file://in", "in/sub cannot be listed: Permission denied"),
        ("in/locked.jsonl", "this file may not be read: locked.jsonl"),
        ("in/*.jsonl", "this file may not be read: locked.jsonl"),
    ],
)
def test_what_may_not_be_read_is_an_error_and_not_left_out(
    open_place: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    sub = open_place / "in" / "sub"
    sub.mkdir(parents=True)
    for place in (open_place / "in" / "a.jsonl", open_place / "in" / "locked.jsonl", sub / "b.jsonl"):
        place.write_bytes(lines(rows(3)))
    (open_place / "in" / "locked.jsonl").chmod(0)
    sub.chmod(0)
    monkeypatch.chdir(open_place)
    try:
        with bound_by_permissions(), pytest.raises(DataError, match=re.escape(told)) as caught:
            find_sources([source], ".")
    finally:
        sub.chmod(0o755)
    assert "ls -l" in (caught.value.hint or "")


def test_links_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    inside, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    (inside / "b").mkdir(parents=True)
    elsewhere.mkdir()
    for place in (inside / "b" / "b.jsonl", elsewhere / "c.jsonl"):
        place.write_bytes(lines(rows(3)))
    (inside / "a").symlink_to("b")
    (inside / "loop").symlink_to("..", target_is_directory=True)
    (inside / "b" / "self").symlink_to(".")
    (inside / "z").symlink_to(elsewhere)
    assert [file.name for file in find_sources([str(inside)], "")][:2] == [
        "b/b.jsonl",
        "loop/elsewhere/c.jsonl",
    ]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.symlink_to("nowhere.jsonl"), "a link that leads nowhere"),
        (lambda path: path.symlink_to(path.name), "a link that leads to itself"),
        (os.mkfifo, "is a pipe or device, not a file"),
    ],
)
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    make(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match=told):
        find_sources([str(tmp_path)], "")


def test_the_state_of_a_file_is_told_by_more_than_its_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert {key for key, _ in state_of(str(tmp_path / "a"), "a")} == {"size", "mtime", "ctime", "ino", "dev"}


@pytest.mark.parametrize(
    "pattern",
    [
        "**/*.jsonl", "in/**/*.jsonl", "in/**", "in/**/b/*.jsonl", "in/*/**/*.jsonl", "in/**/**/c.jsonl",
        "i*/**/?.jsonl", "in/**/.hidden/*", "in/*.jsonl", "in/a/*", "in/[ab]/*.jsonl", "nothing/**",
    ],
)  # fmt: skip
def test_a_glob_matches_what_a_shell_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.jsonl", "in/a/b.jsonl", "in/a/b/c.jsonl", "in/b/d.txt", "in/.hidden/e.jsonl", "in/.f.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for place in (pattern, f"{tmp_path}/{pattern}"):
        files = [name for name in matching(place) if Path(name).is_file()]
        expected = {str(Path(name)) for name in glob.glob(place, recursive=True) if Path(name).is_file()}  # noqa: PTH207
        assert files == sorted(expected)


def test_links_that_lead_round_are_followed_once_below_a_glob(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for place in (tmp_path / "x", tmp_path / "elsewhere"):
        (place / "a.jsonl").write_bytes(lines(rows(1)))
    for name in ("one", "two", "three"):  # 3 to the power of 40 paths
        (tmp_path / "x" / name).symlink_to("..")
    (tmp_path / "x" / "aside").symlink_to(tmp_path / "elsewhere")
    found = matching(f"{tmp_path}/x/**/*.jsonl")
    assert len(found) == 2
    assert {Path(name).resolve().parent.name for name in found} == {"x", "elsewhere"}
