"""torchrun as `--num-processes` starts it: it and its processes end with the process that asked, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = """
import sys
from hubdpo.cli.signals import signals_unwind
from hubdpo.training.processes import _run
with signals_unwind():
    options = ["--standalone", "--nproc-per-node=2", "--log-dir=logs"]
    _run([sys.executable, "-m", "hubdpo.training.agent", *options, "w.py"])
"""
WORK = """
import os, pathlib, time
pathlib.Path(f"rank-{os.environ['RANK']}").write_text(f"{os.getpid()} {os.getppid()}")
time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "w.py").write_text(WORK)
    process = subprocess.Popen([sys.executable, "-c", RUN], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("rank-*"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.3)
    left = {int(number) for place in tmp_path.glob("rank-*") for number in place.read_text().split()}
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (128 + number if number is signal.SIGTERM else -number)
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{each}").exists() if Path("/proc").exists() else is_there(each) for each in left):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
