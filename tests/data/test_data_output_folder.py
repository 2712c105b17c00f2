"""The output folder: absent or complete after a kill at any moment, wherever it lies, and one process at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.artefacts.folders import publication
from hubdpo.artefacts.folders.kinds import read_dataset_folder
from hubdpo.artefacts.folders.scratch import LOCK, SCRATCH, beside, inside
from hubdpo.artefacts.folders.workspace import workspace
from hubdpo.artefacts.manifests.manifest import MERGE_FILE, PREPARE_FILE
from hubdpo.data.prepare import prepare as stage
from hubdpo.errors import ArtefactError, ConfigError, HubdpoError, MachineError
from tests.data.made import contents, lines, rows


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a source and what it is made into."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(40)) + b"broken\n")
    prepare(source="raw.jsonl", output_dir="expected")
    return tmp_path


def is_made(folder: Path) -> bool:
    return contents(folder) == contents(folder.with_name("expected"))


def is_mounted(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system treat a folder as a mount point: it cannot be renamed, and nothing is renamed into it."""
    rename = os.rename

    def guarded(source: Any, place: Any) -> None:
        ends = [Path(os.path.realpath(end)) for end in (source, place)]
        if target in ends:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(source))
        if ends[0].is_relative_to(target) != ends[1].is_relative_to(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        rename(source, place)

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, guarded)


def test_a_mount_point_is_written_into_and_written_anew(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "out").mkdir()
    is_mounted(work / "out", monkeypatch)
    with pytest.raises(OSError, match="busy"):
        (work / "out").rename(work / "other")
    for seed in (3, 0):
        prepare(source="raw.jsonl", output_dir="out", seed=seed)
    assert is_made(work / "out")


def test_the_current_folder_stays_the_current_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "out").mkdir()
    monkeypatch.chdir(work / "out")
    for seed in (3, 0):
        prepare(source="../raw.jsonl", output_dir=".", seed=seed)
    assert Path(PREPARE_FILE).is_file()
    assert is_made(work / "out")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(work: Path, there: bool) -> None:
    if there:
        (work / "disk" / "out").mkdir(parents=True)
    (work / "link").symlink_to("disk/out", target_is_directory=True)
    prepare(source="raw.jsonl", output_dir="link")
    assert (work / "link").is_symlink()
    assert contents(work / "disk" / "out") == contents(work / "expected")
    assert [path.name for path in (work / "disk").iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.symlink_to(path.name), "is a link that leads to itself"),
        (lambda path: path.touch(), "is a file"),
        (lambda path: path.symlink_to("raw.jsonl"), "is a file"),
        (lambda path: (path / "notes").mkdir(parents=True), "not a dataset"),
        (lambda path: beside(path).symlink_to("expected"), "was not created by hubdpo"),
    ],
)
def test_what_is_no_place_for_a_dataset_is_refused_before_any_work(
    work: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], told: str
) -> None:
    make(work / "out")
    before = contents(work)
    monkeypatch.setattr(stage, "find_described", None)
    with pytest.raises(HubdpoError, match=told) as caught:
        prepare(source="raw.jsonl", output_dir="out")
    assert caught.value.hint
    assert contents(work) == before


def test_an_empty_folder_that_is_there_is_left_so_by_a_failure(work: Path) -> None:
    (work / "out").mkdir()
    (work / "empty.jsonl").touch()
    with pytest.raises(HubdpoError, match="empty"):
        prepare(source="empty.jsonl", output_dir="out")
    assert list((work / "out").iterdir()) == []


# locks

HOLD = "import sys, time\nfrom hubdpo.artefacts.folders.workspace import workspace\n" \
    "with workspace(sys.argv[1]) as space:\n    print('held', flush=True)\n    time.sleep(60)"  # fmt: skip


@pytest.fixture
def holder(work: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that works on `out`; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLD, "out"], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("there", [True, False])
def test_of_two_writers_one_is_told(
    work: Path, holder: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        (work / "out").mkdir()
    holder()
    monkeypatch.setattr(stage, "find_described", None)
    with pytest.raises(ConfigError, match="another process is writing `.*out`") as caught:
        prepare(source="raw.jsonl", output_dir="out")
    assert caught.value.exit_code == 2


def test_a_folder_made_while_another_makes_it_is_not_shared(work: Path, holder: Callable[[], Any]) -> None:
    holder()
    (work / "out").mkdir()
    with pytest.raises(ConfigError, match="another process"):
        prepare(source="raw.jsonl", output_dir="out")


def test_other_folders_of_the_same_place_are_free_meanwhile(work: Path, holder: Callable[[], Any]) -> None:
    holder()
    prepare(source="raw.jsonl", output_dir="out2")
    assert is_made(work / "out2")
    assert beside(work / "out").is_dir()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["out", "out2"])
def test_what_a_kill_left_is_swept(work: Path, holder: Callable[[], Any], there: bool, name: str) -> None:
    if there:
        (work / "out").mkdir()
    process = holder()
    process.kill()
    process.wait()
    left = inside(work / "out") if there else beside(work / "out")
    assert (left / LOCK).is_file()
    prepare(source="raw.jsonl", output_dir=name)
    assert is_made(work / name)
    assert not (left.exists() and not (there and name == "out2"))  # what lies in another target is its own matter


def test_a_worker_that_outlives_its_parent_holds_nothing(work: Path) -> None:
    code = HOLD.replace("print('held'", "if not os.fork(): print(os.getpid()")  # once the child has let go
    code = code.replace("import sys", "import os, sys")
    process = subprocess.Popen([sys.executable, "-c", code, "out"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        prepare(source="raw.jsonl", output_dir="out")
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()
    assert is_made(work / "out")


def test_a_disk_without_locks_is_told(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    prepare(source="raw.jsonl", output_dir="out")
    assert is_made(work / "out")
    assert "has no locks" in capsys.readouterr().err


def test_on_a_disk_without_locks_the_scratch_folder_of_another_is_left(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    of_another = beside(work / "other")
    of_another.mkdir()
    (of_another / LOCK).touch()
    prepare(source="raw.jsonl", output_dir="out")
    assert of_another.is_dir()


# publication


def plant(folder: Path, plan: str | None = None) -> Path:
    """Make a scratch folder as it comes with a copy of a folder from elsewhere; `HERE` is the number it would need."""
    scratch = inside(folder)
    (scratch / "new").mkdir(parents=True)
    (scratch / "old").mkdir()
    if plan is not None:
        (scratch / "plan.json").write_text(plan.replace("HERE", str(scratch.stat().st_ino)))
    return scratch


def all_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != LOCK}


@pytest.mark.parametrize(
    "plan",
    [
        '{"old": [], "new": ["../stolen"], "folder": 7}', '{"old": ["../raw.jsonl"], "new": []}',
        '{"old": ["thesis.txt"], "new": []}', '{"old": [".hubdpo-tmp"], "new": [], "folder": "HERE"}', "[]",
        "[" * 9999, "",
    ],
)  # fmt: skip
def test_a_plan_that_came_with_the_folder_moves_nothing(work: Path, plan: str) -> None:
    scratch = plant(work / "out", plan)
    (scratch / "stolen").touch()
    (work / "out" / "thesis.txt").write_text("years of work")
    before = all_below(work)
    with pytest.raises(ArtefactError, match=r"copied from elsewhere"):
        prepare(source="raw.jsonl", output_dir="out")
    assert all_below(work) == before


@pytest.mark.parametrize("name", ["old", "new", "plan.json"])
def test_no_link_of_a_scratch_folder_is_followed(work: Path, name: str) -> None:
    victim, elsewhere = work / "victim", work / "elsewhere.json"
    victim.mkdir()
    (victim / "key").touch()
    scratch = plant(work / "out", '{"old": [], "new": ["key"], "folder": HERE}')
    if name == "plan.json":
        (scratch / name).rename(elsewhere)
        (scratch / name).symlink_to(elsewhere)
    else:
        (scratch / name).rmdir()
        (scratch / name).symlink_to(victim)
    with pytest.raises(ArtefactError, match="copied from elsewhere"):
        prepare(source="raw.jsonl", output_dir="out")
    assert (victim / "key").exists()


def test_a_pipe_in_place_of_a_plan_is_not_waited_for(work: Path) -> None:
    os.mkfifo(plant(work / "out") / "plan.json")
    with pytest.raises(ArtefactError, match="copied from elsewhere"):
        prepare(source="raw.jsonl", output_dir="out")


def test_a_link_without_a_plan_is_removed_and_not_what_it_leads_to(work: Path) -> None:
    scratch = plant(work / "out")
    (work / "victim").mkdir()
    (scratch / "new").rmdir()
    (scratch / "new").symlink_to(work / "victim")
    prepare(source="raw.jsonl", output_dir="out")
    assert is_made(work / "out")
    assert (work / "victim").is_dir()


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_lock_that_is_no_file_of_ours_is_refused(work: Path, kind: str) -> None:
    lock = plant(work / "out") / LOCK
    lock.mkdir() if kind == "folder" else lock.symlink_to(work / "made")
    with pytest.raises(ConfigError, match="not created by hubdpo"):
        prepare(source="raw.jsonl", output_dir="out")
    assert not (work / "made").exists()


def test_a_file_made_after_a_kill_is_not_replaced_by_the_run_that_finishes(work: Path) -> None:
    scratch = plant(work / "out", '{"old": [], "new": ["README.md"], "folder": HERE}')
    (scratch / "new" / "README.md").write_text("made")
    (work / "out" / "README.md").write_text("my own notes")
    with pytest.raises(ArtefactError, match=r"README\.md` has appeared in the meantime"):
        prepare(source="raw.jsonl", output_dir="out")
    assert (work / "out" / "README.md").read_text() == "my own notes"
    assert (scratch / "new" / "README.md").read_text() == "made"


def test_what_was_held_beside_a_target_that_came_into_being_goes_away(work: Path) -> None:
    (work / "out").mkdir()
    beside(work / "out").mkdir()
    prepare(source="raw.jsonl", output_dir="out")
    assert is_made(work / "out")
    assert not beside(work / "out").exists()


class Killed(BaseException):
    """As if the process ended here: nothing of ours runs."""


def test_after_a_kill_at_any_move_the_folder_is_whole_or_no_dataset_and_the_next_run_finishes_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(source="raw.jsonl", output_dir="old", seed=3, test_size=0)
    move, kills = publication._move, 0
    for stop in range(99):
        target, scratch = work / f"out{stop}", inside(work / f"out{stop}")
        for origin, place in ((work / "old", target), (work / "expected", scratch / "new")):
            place.mkdir(parents=True)
            for name, data in contents(origin).items():
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_bytes(data)
        moves = iter(range(stop))

        def some(source: Path, place: Path, moves: Iterator[int] = moves) -> None:
            if next(moves, None) is None:
                raise Killed
            move(source, place)

        before = [path.name for path in (work / "old").iterdir()]
        monkeypatch.setattr(publication, "_move", some)
        try:
            publication.put_in_place(scratch, target, before, PREPARE_FILE)
        except Killed:
            kills += 1
            found = {name: data for name, data in contents(target).items() if not name.startswith(SCRATCH)}
            assert PREPARE_FILE not in found or found in (contents(work / "old"), contents(work / "expected"))
        else:
            break
        finally:
            monkeypatch.setattr(publication, "_move", move)
        manifest = prepare(source="raw.jsonl", output_dir=str(target))
        assert manifest is not None
        assert is_made(target)
    assert kills > 6


def test_what_cannot_be_moved_is_moved_back(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(source="raw.jsonl", output_dir="out")
    move = publication._move

    def refuse(source: Path, place: Path) -> None:
        if source.parent.name == "new" and place == work / "out" / "data":
            raise OSError(errno.EACCES, "Permission denied")
        move(source, place)

    monkeypatch.setattr(publication, "_move", refuse)
    with pytest.raises(OSError, match="denied"):
        prepare(source="raw.jsonl", output_dir="out", seed=3)
    assert is_made(work / "out")


def test_a_stop_in_the_midst_of_the_moves_waits_for_the_last(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move, seen = publication._move, []

    def interrupted(source: Path, place: Path) -> None:
        seen.append(source)
        move(source, place)
        if len(seen) == 2:
            raise KeyboardInterrupt

    (work / "out").mkdir()
    monkeypatch.setattr(publication, "_move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source="raw.jsonl", output_dir="out")
    assert is_made(work / "out")


@pytest.mark.parametrize("there", [True, False])
def test_what_came_into_being_meanwhile_is_not_replaced(work: Path, there: bool) -> None:
    if there:
        (work / "out").mkdir()
    with pytest.raises(ArtefactError, match="has appeared"), workspace("out", last=MERGE_FILE) as space:
        (work / "out").mkdir(exist_ok=True)
        (work / "out" / MERGE_FILE).write_text("mine")
        (Path(space.new) / MERGE_FILE).write_text("ours")
        space.publish()
    assert contents(work / "out") == {MERGE_FILE: b"mine"}


def test_a_dataset_is_read_while_its_folder_is_written_anew(work: Path) -> None:
    prepare(source="raw.jsonl", output_dir="out")
    with workspace("out") as space:
        (Path(space.new) / "data").mkdir()
        (Path(space.new) / "data" / "train-00000-of-00001.parquet").touch()
        assert read_dataset_folder(work / "out")
        assert json.loads((work / "out" / PREPARE_FILE).read_text())
        assert (work / "out" / SCRATCH).is_dir()
    assert is_made(work / "out")


MOMENTS = ["make_rules", "second_round", "decide", "check_sources", "write_rejected", "write_folder"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_scratch_folder_that_is_removed_midway_is_one_error(
    work: Path, monkeypatch: pytest.MonkeyPatch, moment: str, there: bool
) -> None:
    if there:
        (work / "out").mkdir()
    scratch = inside(work / "out") if there else beside(work / "out")
    do = getattr(stage, moment)

    def remove_and_do(*given: Any, **named: Any) -> Any:
        shutil.rmtree(scratch)
        return do(*given, **named)

    monkeypatch.setattr(stage, moment, remove_and_do)
    with pytest.raises(MachineError) as caught:
        prepare(source="raw.jsonl", output_dir="out")
    said = f"the scratch folder of `{work / 'out'}` was removed while it was in use"
    assert (caught.value.message, caught.value.exit_code) == (said, 9)
    assert caught.value.hint == "run the same command again"
    assert not scratch.exists() and (work / "out").exists() == there
    monkeypatch.setattr(stage, moment, do)
    prepare(source="raw.jsonl", output_dir="out")
    assert is_made(work / "out")


def test_the_scratch_folder_that_another_process_made_anew_is_left_to_it(work: Path) -> None:
    scratch = beside(work / "out")
    with pytest.raises(MachineError, match="was removed"), workspace("out") as space:
        shutil.rmtree(scratch)
        for name in ("work", "new"):
            (scratch / name).mkdir(parents=True)
        (scratch / LOCK).touch()
        space.publish()
    assert not (work / "out").exists() and sorted(path.name for path in scratch.iterdir()) == [LOCK, "new", "work"]


def test_a_bug_keeps_its_traceback_whatever_became_of_the_scratch_folder(work: Path) -> None:
    with pytest.raises(KeyError), workspace("out") as space:
        shutil.rmtree(beside(work / "out"))
        raise KeyError(space.new)


@pytest.mark.parametrize(
    "source",
    ["expected", ".", "file://{}/expected/data/*", "link"],
    ids=["itself", "the folder above", "an address", "a link"],
)
def test_an_output_folder_that_holds_a_source_is_refused(work: Path, source: str) -> None:
    (work / "link").symlink_to("expected")
    before = contents(work / "expected")
    with pytest.raises(ConfigError, match="`expected` is both source and output: it holds .*parquet"):
        prepare(source=source.format(work), output_dir="expected", pairs="all")
    assert contents(work / "expected") == before
