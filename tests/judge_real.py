"""Let a real model judge a run, kill the evaluation in the middle, and see that nothing is lost or asked twice.

    python -m tests.judge_real RUN JUDGE.gguf --work FOLDER

The judge is served on this machine by llama.cpp, from the wheel `xllamacpp`, whose log counts what it was asked. The
folder gets a copy of the run, and is made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubdpo.evaluation.judge.ask import VERDICTS_FILE

ANSWERED = "stop processing"
"""What the log has for each request that was answered, or that was left by the client."""
SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], 0, ["127.0.0.1"]
params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = 8192, 2, False, 1
server = xllamacpp.Server(params)
print("listening at", server.listening_address, flush=True)
time.sleep(86400)
"""


@contextmanager
def served(gguf: Path, log: Path) -> Iterator[str]:
    """Serve a model, and return the address of its API."""
    with log.open("wb") as stream:
        server = subprocess.Popen([sys.executable, "-c", SERVE, str(gguf)], stdout=stream, stderr=subprocess.STDOUT)
    try:
        while not (lines := [line for line in log.read_text().splitlines() if line.startswith("listening at")]):
            if server.poll() is not None:
                raise SystemExit(f"the judge does not start: {log}")
            time.sleep(0.2)
        yield f"{lines[0].split()[-1]}/v1"
    finally:
        server.kill()


def lines_of(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=12)
    given = parser.parse_args()
    run, log = given.work / "run", given.work / "judge.log"
    shutil.rmtree(given.work, ignore_errors=True)
    shutil.copytree(given.run, run)
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    verdicts = run / "evaluation" / VERDICTS_FILE

    def asked() -> int:
        return log.read_text(errors="replace").count(ANSWERED)

    with served(given.gguf, log) as address:
        words = [
            sys.executable, "-m", "hubdpo", "evaluate", str(run), "--judge", address, "--judge-model", given.gguf.name,
            "--judge-requests", "2", "--judge-max-tokens", "48", "--max-answers", str(given.prompts),
            "--max-new-tokens", "40", "--max-pairs", "8", "--base-weights", "original", "--device", "cpu",
        ]  # fmt: skip
        with (given.work / "killed.log").open("wb") as stream:
            child = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
            while len(lines_of(verdicts)) < given.prompts:  # half of them
                if child.poll() is not None:
                    raise SystemExit(f"it ended before it could be killed: {stream.name}")
                time.sleep(0.1)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        time.sleep(5)  # the judge ends what is under way
        kept, before = lines_of(verdicts), asked()
        done = subprocess.run([*words, "--json"], stdout=subprocess.PIPE, check=True)
        after, report = lines_of(verdicts), json.loads(done.stdout)["judged"]
        resumed = asked()
        subprocess.run([*words, "--quiet"], stdout=subprocess.DEVNULL, check=True)
        again = asked() - resumed
    replies = sum(len(json.loads(line)["replies"]) for line in after[len(kept) :])
    keys = [json.loads(line)["key"] for line in after]
    sys.stdout.write(
        f"killed with {len(kept)} of {report['verdicts']} verdicts, after {before} requests\n"
        f"resumed with {resumed - before} requests: one to check, {replies} for {len(after) - len(kept)} verdicts\n"
        f"evaluated again with {again} request: the check\n{json.dumps(report, indent=2)}\n"
    )
    assert after[: len(kept)] == kept, "a verdict changed"
    assert len(set(keys)) == len(keys) == report["verdicts"], "a verdict was asked for twice"
    assert (resumed - before, again) == (1 + replies, 1), "the judge was asked more than it had to be"


if __name__ == "__main__":
    main()
