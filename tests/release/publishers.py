"""Publishers that can be killed: processes with an environment of their own, each one run of `push`.

Run as a module it is their nursery: it imports everything once, then forks a publisher for each line on stdin, so
that a publisher starts in milliseconds. Which transport huggingface_hub takes is read from the environment at import.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

LONGEST_WAIT_S, READ_S = 0.02, 1.0
LARGEST_GET = 1_000
"""Bytes, so that the data of these small releases go and come as large files do."""


class Publisher:
    def __init__(self, nursery: Publishers, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self._code is None:
            self._code = self._nursery.ask({"poll": self.pid})
        return self._code

    def finished(self, within: float = 120) -> int:
        end = time.monotonic() + within
        while (code := self.poll()) is None:
            assert time.monotonic() < end, "the publisher hangs"
            time.sleep(0.01)
        return code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.finished() == -signal.SIGKILL


class Publishers:
    """A nursery in one mode, `lfs` or `xet`; everything its publishers remember is under `home`."""

    check = "load"
    """How they verify."""

    def __init__(self, mode: str, home: Path) -> None:
        self._home = home
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ, "HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "50ms", "HF_XET_CLIENT_READ_TIMEOUT": "2s", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        environment.pop("HF_HUB_DISABLE_XET")
        if mode == "lfs":
            environment["HF_HUB_DISABLE_XET"] = "1"
        self.errors = (home / "stderr.txt").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.release.publishers"], env=environment, cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )  # fmt: skip

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, folder: str, repo: str, version: str, *, at: float = 0.0, machine: str = "") -> Publisher:
        """Start `push` at a moment of the clock; publishers of one `machine` share what the Xet client keeps."""
        cache = str(self._home / "xet" / machine)
        job = {"folder": folder, "repo": repo, "version": version, "at": at, "cache": cache}
        pid = self.ask(job | {"check": self.check})
        return Publisher(self, pid)

    def close(self) -> None:
        self._process.communicate()
        self.errors.close()


def publish(job: dict[str, Any]) -> int:
    """Run one push and return the exit code of the command line."""
    from hubdpo import push
    from hubdpo.errors import HubdpoError

    faulthandler.dump_traceback_later(60)  # where it hangs, if it does
    os.environ["HF_XET_CACHE"] = job["cache"]  # read when the Xet client makes its session
    time.sleep(max(0.0, job["at"] - time.time()))
    try:
        push(folder=Path(job["folder"]), repo=job["repo"], version=job["version"], check=job["check"])
    except HubdpoError as problem:
        return problem.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def polled(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def nurse() -> None:
    import markdown_it  # noqa: F401
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    import safetensors.torch  # noqa: F401
    from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download  # noqa: F401

    import hubdpo.release.push  # noqa: F401
    from hubdpo.hub import repo, retry, transport
    from hubdpo.secrets import find_secrets

    find_secrets("what it imports is imported once")
    retry.LONGEST_WAIT_S, transport.READ_S = LONGEST_WAIT_S, READ_S
    repo.LARGEST_GET = LARGEST_GET
    transport.endpoint()
    for line in sys.stdin:
        job = json.loads(line)
        if "poll" in job:
            answer = polled(job["poll"])
        elif (answer := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(2, 1)
            code = publish(job)
            sys.stderr.flush()
            os._exit(code)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # torch takes a second to say goodbye


if __name__ == "__main__":
    nurse()
