"""Worker processes: what is sent to them pickles, and whatever goes wrong is one error in seconds, none left."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import pickle
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubdpo import errors, prepare
from hubdpo.config import PrepareConfig
from hubdpo.data.converters import CONVERTERS
from hubdpo.data.prepare import looks, rules, workers
from hubdpo.data.prepare.convert_piece import Task
from hubdpo.data.prepare.described import described_sources
from hubdpo.data.prepare.workers import RayEngine, engine_for
from hubdpo.data.raw import pieces
from hubdpo.data.raw.pieces import cut
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.errors import ConfigError, DataError, MachineError
from tests.data.made import lines, rows

CHOICES = [
    {"pairs": pairs, "labels": labels, "score_field": field}
    for pairs, labels, field in itertools.product(
        ("best-worst", "all", "adjacent"), (None, "first=1,second=2"), (None, "a")
    )
]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while multiprocessing.active_children():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", [*CONVERTERS, "columns"])
def test_what_is_sent_to_workers_pickles(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "check_converter", lambda *_: None)
    (tmp_path / "raw.jsonl").write_bytes(lines([{**row, "a": 1} for row in rows(3)]))  # a score, for `--score-field a`
    pieces = cut(RawFile(str(tmp_path / "raw.jsonl"), "raw.jsonl", str(tmp_path / "raw.jsonl")))
    mapped = {"map": "prompt=prompt,chosen=chosen,rejected=rejected"} if name == "columns" else {}
    for options in CHOICES:
        config = PrepareConfig(source=["raw.jsonl"], output_dir="out", converter=name, **mapped, **options)
        files = looks.look_at_files(config, described_sources(config), pieces)
        task = Task(0, pieces[0], *rules.make_rules(config, files, pieces, None, str(tmp_path)))
        assert pickle.loads(pickle.dumps(task)).rules.config == config


ERRORS = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.HubdpoError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_our_errors_come_back_from_workers_whole(kind: type[errors.HubdpoError]) -> None:
    problem = pickle.loads(pickle.dumps(kind("no `x`", hint="--y")))
    assert (type(problem), problem.message, problem.hint) == (kind, "no `x`", "--y")


def test_named_columns_are_read_by_several_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 2000)
    values = [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in rows(200)]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    manifest = prepare(
        source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", map="prompt=q,chosen=good,rejected=bad",
        num_proc=2,
    )  # fmt: skip
    assert manifest is not None
    assert manifest.funnel.kept == 200


def doubled_by_an_engine(numbers: list[int]) -> list[int]:
    with engine_for("local", 2) as engine:
        return list(engine.map(double, numbers))


def double(number: int) -> int:
    return 2 * number


def test_a_process_that_may_start_none_works_alone() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(doubled_by_an_engine, ([1, 2, 3],)) == [2, 4, 6]


def killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_is_one_error_in_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(MachineError, match="killed by SIGKILL") as caught, engine_for("local", 2) as engine:
        list(engine.map(killed, list(range(100))))
    assert time.monotonic() - began < 10
    assert (caught.value.hint, caught.value.exit_code) == ("--num-proc 1", 9)


def test_a_worker_killed_between_tasks_is_the_same_error() -> None:
    with pytest.raises(MachineError, match="killed by SIGKILL"), engine_for("local", 2) as engine:
        list(engine.map(abs, [1, 2]))
        last = max(process.pid or 0 for process in multiprocessing.active_children())
        os.kill(last, signal.SIGKILL)
        list(engine.map(slow, [0.1] * 9))


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def stopped(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def test_a_worker_that_is_stopped_is_told_and_then_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "LOOKS_EVERY", 0.02)
    with pytest.raises(MachineError, match="stopped") as caught, engine_for("local", 2) as engine:
        list(engine.map(stopped, list(range(100))))
    (process,) = re.findall(r"worker process (\d+) is stopped \(SIGSTOP\)", caught.value.message)
    assert "--num-proc 1" in (caught.value.hint or "")
    assert capsys.readouterr().err.count(f"kill -CONT {process}") == 1


def test_a_worker_that_goes_on_again_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOKS_EVERY", 0.05)

    def wake(line: str) -> None:
        os.kill(int(re.findall(r"kill -CONT (\d+)", line)[0]), signal.SIGCONT)

    monkeypatch.setattr(workers.console, "warn", wake)
    with engine_for("local", 2) as engine:
        assert list(engine.map(stopped, list(range(100)))) == list(range(100))


def test_a_worker_that_works_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOKS_EVERY", 0.001)
    with engine_for("local", 2) as engine:
        assert list(engine.map(slow, [0.5, 0.5])) == [0.5, 0.5]


def test_a_worker_that_is_stopped_when_all_is_done_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ENDS_IN", 0.5)
    with engine_for("local", 2) as engine:
        list(engine.map(abs, [1, 2]))
        os.kill(max(process.pid or 0 for process in multiprocessing.active_children()), signal.SIGSTOP)


def test_what_does_not_pickle_is_raised_where_it_is_sent() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)), engine_for("local", 2) as engine:
        engine.map(lambda number: number, [1, 2, 3])


@pytest.mark.parametrize("problem", [KeyboardInterrupt, DataError("x")])
def test_after_an_error_no_task_is_waited_for(problem: Any) -> None:
    began = time.monotonic()
    with pytest.raises((KeyboardInterrupt, DataError)), engine_for("local", 2) as engine:
        engine.map(slow, [60.0, 60.0])
        raise problem
    assert time.monotonic() - began < 10


def test_workers_that_cannot_start_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, calls = os.fork, itertools.count()

    def some() -> int:
        if next(calls) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", some)
    with pytest.raises(MachineError, match="cannot start 3.*unavailable") as caught, engine_for("local", 3) as engine:
        engine.map(abs, [1, 2, 3])
    assert caught.value.hint == "--num-proc 1"


def test_workers_that_have_no_room_for_their_locks_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", full)
    with (
        pytest.raises(MachineError, match="cannot start 3.*the disk is full; free now: .* at `/dev/shm`") as caught,
        engine_for("local", 3) as engine,
    ):
        engine.map(abs, [1, 2, 3])
    assert caught.value.hint == "--num-proc 1"


def test_a_cluster_that_does_not_answer_is_one_error_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1 does not answer"):
        RayEngine(2)
    assert time.monotonic() - began < 10
