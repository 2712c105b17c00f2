"""What ends a command leaves no process and no temporary folder, and is told in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubdpo import prepare
from hubdpo.artefacts.folders.scratch import beside
from hubdpo.machine.refusals import AGAIN
from tests.data.made import lines, rows

RUN = """
import shutil, sys, time
import hubdpo.data.prepare.prepare as stage
from hubdpo.data.raw import pieces
pieces.PIECE_BYTES = 2000
def wait(*args, **options):
    print("waiting", flush=True)
    {wait}
stage.decide = wait
{more}
from hubdpo.cli.app import main
sys.argv[1:] = ["prepare", "raw.jsonl", "-o", "out", "--num-proc", "2"]
main()
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts prepare, with two workers, up to where it waits; it is the first of a process group of its own."""
    (tmp_path / "raw.jsonl").write_bytes(lines(rows(200)))
    (tmp_path / "tmp").mkdir()
    started: list[subprocess.Popen[str]] = []

    def run(*, wait: str = "time.sleep(60)", more: str = "", ignore: bool = False) -> subprocess.Popen[str]:
        def set_signals() -> None:
            # nohup and background jobs of a shell start with these ignored, and the command would ignore them too
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            if ignore:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        process = subprocess.Popen(
            [sys.executable, "-c", RUN.format(wait=wait, more=more)], cwd=tmp_path, text=True,
            env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=set_signals, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        return process

    yield run
    for process in started:
        if is_there(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def nothing_is_left(process: subprocess.Popen[str], folder: Path) -> bool:
    deadline = time.monotonic() + 20
    while is_there(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = sorted(path.name for path in folder.iterdir())
    return not is_there(process.pid) and names == ["raw.jsonl", "tmp"] and not list((folder / "tmp").iterdir())


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGINT, "stopped"), (signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGHUP, "stopped by SIGHUP"),
        (signal.SIGQUIT, "stopped by SIGQUIT"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the command", "to its workers as well"])
def test_a_signal_ends_the_command_in_one_line(
    tmp_path: Path, start: Start, number: signal.Signals, told: str, send: Callable[[int, int], None]
) -> None:
    process = start()
    send(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    lines = [line for line in said.splitlines() if line]  # an older Typer ends the line of `^C`
    assert [line for line in lines if not line.startswith(("detected", "  ", "nothing is claimed"))] == [
        f"error: {told}", "hint: run the same command again: nothing is left half-written",
    ]  # fmt: skip
    assert nothing_is_left(process, tmp_path)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_are_one(tmp_path: Path, start: Start, second: signal.Signals) -> None:
    process = start(more="rmtree, shutil.rmtree = shutil.rmtree, lambda *a, **o: (time.sleep(0.5), rmtree(*a, **o))")
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(second)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert process.returncode == 130
    assert nothing_is_left(process, tmp_path)


def test_a_second_ctrl_c_ends_what_takes_long_to_end_and_the_next_run_sweeps(tmp_path: Path, start: Start) -> None:
    process = start(more="shutil.rmtree = lambda *args, **options: time.sleep(60)")
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert "Traceback" not in said
    assert process.returncode == 130
    assert beside(tmp_path / "out").is_dir()
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out2")
    assert not beside(tmp_path / "out").exists()


def test_workers_end_with_a_parent_that_is_killed(start: Start) -> None:
    process = start()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while is_there(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path, start: Start) -> None:
    process = start(ignore=True)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert nothing_is_left(process, tmp_path)


def test_a_command_without_a_signal_leaves_the_handlers_as_they_were(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hubdpo.cli.app import main

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(sys, "argv", ["hubdpo", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert "hubdpo" in capsys.readouterr().out


STAGE = """
import sys, time, types
from hubdpo.cli.app import main
def wait(*args, **options):
    print("waiting", flush=True)
    time.sleep(60)
stage = types.ModuleType(sys.argv[1])
for name in sys.argv[2].split(","):
    setattr(stage, name, wait)
sys.modules[sys.argv[1]] = stage
sys.argv[1:] = sys.argv[3:]
main()
"""
GOES_ON = {
    "prepare": ("data.prepare.prepare prepare", "prepare raw.jsonl -o out", "nothing is left half-written"),
    "train": ("training.start train", "train --model-name-or-path b --dataset me/d -o out", ""),
    "sweep": ("training.sweep.sweep sweep", "sweep --model-name-or-path b --dataset me/d -o out --beta 0.1 0.2", ""),
    "adopt": ("adoption.adopt adopt", "adopt me/a --base b -o out", "nothing is left half-written"),
    "evaluate": ("evaluation.evaluate evaluate_into_folder", "evaluate me/run", "it goes on from what is kept"),
    "push": ("release.push publish_folder", "push . me/x --version 1.0.0", "it finishes the release and reports its"),
    "verify": ("release.verify.verify verify", "verify me/x@v1.0.0", "files that were downloaded are kept"),
    "versions": ("release.list releases", "versions me/x", ""),
    "diff": ("release.diff.diff diff", "diff me/x me/y", "files that were downloaded are kept"),
    "inspect": ("release.inspect inspect", "inspect me/x", "files that were downloaded are kept"),
    "merge": ("model.merge.merge merge", "merge me/run -o out", "nothing is left half-written"),
    "export": ("model.export.export export", "export me/run --gguf -o out.gguf", "nothing is left half-written"),
    "load": ("model.adapters.load load_adapter,answer", "load me/x", "files that were downloaded are kept"),
    "demo": ("demo.road run", "demo -o out", "it starts over in the same folder"),
}  # fmt: skip
ENDS = {"view", "serve-hub", "doctor"}
"""Commands that nobody goes on with."""


def test_every_command_says_how_to_go_on_or_has_nothing_to() -> None:
    from hubdpo.cli.app import app

    assert {command.name for command in app.registered_commands} == {*GOES_ON, *ENDS}


@pytest.mark.parametrize("command", GOES_ON)
def test_ctrl_c_says_how_to_go_on_and_leaves_nothing(command: str, tmp_path: Path) -> None:
    stage, words, hint = GOES_ON[command]
    module, names = stage.split()
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE, f"hubdpo.{module}", names, *words.split()], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "waiting\n", process.communicate()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    first, second = said.splitlines()[-2:]
    assert (first, second[: len(AGAIN) + 6]) == ("error: stopped", f"hint: {AGAIN}")
    assert hint in second
    assert not [*tmp_path.iterdir()]
